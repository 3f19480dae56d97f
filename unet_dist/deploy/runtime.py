"""Deployed models as functions of images: ONNX Runtime, OpenVINO."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unet_dist.deploy.model_file import INPUT, Metadata
from unet_dist.deploy.untrusted import read_onnx_bytes
from unet_dist.errors import UserError

Runtime = Literal["onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")
Hint = Literal["f32", "bf16"]
SIGNED = (
    "has activations of 8 bits with a sign (s8, for Ascend cards), which OpenVINO computes wrongly "
    "where a convolution reads a concatenation: take onnxruntime, or quantize with --activations u8"
)
"""OpenVINO 2026.4: a convolution of a concatenation of s8 is wrong by 0.4 of its largest value, by
AVX2, AVX-512 and VNNI alike; the same of u8 is right to the last bit."""


class Session(Protocol):
    """A model that some program holds ready."""

    def run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output."""


class DeployedNetwork:
    """A deployed model that is called as the run's network is (``evaluate.predictor.Network``)."""

    def __init__(self, session: Session, metadata: Metadata) -> None:
        self._session = session
        self._metadata = metadata

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        y_nkhw = self._session.run(as_input(image_nchw, self._metadata))
        if self._metadata.output == "logits":
            return _probabilities(y_nkhw)
        return y_nkhw


def as_input(image_nchw: NDArray[np.float32], metadata: Metadata) -> NDArray[np.float32]:
    """What the model takes of images 0..1: these, or normalised as ``forward.Member`` does."""
    if metadata.normalises:
        return image_nchw
    factor_c11 = 1 / np.array(metadata.std, np.float32)[:, None, None]
    shift_c11 = np.array(metadata.mean, np.float32)[:, None, None] * factor_c11
    return np.asarray(image_nchw * factor_c11 - shift_c11, np.float32)


def _probabilities(logits_nkhw: NDArray[np.float32]) -> NDArray[np.float32]:
    if logits_nkhw.shape[1] == 1:
        # exp of the negative size alone, which cannot overflow.
        small = np.exp(-np.abs(logits_nkhw))
        return np.asarray(np.where(logits_nkhw >= 0, 1, small) / (1 + small), np.float32)
    odds = np.exp(logits_nkhw - logits_nkhw.max(axis=1, keepdims=True))
    share: NDArray[np.float32] = odds / odds.sum(axis=1, keepdims=True)
    return share


class OnnxRuntimeSession:
    """By ONNX Runtime on the CPU."""

    def __init__(self, model: bytes, *, threads: int = 0) -> None:
        """
        Args:
            threads: 0 for all cores.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._output = self._session.get_outputs()[0].name

    def run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.run_all(x_nchw, [])[0]

    def run_all(
        self, x_nchw: NDArray[np.float32], others: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """The first output, and those others."""
        found = self._session.run([self._output, *others], {INPUT: np.ascontiguousarray(x_nchw)})
        return [np.asarray(one, np.float32) for one in found]


@functools.cache
def _core() -> Any:
    """One for the whole process: it gives the thread a stack for signals, and several leave it one
    that is freed already, on which the next Ctrl-C ends by SIGSEGV (OpenVINO 2026.4)."""
    import openvino

    return openvino.Core()


class OpenVinoSession:
    """By OpenVINO on the CPU; compiled anew for each shape, for which it is faster."""

    def __init__(self, model: bytes, *, threads: int = 0, hint: Hint = "f32") -> None:
        """
        Args:
            threads: 0 for all cores.
            hint: precision of what is not quantised; OpenVINO's own default is bf16 where the CPU
                has it.

        Raises:
            UserError: it would compute something else than the model.
        """
        import onnx

        from unet_dist.deploy.functions import inlined
        from unet_dist.deploy.qdq import has_signed_activations

        self._core = _core()
        written_out = inlined(onnx.load_from_string(model))  # OpenVINO knows no functions
        if has_signed_activations(written_out):
            raise UserError("the model", SIGNED)
        self._model_bytes = written_out.SerializeToString()
        self._core.read_model(self._model_bytes)  # refuses a file now, not at the first image
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._shape: tuple[int, ...] = ()
        self._compiled: Any = None

    def run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        if x_nchw.shape != self._shape:
            model = self._core.read_model(self._model_bytes)
            model.reshape({INPUT: list(x_nchw.shape)})
            self._compiled = self._core.compile_model(model, "CPU", self._settings)
            self._shape = x_nchw.shape
        # A copy: the next call writes into the same memory.
        return np.array(self._compiled(np.ascontiguousarray(x_nchw))[0], np.float32)

    def executed_precisions(self) -> dict[str, int]:
        """Of the convolutions that were run: how many in which precision."""
        counts: dict[str, int] = {}
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            if str(info["layerType"].astype(str)) in ("Convolution", "Deconvolution"):
                precision = str(info["runtimePrecision"].astype(str))
                counts[precision] = counts.get(precision, 0) + 1
        return counts


def session_of(model: bytes, runtime: Runtime, *, threads: int = 0, hint: Hint = "f32") -> Session:
    """
    Args:
        threads: 0 for all cores.
        hint: OpenVINO's precision of what is not quantised.
    """
    if runtime == "openvino":
        return OpenVinoSession(model, threads=threads, hint=hint)
    return OnnxRuntimeSession(model, threads=threads)


def open_network(
    path: Path, metadata: Metadata, runtime: Runtime, *, threads: int = 0, hint: Hint = "f32"
) -> DeployedNetwork:
    """
    Raises:
        UserError: the runtime is not installed, or the file is refused by it or by us.
    """
    content = read_onnx_bytes(path)
    try:
        session = session_of(content, runtime, threads=threads, hint=hint)
    except UserError as error:
        raise UserError(str(path), error.faults) from error
    except ImportError as error:
        raise UserError(
            "--runtime", f"{runtime} is not installed: pip install 'unet-dist[deploy]'"
        ) from error
    except Exception as error:  # their classes of errors come from C++
        raise UserError(str(path), f"{runtime} refuses it: {str(error).splitlines()[0]}") from error
    return DeployedNetwork(session, metadata)

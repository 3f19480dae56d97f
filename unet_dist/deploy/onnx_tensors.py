"""What flows through an ONNX file: its outputs, and any tensor inside it, by ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from unet_dist.deploy.functions import inlined
from unet_dist.deploy.untrusted import read_onnx
from unet_dist.errors import UserError

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Layer:
    """A node that computes, and the tensor that it gives."""

    op: str
    tensor: str


class OnnxTensors:
    """One file, with a session for the tensors that are asked for."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: it is no ONNX file, or one of those that are not read.
        """
        self._path = path
        # Layers that are functions are written out, or none of them would be found.
        self.model = inlined(read_onnx(path))
        self.input = self.model.graph.input[0].name
        self.output = self.model.graph.output[0].name
        self._sessions: dict[tuple[str, ...], onnxruntime.InferenceSession] = {}

    def layers(self, ops: Sequence[str]) -> list[Layer]:
        """The nodes of these operators, in the order of the file, which is one of execution."""
        nodes = self.model.graph.node
        return [Layer(node.op_type, node.output[0]) for node in nodes if node.op_type in ops]

    def run(self, x_nchw: NDArray[np.float32], tensors: Sequence[str]) -> Tensors:
        """
        Raises:
            UserError: ONNX Runtime refuses the file.
        """
        session = self._session(tuple(tensors))
        values = session.run(list(tensors), {self.input: np.ascontiguousarray(x_nchw)})
        return {
            name: np.asarray(value, np.float32) for name, value in zip(tensors, values, strict=True)
        }

    def _session(self, tensors: tuple[str, ...]) -> onnxruntime.InferenceSession:
        if tensors not in self._sessions:
            wider = onnx.ModelProto()
            wider.CopyFrom(self.model)
            known = {value.name for value in wider.graph.output}
            # ONNX Runtime infers the types of outputs that tell only their names.
            wider.graph.output.extend(
                onnx.ValueInfoProto(name=name) for name in tensors if name not in known
            )
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            try:
                self._sessions[tensors] = onnxruntime.InferenceSession(
                    wider.SerializeToString(), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:
                reason = str(error).splitlines()[0]
                raise UserError(str(self._path), f"ONNX Runtime refuses it: {reason}") from error
        return self._sessions[tensors]

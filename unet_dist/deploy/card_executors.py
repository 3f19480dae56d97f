"""Runs a converted file on an Ascend card, by pyACL or by MindSpore Lite. Not yet on hardware.

Documents: "pyACL API Reference" of CANN (8.0, aclpythondevg), "mindspore_lite.Model" of MindSpore
Lite (2.10).
"""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.deploy.ascend_commands import Converted
from unet_dist.errors import UserError

HUGE_FIRST = 0
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
"""``ACL_MEM_MALLOC_HUGE_FIRST``, ``ACL_MEMCPY_HOST_TO_DEVICE``, ``ACL_MEMCPY_DEVICE_TO_HOST``."""
TYPES = {0: np.float32, 1: np.float16, 4: np.uint8}
"""``aclDataType`` of the outputs that our models have."""
PROFILE_INPUT = "ascend_mbatch_shape_data"
"""Fixed name of the input by which atc's profiles are chosen."""


class AclError(UserError):
    """A call of pyACL failed: the card's logs tell more than its number does."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"acl.{call}", f"failed with {code}: the reason stands in ~/ascend/log")


@dataclass(frozen=True, kw_only=True)
class _Buffer:
    address: int
    size: int


class AclExecutor:
    """One loaded model with its memory on the card."""

    def __init__(
        self, acl: Any, model: int, description: int, converted: Converted, freed: ExitStack
    ) -> None:
        """
        Args:
            freed: is told of all that is taken here.
        """
        self._acl = acl
        self._model = model
        self._description = description
        self._converted = converted
        self._freed = freed
        mdl = acl.mdl
        self._inputs, self._input_set = self._allocate(
            mdl.get_num_inputs(description), mdl.get_input_size_by_index
        )
        self._outputs, self._output_set = self._allocate(
            mdl.get_num_outputs(description), mdl.get_output_size_by_index
        )
        code = mdl.get_output_data_type(description, 0)
        if code not in TYPES:
            raise UserError(converted.file, f"its output has the type {code} of pyACL, no float")
        self._type = TYPES[code]

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        acl, first = self._acl, self._inputs[0]
        self._choose_profile(batch)
        sent = batch.tobytes()
        is_static = not (self._converted.dynamic_batch or self._converted.dynamic_sizes)
        if len(sent) > first.size or (is_static and len(sent) != first.size):
            raise UserError(
                self._converted.file, f"takes {first.size} bytes of input, not {len(sent)}"
            )
        _check(
            "rt.memcpy",
            acl.rt.memcpy(
                first.address, first.size, acl.util.bytes_to_ptr(sent), len(sent), HOST_TO_DEVICE
            ),
        )
        ended = acl.mdl.execute(self._model, self._input_set, self._output_set)
        _check("mdl.execute", ended)
        dims, code = acl.mdl.get_cur_output_dims(self._description, 0)
        _check("mdl.get_cur_output_dims", code)
        return self._fetch(tuple(dims["dims"]))

    def _fetch(self, shape: tuple[int, ...]) -> NDArray[Any]:
        acl, output = self._acl, self._outputs[0]
        host, code = acl.rt.malloc_host(output.size)
        _check("rt.malloc_host", code)
        try:
            _check(
                "rt.memcpy",
                acl.rt.memcpy(host, output.size, output.address, output.size, DEVICE_TO_HOST),
            )
            received = acl.util.ptr_to_bytes(host, output.size)
        finally:
            acl.rt.free_host(host)
        # The buffer has room for the largest profile.
        values = np.frombuffer(received, self._type, count=int(np.prod(shape)))
        return values.reshape(shape)

    def _choose_profile(self, batch: NDArray[Any]) -> None:
        converted, mdl = self._converted, self._acl.mdl
        if not converted.dynamic_batch and not converted.dynamic_sizes:
            return
        index, code = mdl.get_input_index_by_name(self._description, PROFILE_INPUT)
        _check("mdl.get_input_index_by_name", code)
        if converted.dynamic_batch:
            code = mdl.set_dynamic_batch_size(self._model, self._input_set, index, len(batch))
            _check("mdl.set_dynamic_batch_size", code)
        else:
            is_pixelwise = converted.aipp and converted.shape[1] == 3
            height, width = batch.shape[1:3] if is_pixelwise else batch.shape[2:4]
            code = mdl.set_dynamic_hw_size(self._model, self._input_set, index, height, width)
            _check("mdl.set_dynamic_hw_size", code)

    def _allocate(self, number: int, size_of: Any) -> tuple[list[_Buffer], int]:
        acl, buffers = self._acl, []
        dataset = acl.mdl.create_dataset()
        self._freed.callback(acl.mdl.destroy_dataset, dataset)
        for index in range(number):
            size = size_of(self._description, index)
            address, code = acl.rt.malloc(size, HUGE_FIRST)
            _check("rt.malloc", code)
            self._freed.callback(acl.rt.free, address)
            buffer = acl.create_data_buffer(address, size)
            self._freed.callback(acl.destroy_data_buffer, buffer)
            _, code = acl.mdl.add_dataset_buffer(dataset, buffer)
            _check("mdl.add_dataset_buffer", code)
            buffers.append(_Buffer(address=address, size=size))
        return buffers, dataset


@contextmanager
def open_acl(path: Path, converted: Converted, *, device: int) -> Iterator[AclExecutor]:
    """Loads an .om file onto a card; all that was taken is given back in the end."""
    acl = _imported("acl", "pyACL comes with CANN: source its set_env.sh")
    with ExitStack() as undone:
        _check("init", acl.init())
        undone.callback(acl.finalize)
        _check("rt.set_device", acl.rt.set_device(device))
        undone.callback(acl.rt.reset_device, device)
        model, code = acl.mdl.load_from_file(str(path))
        _check("mdl.load_from_file", code)
        undone.callback(acl.mdl.unload, model)
        description = acl.mdl.create_desc()
        undone.callback(acl.mdl.destroy_desc, description)
        _check("mdl.get_desc", acl.mdl.get_desc(description, model))
        yield AclExecutor(acl, model, description, converted, undone)


class LiteExecutor:
    """A model of MindSpore Lite."""

    def __init__(self, model: Any, converted: Converted) -> None:
        self._model = model
        self._is_free = -1 in converted.shape

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        inputs = self._model.get_inputs()
        if self._is_free:
            self._model.resize(inputs, [list(batch.shape)])
        inputs[0].set_data_from_numpy(batch)
        output: NDArray[Any] = self._model.predict(inputs)[0].get_data_to_numpy()
        return output


@contextmanager
def open_lite(path: Path, converted: Converted, *, device: int) -> Iterator[LiteExecutor]:
    """Loads a .mindir file of converter_lite onto a card."""
    lite = _imported(
        "mindspore_lite", "MindSpore Lite is no package of Python's index: see its downloads"
    )
    context = lite.Context()
    context.target = ["ascend"]
    context.ascend.device_id = device
    model = lite.Model()
    model.build_from_file(str(path), lite.ModelType.MINDIR, context)
    yield LiteExecutor(model, converted)


def _imported(name: str, advice: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(name, f"cannot be imported ({error}). {advice}") from error


def _check(call: str, code: int) -> None:
    if code != 0:
        raise AclError(call, code)

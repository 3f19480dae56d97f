"""Stand-ins for ``acl`` and ``mindspore_lite``: they hold memory, and count what is not given back.

Their network gives the sum of the input's channels at each pixel, as float16.
"""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np


class MadeAcl:
    """As pyACL: numbers for addresses and objects, (value, code) or code in return."""

    def __init__(self, *, shape: tuple[int, ...], is_pixelwise: bool, dtype: Any) -> None:
        self.shape = shape
        """NCHW of the largest profile."""
        self.is_pixelwise = is_pixelwise
        self.dtype = np.dtype(dtype)
        self.taken: dict[int, Any] = {}
        self.batches: list[Any] = []
        """What the network was given."""
        self.profile: tuple[int, ...] = ()
        self.failing = ""
        self.scale = 1.0
        self._numbers = itertools.count(1000)
        self.rt = SimpleNamespace(
            set_device=lambda device: self._code("set_device"),
            reset_device=lambda device: 0,
            malloc=lambda size, how: (self._take(bytearray(size)), self._code("malloc")),
            free=self._give,
            malloc_host=lambda size: (self._take(bytearray(size)), 0),
            free_host=self._give,
            memcpy=self._copy,
        )
        self.mdl = SimpleNamespace(
            load_from_file=lambda path: (self._take(path), self._code("load_from_file")),
            unload=self._give,
            create_desc=lambda: self._take("description"),
            destroy_desc=self._give,
            get_desc=lambda description, model: 0,
            get_num_inputs=lambda description: 2,
            get_num_outputs=lambda description: 1,
            get_input_size_by_index=lambda description, index: [self._bytes(self.shape), 8][index],
            get_output_size_by_index=lambda description, index: 2 * self._pixels(self.shape),
            get_output_data_type=lambda description, index: 1,
            create_dataset=lambda: self._take([]),
            destroy_dataset=self._give,
            add_dataset_buffer=self._add,
            get_input_index_by_name=lambda description, name: (
                1, int(name != "ascend_mbatch_shape_data")
            ),
            set_dynamic_batch_size=lambda model, inputs, index, batch: self._choose(
                (batch, *self.shape[1:])
            ),
            set_dynamic_hw_size=lambda model, inputs, index, height, width: self._choose(
                (*self.shape[:2], height, width)
            ),
            get_cur_output_dims=lambda description, index: (
                {"name": "probability", "dimCount": 4, "dims": self._output_shape()}, 0
            ),
            execute=self._execute,
        )  # fmt: skip
        self.util = SimpleNamespace(
            bytes_to_ptr=lambda sent: self._borrow(sent),
            ptr_to_bytes=lambda address, size: bytes(self.taken[address][:size]),
        )
        self._borrowed: dict[int, bytes] = {}

    def init(self) -> int:
        return 0

    def finalize(self) -> int:
        return 0

    def create_data_buffer(self, address: int, size: int) -> int:
        return self._take((address, size))

    def destroy_data_buffer(self, buffer: int) -> int:
        return self._give(buffer)

    def _code(self, call: str) -> int:
        return 507 if call == self.failing else 0

    def _take(self, what: Any) -> int:
        number = next(self._numbers)
        self.taken[number] = what
        return number

    def _give(self, number: int) -> int:
        del self.taken[number]
        return 0

    def _borrow(self, sent: bytes) -> int:
        number = next(self._numbers)
        self._borrowed[number] = sent
        return number

    def _copy(self, to: int, room: int, source: int, size: int, kind: int) -> int:
        assert size <= room
        content = self._borrowed[source] if kind == 1 else self.taken[source]
        self.taken[to][:size] = content[:size]
        return 0

    def _add(self, dataset: int, buffer: int) -> tuple[int, int]:
        self.taken[dataset].append(buffer)
        return dataset, 0

    def _choose(self, profile: tuple[int, ...]) -> int:
        self.profile = profile
        return 0

    def _bytes(self, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape)) * self.dtype.itemsize

    def _pixels(self, shape: tuple[int, ...]) -> int:
        return shape[0] * shape[2] * shape[3]

    def _output_shape(self) -> list[int]:
        batch, _, height, width = self.profile or self.shape
        return [batch, 1, height, width]

    def _execute(self, model: int, inputs: int, outputs: int) -> int:
        if self.failing == "execute":
            return 507
        shape = self.profile or self.shape
        first = self.taken[self.taken[self.taken[inputs][0]][0]]
        values = np.frombuffer(bytes(first), self.dtype, count=int(np.prod(shape)))
        if self.is_pixelwise:
            batch, channels, height, width = shape
            x_nchw = values.reshape(batch, height, width, channels).transpose(0, 3, 1, 2)
        else:
            x_nchw = values.reshape(shape)
        self.batches.append(x_nchw)
        sums = self.scale * x_nchw.astype(np.float32).sum(axis=1, keepdims=True)
        y = sums.astype(np.float16).tobytes()
        self.taken[self.taken[self.taken[outputs][0]][0]][: len(y)] = y
        return 0


class MadeLite:
    """As ``mindspore_lite``."""

    ModelType = SimpleNamespace(MINDIR="mindir")

    def __init__(self) -> None:
        self.told: list[Any] = []

    def Context(self) -> Any:
        return SimpleNamespace(target=[], ascend=SimpleNamespace(device_id=-1))

    def Model(self) -> Any:
        given: list[Any] = [None]

        def build(path: str, kind: str, context: Any) -> None:
            self.told.append((kind, context.target, context.ascend.device_id))

        def predict(inputs: Any) -> Any:
            y = given[0].astype(np.float32).sum(axis=1, keepdims=True)
            return [SimpleNamespace(get_data_to_numpy=lambda: y)]

        tensor = SimpleNamespace(set_data_from_numpy=lambda array: given.__setitem__(0, array))
        return SimpleNamespace(
            build_from_file=build,
            get_inputs=lambda: [tensor],
            resize=lambda inputs, shapes: self.told.append(shapes),
            predict=predict,
        )

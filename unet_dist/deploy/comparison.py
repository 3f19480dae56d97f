"""Compares the outputs of two forms of one network, image by image."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.config import Config
from unet_dist.config_file import build_config
from unet_dist.deploy.card_network import CONVERTED, open_card_network, read_converted
from unet_dist.deploy.model_file import Metadata, metadata_of_onnx
from unet_dist.deploy.onnx_graph import layer_names
from unet_dist.deploy.onnx_tensors import OnnxTensors
from unet_dist.deploy.parting import LayerDifference, find_parting, relative_difference
from unet_dist.deploy.runtime import DeployedNetwork, as_input
from unet_dist.deploy.seen_images import SeenImage, predict_seen, read_seen
from unet_dist.errors import UserError
from unet_dist.profiling.finite import finite

DUMPS = (".npy", ".npz")
MOST_DUMP_BYTES = 8_000_000_000
TOLERANCE = 1e-3
TOLERANCE_OF_8_BITS = 0.9
"""Of float32 and 8 bits: what is beyond it is a fault. Of CHASE_DB1's network, whose 8 bits lose no
Dice, layers are up to 0.2 of their largest value apart, single pixels' probabilities up to 0.68."""
USUAL_OF_8_BITS = (
    "between float32 and 8 bits layers of good forms are up to 0.2 apart and single pixels up to "
    "0.7, so the Dice tells more; a smaller --tolerance names the first layer beyond it"
)
NOT_RESIZED = (
    "images are compared as they are, without the resize of data.object_size by a first look"
)
Outputs = Mapping[str, NDArray[np.float32]]
"""By the image's name; ``[K, H, W]`` or ``[N, K, H, W]``."""


@dataclass(frozen=True, kw_only=True)
class ImageDifference:
    image: str
    cosine: float
    largest_error: float
    relative_error: float
    """As a part of the largest value of A."""
    dice: float
    """Of the foreground of A and that of B, of several classes their mean; NaN if there is none."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    images: tuple[ImageDifference, ...]
    tolerance: float
    parting: LayerDifference | None = None
    layers: tuple[LayerDifference, ...] = ()
    matched_by: str = ""
    note: str = ""
    """On the tolerance, if it was not asked for."""

    @property
    def agrees(self) -> bool:
        return all(one.relative_error <= self.tolerance for one in self.images)

    def to_json(self) -> dict[str, Any]:
        tree: dict[str, Any] = finite({**asdict(self), "agrees": self.agrees})
        return tree


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A file that can be compared."""

    metadata: Metadata | None
    outputs: Outputs
    tensors: OnnxTensors | None = None


def compare_forms(
    a: Path, b: Path, *, images: Sequence[Path], tolerance: float | None = None, device: int = 0
) -> Comparison:
    """
    Args:
        tolerance: None for what is usual between their precisions.

    Raises:
        UserError: one of them cannot be read, or they are of different weights or images.
    """
    seen: list[SeenImage] = []
    models = [path for path in (a, b) if path.suffix not in DUMPS]
    if models:
        told = {path: _metadata_of(path) for path in models}
        _check_one_run(told)
        seen = read_seen(images, _config_of(told[models[0]]))
    one, other = (_read_form(path, seen, device=device) for path in (a, b))
    note = ""
    if tolerance is None:
        tolerance = usual_tolerance(one.metadata, other.metadata)
        note = USUAL_OF_8_BITS if tolerance == TOLERANCE_OF_8_BITS else ""
    if models and _config_of(told[models[0]]).data.object_size:
        note = " ".join(filter(None, (note, NOT_RESIZED)))
    metadata = one.metadata or other.metadata
    threshold = 0.5 if metadata is None else metadata.threshold
    found = [
        difference_of(name, from_a, from_b, threshold=threshold)
        for name, from_a, from_b in _paired(one.outputs, other.outputs, str(a), str(b))
    ]
    if one.tensors is None or other.tensors is None:
        return Comparison(images=tuple(found), tolerance=tolerance, note=note)
    worst = max(range(len(found)), key=lambda index: found[index].relative_error)
    assert one.metadata is not None
    assert other.metadata is not None
    config = _config_of(one.metadata)
    tile_nchw = _where_they_differ(seen[worst], one, other, side=config.evaluate.tile)
    inputs = (as_input(tile_nchw, one.metadata), as_input(tile_nchw, other.metadata))
    parting = find_parting(one.tensors, other.tensors, inputs, names=layer_names(config.model))
    return Comparison(
        images=tuple(found),
        tolerance=tolerance,
        parting=parting.first_beyond(tolerance),
        layers=parting.layers,
        matched_by=parting.matched_by,
        note=note,
    )


def usual_tolerance(a: Metadata | None, b: Metadata | None) -> float:
    """Between two forms; None of one that is only outputs."""
    both = {metadata.precision for metadata in (a, b) if metadata is not None}
    return TOLERANCE_OF_8_BITS if both == {"float32", "int8"} else TOLERANCE


def difference_of(
    image: str, a: NDArray[np.float32], b: NDArray[np.float32], *, threshold: float | None
) -> ImageDifference:
    """
    Raises:
        UserError: their shapes differ.
    """
    if a.shape != b.shape:
        raise UserError(image, f"has the shape {a.shape} in A, but {b.shape} in B")
    flat_a, flat_b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    norms = float(np.linalg.norm(flat_a) * np.linalg.norm(flat_b))
    return ImageDifference(
        image=image,
        cosine=float(flat_a @ flat_b) / norms if norms else float("nan"),
        largest_error=float(np.abs(flat_a - flat_b).max(initial=0.0)),
        relative_error=relative_difference(a, b),
        dice=_dice(_classes(a, threshold), _classes(b, threshold)),
    )


def comparison_text(found: Comparison) -> str:
    lines = [f"{'image':<24} {'cosine':>10} {'largest error':>14} {'Dice':>8}"]
    lines += [
        f"{one.image:<24} {one.cosine:>10.7f} {one.largest_error:>14.3g} {one.dice:>8.4f}"
        for one in found.images
    ]
    if found.parting is not None:
        lines.append(
            f"they part at {found.parting}: {found.parting.difference:.3g} of its largest value, "
            f"more than {found.tolerance:g}; layers are matched by {found.matched_by}"
        )
    elif found.layers:
        most = max(found.layers, key=lambda layer: layer.difference)
        lines.append(
            f"no layer of {len(found.layers)} differs by more than {found.tolerance:g} of its "
            f"largest value; the most does {most}: {most.difference:.3g}"
            if most.difference
            else f"all {len(found.layers)} layers are equal"
        )
    elif found.matched_by:
        lines.append("no layers could be matched")
    verdict = "agree" if found.agrees else "differ"
    lines.append(f"the outputs {verdict} (tolerance {found.tolerance:g} of the largest value)")
    if found.note:
        lines.append(f"note: {found.note}")
    return "\n".join(lines)


def _config_of(metadata: Metadata) -> Config:
    return build_config(metadata.config, [], where="the model's metadata")


def _check_one_run(told: Mapping[Path, Metadata]) -> None:
    """Raises UserError for forms of two networks, which differ in every layer."""
    digests = [metadata.run_sha256 for metadata in told.values()]
    if len(set(digests)) > 1:
        of_each = ", ".join(
            f"{path} {digest[:12]}" for path, digest in zip(told, digests, strict=True)
        )
        raise UserError(
            "deploy diff",
            f"the two are of different weights ({of_each}), but are to be two forms of one "
            "network: export and quantize one run",
        )


def _metadata_of(path: Path) -> Metadata:
    if path.suffix in CONVERTED:
        return read_converted(path)[1]
    return metadata_of_onnx(path)


def _read_form(path: Path, seen: Sequence[SeenImage], *, device: int) -> _Form:
    if path.suffix in DUMPS:
        return _Form(metadata=None, outputs=_read_dump(path))
    metadata = _metadata_of(path)
    config = _config_of(metadata)
    if path.suffix in CONVERTED:
        with open_card_network(path, device=device) as network:
            outputs = predict_seen(network.forward, seen, config)
        return _Form(metadata=metadata, outputs=outputs)
    tensors = OnnxTensors(path)
    network = DeployedNetwork(_FirstOutput(tensors), metadata)
    outputs = predict_seen(network.forward, seen, config)
    return _Form(metadata=metadata, outputs=outputs, tensors=tensors)


@dataclass(frozen=True)
class _FirstOutput:
    """A ``runtime.Session``."""

    tensors: OnnxTensors

    def run(self, x_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        output = self.tensors.output
        return self.tensors.run(x_nchw, [output])[output]


def _read_dump(path: Path) -> Outputs:
    try:
        # A map of the file, whatever size its first bytes tell.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays: Mapping[str, NDArray[Any]] = {path.stem: loaded}
        else:
            _check_sizes(path)
            arrays = dict(loaded)
        outputs = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise UserError(str(path), f"holds no arrays that can be read: {error}") from error
    if not outputs:
        raise UserError(str(path), "holds no array")
    if flat := [name for name, output in outputs.items() if output.ndim < 2]:
        raise UserError(str(path), f"{', '.join(flat)}: no image, which has height and width")
    return outputs


def _check_sizes(path: Path) -> None:
    """Raises ValueError for an .npz whose small file grows without limit."""
    with zipfile.ZipFile(path) as archive:
        whole = sum(one.file_size for one in archive.infolist())
    if whole > MOST_DUMP_BYTES:
        raise ValueError(f"{whole:,} bytes of arrays are more than {MOST_DUMP_BYTES:,}")


def _paired(
    a: Outputs, b: Outputs, name_a: str, name_b: str
) -> list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    if len(a) == len(b) == 1:
        return [(next(iter(a)), next(iter(a.values())), next(iter(b.values())))]
    if faults := [
        *(f"{name} is in {name_a} alone" for name in a if name not in b),
        *(f"{name} is in {name_b} alone" for name in b if name not in a),
    ]:
        raise UserError("the two tell of different images", faults)
    return [(name, a[name], b[name]) for name in a]


def _classes(output: NDArray[np.float32], threshold: float | None) -> NDArray[np.intp]:
    """Class numbers; with one channel foreground from the threshold on, of logits from 0 on."""
    channels = output if output.ndim >= 3 else output[None]
    if channels.shape[-3] > 1:
        most: NDArray[np.intp] = np.argmax(channels, axis=-3)
        return most
    is_logits = bool(channels.min(initial=0.0) < 0 or channels.max(initial=0.0) > 1)
    limit = 0.0 if is_logits else np.float32(0.5 if threshold is None else threshold)
    return (channels >= limit).astype(np.intp)


def _dice(a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    """Mean over the foreground classes that either has."""
    values = []
    for number in range(1, int(max(a.max(initial=0), b.max(initial=0))) + 1):
        in_a, in_b = a == number, b == number
        if total := int(in_a.sum() + in_b.sum()):
            values.append(2 * int((in_a & in_b).sum()) / total)
    return float(np.mean(values)) if values else float("nan")


def _where_they_differ(image: SeenImage, a: _Form, b: _Form, *, side: int) -> NDArray[np.float32]:
    """The part of the image that the layers are compared on: round the largest difference."""
    error_khw = np.abs(a.outputs[image.name] - b.outputs[image.name])
    _, row, column = np.unravel_index(int(error_khw.argmax()), error_khw.shape)
    starts = [
        max(0, min(int(at) - side // 2, length - side))
        for at, length in zip((row, column), error_khw.shape[1:], strict=True)
    ]
    part_hwc = image.image_hwc[starts[0] : starts[0] + side, starts[1] : starts[1] + side]
    return np.ascontiguousarray(part_hwc.transpose(2, 0, 1)[None])

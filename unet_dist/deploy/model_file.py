"""A folder of deployed models: its file names, and what a model file says of itself.

    DIR/
      model.onnx         float32
      model_int8.onnx    the same network with weights and activations of 8 bits
      model.mindir       float32, for MindSpore and MindSpore Lite
      model.json         the metadata, which an ONNX file holds too and a MindIR file cannot
      onnx_export.json   the run, and what the parity gate measured; mindir_export.json likewise
      quantize.json      what the quantisation measured, and report.html for people

An ONNX file can be used without its folder: its ``metadata_props`` are those of ``to_props``, and
a digest of the file's content without it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from unet_dist.deploy.untrusted import config_faults, read_onnx
from unet_dist.errors import UserError
from unet_dist.runs import read_json

if TYPE_CHECKING:
    import onnx

FORMAT = 1
INPUT = "image"
"""Name of the one input, float32 ``[batch, in_channels, height, width]``, all sizes but the
channels free."""
PROBABILITY, LOGITS, MASK = "probability", "logits", "mask"
"""Names of outputs. The first one is either of the first two, float32 ``[batch, 1, height,
width]`` for two classes, of the foreground, else ``[batch, classes, height, width]``. With the
threshold inside, the second is ``mask``, uint8 ``[batch, height, width]`` of class numbers."""
INPUT_AXES = ("batch", "height", "width")
"""Names of the free dimensions."""

CONTENT = "content"
"""Key of the digest: a bit that flips in a weight changes masks, and nothing else tells it."""
LEAST_OPSET_OF_FUNCTIONS = 15
"""From which on an ONNX file may hold functions (``deploy.functions``)."""

Precision = Literal["float32", "int8"]
Output = Literal["probability", "logits"]


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What must be known of a model to use it."""

    format: int = FORMAT
    config_sha256: str
    """Of the run's configuration, as evaluations tell it (``fingerprint.config_sha256``)."""
    checkpoint_sha256: str
    """Of the weights, as ``weights_digest`` computes it: that of the run's evaluation."""
    classes: int
    """With the background."""
    class_names: tuple[str, ...]
    """Of all classes, background first."""
    threshold: float | None
    """Probability from which a pixel is foreground; None: the most probable class wins."""
    mean: tuple[float, ...]
    """Of each channel of the input 0..1; the network sees ``(image - mean) / std``."""
    std: tuple[float, ...]
    in_channels: int
    size_multiple: int
    """Heights and widths that are multiples of it need no padding inside the network."""
    precision: Precision
    output: Output = "probability"
    """Name of the first output."""
    normalises: bool = False
    """Whether the input is the image 0..1; else ``(image - mean) / std``."""
    has_mask: bool = False
    """Whether there is a second output ``mask``."""
    opset: int
    derived_from_sha256: str = ""
    """Of the run's weights that a training with 8 bits started from; empty: ``checkpoint_sha256``.
    """
    numbering: Mapping[str, Any] | None = None
    """How single objects or cells are found (``evaluate.numbering``); None where there are none."""
    config: Mapping[str, Any]
    """The keys of the run's configuration that differ from the defaults, as a tree: with them
    ``predict`` reads, tiles and writes as the run does."""

    @property
    def run_sha256(self) -> str:
        """Of the weights of the run that is deployed."""
        return self.derived_from_sha256 or self.checkpoint_sha256

    def to_props(self) -> dict[str, str]:
        """The texts of ``metadata_props``, each compact JSON."""
        return {
            key: json.dumps(value, separators=(",", ":")) for key, value in asdict(self).items()
        }

    @classmethod
    def of_props(cls, props: Mapping[str, str], *, where: str) -> Self:
        """
        Raises:
            UserError: with all that is missing or wrong.
        """
        tree, faults = {}, []
        for name in (field.name for field in fields(cls)):
            try:
                tree[name] = json.loads(props[name])
            except KeyError:
                faults.append(f"its metadata lack {name}")
            except (ValueError, RecursionError):
                faults.append(f"its metadata {name} is {props[name]!r:.60}, which is not JSON")
        if faults:
            if len(faults) == len(fields(cls)):
                faults = ["was not made by unet-dist export: it has none of its metadata"]
            raise UserError(where, faults)
        return cls.of_json(tree, where=where)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, tree: Mapping[str, Any], *, where: str) -> Self:
        """
        Raises:
            UserError: another program wrote it, or another version.
        """
        if tree.get("format") != FORMAT:
            raise UserError(where, f"its format is {tree.get('format')!r}, not {FORMAT}")
        if isinstance(names := tree.get("class_names"), str):
            raise UserError(where, f"its class_names are {names!r:.60}, but must be a list")
        try:
            made = cls(
                **{
                    **tree,
                    "classes": int(tree["classes"]),
                    "in_channels": int(tree["in_channels"]),
                    "class_names": tuple(map(str, tree["class_names"])),
                    "mean": tuple(map(float, tree["mean"])),
                    "std": tuple(map(float, tree["std"])),
                }
            )
            faults = made._faults()
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(where, f"its metadata are not understood: {error!r}") from error
        if faults:
            raise UserError(where, faults)
        return made

    def _faults(self) -> list[str]:
        faults = [
            f"its metadata {name} has {len(values)} values for {wanted}"
            for name, values, wanted in (
                ("mean", self.mean, self.in_channels),
                ("std", self.std, self.in_channels),
                ("class_names", self.class_names, self.classes),
            )
            if len(values) != wanted
        ]
        if not all(0 < value < math.inf for value in self.std):
            faults.append(f"its std {self.std} is not above 0")
        if not all(map(math.isfinite, self.mean)):
            faults.append(f"its mean {self.mean} is no number")
        if self.precision not in get_args(Precision):
            faults.append(f"its precision is {self.precision!r}, not float32 or int8")
        if self.output not in get_args(Output):
            faults.append(f"its output is {self.output!r}, not probability or logits")
        is_share = isinstance(self.threshold, float | int) and 0 <= self.threshold <= 1
        if not (self.threshold is None if self.classes > 2 else is_share):
            faults.append(f"its threshold is {self.threshold!r:.60} with {self.classes} classes")
        faults += [
            f"its {name} is {value!r:.60}, but must be a whole number above 0"
            for name in ("classes", "in_channels", "size_multiple", "opset")
            if not isinstance(value := getattr(self, name), int) or value < 1
        ]
        faults += [
            f"its {name} is {value!r:.60}, but must be a text"
            for name in ("config_sha256", "checkpoint_sha256", "derived_from_sha256")
            if not isinstance(value := getattr(self, name), str)
        ]
        if self.numbering is not None and not _is_numbering(self.numbering):
            faults.append(f"its numbering is {self.numbering!r:.60}")
        return faults + config_faults(self.config, in_channels=self.in_channels)


def _is_numbering(tree: object) -> bool:
    """Whether ``Numbering`` can be made of it."""
    return (
        isinstance(tree, Mapping)
        and set(tree) == {"structure", "threshold", "min_object", "cell_smoothing", "division"}
        and isinstance(tree["structure"], str)
        and all(isinstance(tree[key], float | int) for key in set(tree) - {"structure"})
    )


@dataclass(frozen=True)
class ModelFile:
    """A folder that ``export`` and ``quantize`` write."""

    folder: Path

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def int8(self) -> Path:
        return self.folder / "model_int8.onnx"

    @property
    def mindir(self) -> Path:
        return self.folder / "model.mindir"

    def is_deployed(self) -> bool:
        """Whether a model is in it."""
        return any(file.is_file() for file in (self.onnx, self.int8, self.mindir))

    @property
    def metadata(self) -> Path:
        return self.folder / "model.json"

    def export_record(self, file: Path) -> Path:
        return self.folder / f"{file.suffix[1:]}_export.json"

    @property
    def quantize_record(self) -> Path:
        return self.folder / "quantize.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def load_metadata(self) -> Metadata:
        """Of the float32 model.

        Raises:
            UserError: it is no such folder.
        """
        if not self.metadata.is_file():
            form = "mindir" if self.mindir.is_file() else "onnx"
            raise UserError(
                str(self.folder),
                f"holds no model.json: unet-dist export RUN --to {form} -o {self.folder}",
            )
        return Metadata.of_json(read_json(self.metadata), where=str(self.metadata))

    def weights(self) -> dict[str, str]:
        """Digest of the run's weights that each file here is of, by name; of those that tell it."""
        found = {
            file.name: metadata_of_onnx(file).run_sha256
            for file in (self.onnx, self.int8)
            if file.exists()
        }
        if self.metadata.exists():
            found[self.metadata.name] = self.load_metadata().run_sha256
        for model in (self.onnx, self.mindir):
            record = self.export_record(model)
            if model.exists() and record.exists():
                name = record.name if model == self.onnx else model.name
                found[name] = str(read_json(record).get("checkpoint_sha256", ""))
        return {name: digest for name, digest in found.items() if digest}

    def check_one_run(self) -> None:
        """
        Raises:
            UserError: its files are of several runs, or of a run before and after more training;
                or one has the name of another precision.
        """
        for file, precision in ((self.onnx, "float32"), (self.int8, "int8")):
            if file.exists() and (own := metadata_of_onnx(file).precision) != precision:
                raise UserError(str(file), f"is a model of {own}, which its name does not tell")
        found = self.weights()
        if len(set(found.values())) > 1:
            told = ", ".join(f"{name} {digest[:12]}" for name, digest in found.items())
            raise UserError(
                str(self.folder),
                f"its files are of different weights ({told}): export or quantize one run into a "
                "folder of its own",
            )


def content_of(model: "onnx.ModelProto") -> bytes:
    """Of the file, with the digest in it."""
    sealed = _without_digest(model)
    sealed.metadata_props.add(key=CONTENT, value=_digest_of(model))
    return bytes(sealed.SerializeToString())


def metadata_of_onnx(path: Path) -> Metadata:
    """What an ONNX file says of itself.

    Raises:
        UserError: it cannot be read, is another program's, is damaged, or is not what it says.
    """
    model = read_onnx(path)
    props = {entry.key: entry.value for entry in model.metadata_props}
    digest = props.pop(CONTENT, "")
    metadata = Metadata.of_props(props, where=str(path))
    if faults := _graph_faults(model, metadata):
        raise UserError(str(path), faults)
    if digest != _digest_of(model):
        again = "quantize" if metadata.precision == "int8" else "export"
        what = (
            "is not as it was written: damaged, or changed by another program"
            if digest
            else "has no digest of its content, as files of older versions"
        )
        raise UserError(str(path), f"{what}; copy it again, or unet-dist {again} again")
    return metadata


def _digest_of(model: "onnx.ModelProto") -> str:
    rest = _without_digest(model).SerializeToString(deterministic=True)
    return hashlib.sha256(rest).hexdigest()[:16]


def _without_digest(model: "onnx.ModelProto") -> "onnx.ModelProto":
    rest = type(model)()
    rest.CopyFrom(model)
    del rest.metadata_props[:]
    rest.metadata_props.extend(one for one in model.metadata_props if one.key != CONTENT)
    return rest


def _graph_faults(model: "onnx.ModelProto", metadata: Metadata) -> list[str]:
    """Where the graph takes or gives something else than its metadata tell."""
    outputs = 1 if metadata.classes == 2 else metadata.classes
    faults = []
    for what, found, name, channels in (
        ("input", model.graph.input[0], INPUT, metadata.in_channels),
        ("output", model.graph.output[0], metadata.output, outputs),
    ):
        sizes = [axis.dim_value for axis in found.type.tensor_type.shape.dim]
        if found.name != name or sizes != [0, channels, 0, 0]:
            shown = ", ".join(str(size or "any") for size in sizes)
            faults.append(
                f"its {what} is {found.name} [{shown}], but by its metadata it is {name} "
                f"[any, {channels}, any, any]"
            )
    return faults

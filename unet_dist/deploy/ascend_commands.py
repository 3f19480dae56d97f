"""From a request without faults to the very commands and files: nothing is run here.

    ascend/
      commands.sh                  all commands, in order
      aipp_256x256.cfg             one for each size, if AIPP is asked for
      MODEL_DIGEST_amct.onnx       if the model is of 8 bits: in the form that AMCT reads
      amct_convert.py              from it to the cards' own operators
      lite_NAME.ini                what converter_lite reads
      NAME.om  NAME.mindir  NAME.log
      NAME.om.json                 what that file takes and gives, for the runner

Paths in commands start at this folder, so that it can be copied with the model to another machine.
Names end in a digest of all that a conversion depends on: what another one left, of other weights,
options or cards, keeps its own description, and is never taken for this one's.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

from unet_dist import __version__
from unet_dist.deploy.aipp import aipp_for
from unet_dist.deploy.ascend_request import AscendRequest, InputType, Shape, Size
from unet_dist.deploy.ascend_rules import LARGEST_BATCH, PRECISION_V1, lite_faults
from unet_dist.deploy.lite import lite_argv, lite_ini
from unet_dist.deploy.model_file import INPUT
from unet_dist.profiling.texts import plain

SCRIPT, AMCT_SCRIPT = "commands.sh", "amct_convert.py"
DEFAULT_PRECISION = "fp16"
"""The vendor's own default, written out so that a newer version cannot change it."""

LARGEST_SIDE = 1 << 16
DIGITS = 8
"""Of a digest in a name."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One command, and what it leaves."""

    argv: tuple[str, ...]
    makes: str
    """Name of the file."""

    @property
    def log(self) -> str:
        return self.makes.rpartition(".")[0] + ".log"


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a runner must know of a converted file."""

    file: str
    shape: Shape
    dynamic_batch: tuple[int, ...]
    dynamic_sizes: tuple[Size, ...]
    input_type: InputType
    aipp: bool
    """Whether the card normalises."""
    soc: str
    cann: str
    precision: str

    @classmethod
    def of_json(cls, tree: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if no conversion wrote it."""
        made = cls(
            **{
                **tree,
                "shape": tuple(tree["shape"]),
                "dynamic_batch": tuple(tree["dynamic_batch"]),
                "dynamic_sizes": tuple((height, width) for height, width in tree["dynamic_sizes"]),
            }
        )
        sides = [side for size in made.dynamic_sizes for side in size]
        for numbers in (made.shape, made.dynamic_batch, sides):
            if not all(isinstance(n, int) and -1 <= n <= LARGEST_SIDE for n in numbers):
                raise ValueError(f"its sizes are {numbers!r:.60}")
        if len(made.shape) != 4:
            raise ValueError(f"its shape is {made.shape!r:.60}")
        if max(made.shape[0], *made.dynamic_batch, 0) > LARGEST_BATCH:
            raise ValueError(f"its batch is above {LARGEST_BATCH}")
        if made.input_type not in get_args(InputType) or not isinstance(made.aipp, bool):
            raise ValueError(f"its input is {made.input_type!r:.60}, with aipp {made.aipp!r:.60}")
        return made


def description_of(file: str) -> str:
    """Name of what is written of a converted file."""
    return f"{file}.json"


@dataclass(frozen=True, kw_only=True)
class ConversionPlan:
    atc: tuple[Call, ...]
    lite: tuple[Call, ...]
    files: Mapping[str, str]
    """Texts by name; ``SCRIPT`` and the descriptions of converted files among them."""
    notes: tuple[str, ...]
    """What is left out, and what must be done before."""

    def to_json(self) -> dict[str, Any]:
        return {
            "atc": [asdict(call) for call in self.atc],
            "lite": [asdict(call) for call in self.lite],
            "files": sorted(self.files),
            "notes": list(self.notes),
        }


def plan_conversion(request: AscendRequest, *, model: str) -> ConversionPlan:
    """
    Args:
        request: one that ``violations`` finds no fault with.
        model: path of the model from the folder of the commands.
    """
    notes: list[str] = []
    files: dict[str, str] = {}
    source = model
    if request.model.kind == ".mindir":
        notes.append(
            f"predict runs what converter_lite makes of {request.model.path.name}, not that file "
            "itself; where there is no card it runs the model.onnx of unet-dist export RUN --to "
            "onnx"
        )
    if request.int8:
        quantised = amct_stem(request)
        files[AMCT_SCRIPT] = amct_script(quantised)
        notes.append(
            f"{amct_model(quantised)} is the model in the form that AMCT reads (deploy diff tells "
            f"how near it is); python {AMCT_SCRIPT} comes first, where amct_onnx is installed"
        )
        model = deployed_by_amct(quantised)
    if request.aipp:
        files.update(_aipp_files(request))
    is_atc = request.tool in ("auto", "atc", "both")
    atc = tuple(_atc_call(request, shape, model) for shape in request.shapes) if is_atc else ()
    lite: tuple[Call, ...] = ()
    if request.tool != "atc":
        if why_not := lite_faults(request, demanded=True):
            notes += [f"left out: {fault}" for fault in why_not]
        else:
            lite, inis = _lite_calls(request, model)
            files.update(inis)
    for calls in (atc, lite):
        for call, shape in zip(calls, request.shapes, strict=False):  # none, or one for each
            tree = _description(request, _converted(request, shape, call.makes))
            files[description_of(call.makes)] = json.dumps(tree, indent=2) + "\n"
    files[SCRIPT] = shell_text(request, [*atc, *lite], source=source)
    return ConversionPlan(atc=atc, lite=lite, files=files, notes=tuple(notes))


def _description(request: AscendRequest, converted: Converted) -> dict[str, Any]:
    return {
        "converted": asdict(converted),
        "model_sha256": request.model.sha256,
        "metadata": request.model.metadata.to_json(),
    }


def amct_script(name: str) -> str:
    """``convert_qat_model`` (AMCT, atlasamct_16_0148 and _0160): QDQ becomes AscendQuant and
    AscendDequant; writes NAME_deploy_model.onnx for atc and NAME_fake_quant_model.onnx, which
    onnxruntime runs."""
    # JSON's texts are Python's too.
    model, saved = (json.dumps(f"./{file}") for file in (amct_model(name), name))
    return (
        "import amct_onnx as amct\n\n"
        f"amct.convert_qat_model(model_file={model}, save_path={saved})\n"
    )


def amct_stem(request: AscendRequest) -> str:
    """With the model's digest: what AMCT made of an older one is not converted."""
    return f"{request.model.path.stem}_{request.model.sha256[:DIGITS]}"


def amct_model(name: str) -> str:
    return f"{name}_amct.onnx"


def deployed_by_amct(name: str) -> str:
    return f"./{name}_deploy_model.onnx"


def shell_text(request: AscendRequest, calls: list[Call], *, source: str) -> str:
    """A script that runs them all, if the model is still the one that they were made for.

    Args:
        source: path of the model from the folder of the commands.
    """
    model = f"{plain(request.model.path.name)}, SHA-256 {request.model.sha256[:16]}"
    lines = [
        "#!/usr/bin/env bash",
        f"# unet_dist {__version__}: {model}...,",
        f"# for {request.soc} by CANN {request.cann}, whose set_env.sh must have been sourced.",
        "set -euo pipefail",
        'cd "$(dirname "${BASH_SOURCE[0]}")"',
    ]
    if request.int8:
        lines += ["", f"python {AMCT_SCRIPT}"]
    else:
        checked = shlex.quote(f"{request.model.sha256}  {source}")
        lines += ["", f"echo {checked} | sha256sum --check --quiet"]
    for call in calls:
        words = [shlex.quote(word) for word in call.argv]
        lines += ["", " \\\n    ".join(words)]
    return "\n".join(lines) + "\n"


WRITTEN_FOR = re.compile(
    r"^# unet_dist \S+: (?P<model>.+), SHA-256 .*\n# for (?P<soc>\S+) by CANN (?P<cann>[^\s,]+),",
    re.MULTILINE,
)


def replaced_note(old: str, new: str) -> str:
    """What to say if the script in the place of the new one was for another card, version or
    model; else nothing.

    Args:
        old: the text of any file.
    """
    before, after = WRITTEN_FOR.search(old), WRITTEN_FOR.search(new)
    if before is None or after is None or before.groups() == after.groups():
        return ""
    model, soc, cann = before.groups()
    return (
        f"{SCRIPT} held the commands for {soc} (CANN {cann}, {model}), which these replace: "
        "another folder for --out keeps both"
    )


def _atc_call(request: AscendRequest, shape: Shape, model: str) -> Call:
    """ "ATC: Command-Line Options" (atlasatc_16_0038)."""
    name = name_of(request, shape)
    precision = _precision(request)
    option = "precision_mode" if precision in PRECISION_V1 else "precision_mode_v2"
    argv = [
        "atc",
        "--framework=5",
        f"--model={model}",
        f"--output={name}",
        "--input_format=NCHW",
        f"--input_shape={INPUT}:{','.join(map(str, shape))}",
        f"--soc_version={request.soc}",
        f"--{option}={precision}",
    ]
    if request.dynamic_batch:
        argv.append(f"--dynamic_batch_size={','.join(map(str, request.dynamic_batch))}")
    if request.dynamic_sizes:
        sizes = ";".join(f"{height},{width}" for height, width in request.dynamic_sizes)
        argv.append(f"--dynamic_image_size={sizes}")
    if request.aipp:
        argv.append(f"--insert_op_conf={aipp_name(shape)}")
    if request.input_type == "float16":
        argv.append(f"--input_fp16_nodes={INPUT}")
    return Call(argv=(*argv, "--log=error"), makes=f"{name}.om")


def _lite_calls(request: AscendRequest, model: str) -> tuple[tuple[Call, ...], dict[str, str]]:
    calls, inis = [], {}
    for shape in request.shapes:
        name = name_of(request, shape)
        ini = f"lite_{name}.ini"
        aipp = aipp_name(shape) if request.aipp else ""
        inis[ini] = lite_ini(request, shape, aipp=aipp)
        argv = lite_argv(request, shape, model=model, output=name, ini=ini)
        calls.append(Call(argv=argv, makes=f"{name}.mindir"))
    return tuple(calls), inis


def _aipp_files(request: AscendRequest) -> dict[str, str]:
    texts = {}
    for shape in request.shapes:
        height, width = (max(0, side) for side in shape[2:])
        aipp = request.own_aipp or aipp_for(request.model.metadata, height=height, width=width)
        texts[aipp_name(shape)] = aipp.to_text()
    return texts


def aipp_name(shape: Shape) -> str:
    return f"aipp_{_side(shape[2], 'h')}x{_side(shape[3], 'w')}.cfg"


def name_of(request: AscendRequest, shape: Shape) -> str:
    """Such as ``model_Ascend310P3_1x3x256x256_0123abcd``, with letters for what profiles give."""
    batch, channels, height, width = shape
    sizes = f"{_side(batch, 'b')}x{channels}x{_side(height, 'h')}x{_side(width, 'w')}"
    depends_on = _description(request, _converted(request, shape, file=""))
    aipp = request.own_aipp.to_text() if request.own_aipp else ""
    text = json.dumps([depends_on, aipp], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    return f"{request.model.path.stem}_{request.soc}_{sizes}_{digest}"


def _side(size: int, letter: str) -> str:
    return letter if size == -1 else str(size)


def _precision(request: AscendRequest) -> str:
    return request.precisions[0] if request.precisions else DEFAULT_PRECISION


def _converted(request: AscendRequest, shape: Shape, file: str) -> Converted:
    return Converted(
        file=file,
        shape=shape,
        dynamic_batch=request.dynamic_batch,
        dynamic_sizes=request.dynamic_sizes,
        input_type=request.input_type,
        aipp=request.aipp,
        soc=request.soc,
        cann=request.cann,
        precision=_precision(request),
    )

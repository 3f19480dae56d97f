"""``unet-dist quantize``: a run's network in 8 bits."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_dist.cli.qat import train_for_8_bits
from unet_dist.cli.shared import Json, answer, console_for, refuse, told_phases
from unet_dist.cli.where import RankTable, SimulateAsRun, placement_of
from unet_dist.deploy.model_file import LEAST_OPSET_OF_FUNCTIONS, ModelFile
from unet_dist.errors import UserError, one_of
from unet_dist.files import check_writable
from unet_dist.progress import Phases
from unet_dist.runs import RunDir

if TYPE_CHECKING:
    from unet_dist.deploy.ptq import Calibrated, Options
    from unet_dist.deploy.source import Source


MAX_DROP = {"ptq": 0.005, "qat": 0.002}


def quantize(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the models.")],
    method: Annotated[
        str, typer.Option(help="ptq: after training; qat: by a short training that sees 8 bits.")
    ] = "ptq",
    calibrate: Annotated[int, typer.Option(min=1, help="Training images to learn ranges on.")] = 32,
    calibration: Annotated[
        str, typer.Option(help="Ranges by minmax, percentile (99.99), mse or entropy (KL).")
    ] = "minmax",
    activations: Annotated[str, typer.Option(help="u8, or s8 for Ascend cards.")] = "u8",
    opset: Annotated[int, typer.Option(help="13, 15 or 17.")] = 17,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Of the Dice; layers stay in float32 until it holds. Default 0.005, of qat 0.002.",
        ),
    ] = None,
    max_size: Annotated[float, typer.Option(min=0, help="Share of the float32 file.")] = 0.258,
    runtime: Annotated[
        str, typer.Option(help="openvino or onnxruntime, that Dice and speed are measured with.")
    ] = "",
    epochs: Annotated[
        int, typer.Option(min=0, help="Of qat; 0 for a tenth of those of the run.")
    ] = 0,
    simulate: SimulateAsRun = 0,
    rank_table: RankTable = "",
    with_normalisation: Annotated[
        bool, typer.Option("--with-normalisation", help="The input is the image 0..1.")
    ] = False,
    layout: Annotated[
        str,
        typer.Option(
            help="plain; compact, as functions that ONNX Runtime reads; auto: compact if plain "
            "is larger than --max-size."
        ),
    ] = "auto",
    force: Annotated[bool, typer.Option(help="Write it even if worse, larger or slower.")] = False,
    as_json: Json = False,
) -> None:
    """Write model.onnx in float32 and model_int8.onnx, with weights and activations of 8 bits
    (QDQ), and report.html with both predictions side by side.

    Layers that cost the most accuracy stay in float32 until the Dice of the validation images is
    within --max-drop. A model that is worse, larger or slower than it may be is not written, and
    the exit code is 1. The training of qat is a run, DIR/qat: killed half-way, the same command
    goes on with it.

    \b
    Examples:
      unet-dist quantize runs/chase -o deployed
      unet-dist quantize runs/chase --calibration percentile --activations s8 -o for_amct
      unet-dist quantize runs/chase --method qat --simulate 2 -o deployed
    """
    from unet_dist.deploy.machine import need_packages

    one_of("--method", method, ("ptq", "qat"))
    one_of("--opset", str(opset), ("13", "15", "17"))
    one_of("--activations", activations, ("u8", "s8"))
    one_of("--layout", layout, ("auto", "plain", "compact"))
    one_of("--runtime", runtime, ("", "openvino", "onnxruntime"))
    one_of("--calibration", calibration, ("minmax", "percentile", "mse", "entropy"))
    if activations == "s8" and runtime == "openvino":
        from unet_dist.deploy.runtime import SIGNED

        raise UserError("--runtime", f"openvino: a model that {SIGNED}")
    runtime = runtime or ("openvino" if activations == "u8" else "onnxruntime")
    if layout == "compact" and opset < LEAST_OPSET_OF_FUNCTIONS:
        raise UserError(
            "--layout", f"compact needs --opset {LEAST_OPSET_OF_FUNCTIONS} or 17, not {opset}"
        )
    _refuse_idle(
        method,
        epochs=epochs,
        placed=bool(simulate or rank_table),
        calibration=calibration,
        activations=activations,
    )
    need_packages("openvino")
    from unet_dist.deploy.ptq import Options
    from unet_dist.report.quantised import headline, notes_of

    console = console_for(as_json)
    folder, training = RunDir(run), RunDir(out / "qat")
    folder.load_config()  # before MindSpore starts, which takes seconds
    check_writable(out)
    options = Options(
        method=method,  # type: ignore[arg-type]  # checked above, as those that follow
        calibrate=calibrate,
        calibration=calibration,  # type: ignore[arg-type]
        activations=activations,  # type: ignore[arg-type]
        max_drop=MAX_DROP[method] if max_drop is None else max_drop,
        max_size=max_size,
        runtime=runtime,  # type: ignore[arg-type]
        layout=layout,  # type: ignore[arg-type]
        correct_bias=method == "ptq",
    )
    if method == "qat":
        if not force:
            as_deployed = _open(folder, opset=opset, normalises=with_normalisation)
            _check_size(as_deployed, options, as_json=as_json)
        place = placement_of(simulate=simulate, rank_table=rank_table)
        train_for_8_bits(
            folder,
            training,
            epochs=epochs,
            calibrate=calibrate,
            placement=place,
            # As it was typed: training alone makes no model of 8 bits.
            go_on=shlex.join(["unet-dist", *sys.argv[1:]]),
            console=console,
            as_json=as_json,
        )
    trained = training if method == "qat" else None
    with told_phases("no model was written; the same command begins again") as phases:
        record = _quantised(
            folder,
            trained,
            out,
            options,
            phases,
            normalises=with_normalisation,
            opset=opset,
            force=force,
            as_json=as_json,
        )
    text = f"{out / record['file']}: {headline(record)}"
    text += "".join(f"\nalthough {fault}" for fault in record["faults"])
    text += "".join(f"\nnote: {note}" for note in notes_of(record))
    text += f"\nboth predictions side by side: {ModelFile(out).report}"
    answer(console, as_json, text, {"state": "done", **record})


def _quantised(
    run: RunDir,
    training: RunDir | None,
    out: Path,
    options: "Options",
    phases: Phases,
    *,
    normalises: bool,
    opset: int,
    force: bool,
    as_json: bool,
) -> dict[str, Any]:
    """
    Args:
        training: that learnt 8 bits, if one did.
    """
    from unet_dist.deploy.machine import start_native

    phases("starting MindSpore", 0, 1)
    start_native()
    from unet_dist.deploy.native import native_network
    from unet_dist.deploy.parity import Refused
    from unet_dist.deploy.ptq import calibrate
    from unet_dist.deploy.qat import learned
    from unet_dist.deploy.quantize import quantise_run

    def opened(folder: RunDir) -> "Source":
        source = _open(folder, opset=opset, normalises=normalises)
        for warning in source.warnings:
            phases.say(f"warning: {warning}")
        return source

    source = opened(run)

    def make() -> "Calibrated":
        if training is None:
            return calibrate(source, options, tell=phases)
        trained = opened(training)
        made = learned(trained, start_images=options.calibrate, tell=phases)
        origin = source.metadata.checkpoint_sha256
        return replace(
            made,
            # Objects are found as the run does: the training was never evaluated.
            metadata=replace(
                made.metadata,
                derived_from_sha256=origin,
                numbering=source.metadata.numbering,
            ),
            taught_by=native_network(trained),
        )

    native = native_network(source)
    try:
        return quantise_run(
            source, native, make, out, options, force=force, say=phases.say, tell=phases
        )
    except Refused as error:
        refuse(error, as_json)


def _open(folder: RunDir, *, opset: int, normalises: bool) -> "Source":
    from unet_dist.deploy.source import open_source

    return open_source(folder, opset=opset).with_options(
        opset=opset, normalises=normalises, has_mask=False, output="probability"
    )


def _check_size(source: "Source", options: "Options", *, as_json: bool) -> None:
    """Ends the program if a training would be for nothing."""
    from unet_dist.deploy.parity import Refused
    from unet_dist.deploy.sizes import check_size

    try:
        check_size(source, options)
    except Refused as error:
        refuse(error, as_json)


def _refuse_idle(
    method: str, *, epochs: int, placed: bool, calibration: str, activations: str
) -> None:
    """Raises UserError for options that this method does not read."""
    given = {
        "ptq": {"--epochs": epochs > 0, "--simulate and --rank-table": placed},
        "qat": {"--calibration": calibration != "minmax", "--activations": activations != "u8"},
    }
    reasons = {
        "ptq": "nothing is trained",
        "qat": "the training learns the ranges of 8 bits without sign",
    }
    faults = [
        f"{option} has no effect with --method {method}: {reasons[method]}"
        for option, is_given in given[method].items()
        if is_given
    ]
    if faults:
        raise UserError("quantize", faults)

"""Images per second of each form of a network, side by side on the same cores.

Each form has a process of its own. They take turns, one round over all images each, so that what
else the machine does meets all of them.
"""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Self

from unet_dist.data.manifest import read_manifest
from unet_dist.deploy.model_file import ModelFile
from unet_dist.deploy.parity import Tell
from unet_dist.deploy.predict import check_tile
from unet_dist.deploy.runtime import SIGNED
from unet_dist.deploy.untrusted import read_onnx
from unet_dist.errors import UserError
from unet_dist.runs import SPLITS, RunDir, read_json

MOST_SCATTER = 1.5
"""Of the fastest round to the slowest; beyond it the order of two forms means little."""
MOST_LOST = 0.005
"""Of the Dice of the first form, in each other: as ``quantize`` allows."""
MARK = "BENCH "
"""Before what a worker says; libraries may write lines of their own."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to compute the network."""

    name: str
    form: str
    """mindspore or a deployed one."""
    file: str = ""
    runtime: str = ""
    hint: str = "f32"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of one form."""

    name: str
    bytes: int | None
    """Of its file; None for the run itself."""
    fps: float
    """From pixels in memory to the mask; of the median round."""
    fps_least: float
    fps_most: float
    network_fps: float
    """Of the network alone."""
    dice: float | None
    executed: dict[str, int]
    """Convolutions in each precision, as OpenVINO says."""
    times_native: float | None
    """Against MindSpore, if that was measured."""
    times_first: float
    """Against the first form that was measured."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the rounds of one form took, and which of its images are right."""

    form: Form
    dice: float | None
    executed: dict[str, int]
    seconds: list[float]
    network_seconds: list[float]


def forms_of(folder: ModelFile, *, native: bool) -> list[Form]:
    """Those whose files are in the folder, the run's own first.

    Raises:
        UserError: there is none.
    """
    forms = []
    if native:
        forms.append(Form(name="MindSpore float32", form="mindspore"))
    for label, file in (("float32", folder.onnx), ("int8", folder.int8)):
        if file.exists():
            path = str(file)
            forms.append(
                Form(name=f"ONNX Runtime {label}", form="onnx", file=path, runtime="onnxruntime")
            )
            forms.append(Form(name=f"OpenVINO {label}", form="onnx", file=path, runtime="openvino"))
    if folder.onnx.exists():
        bf16 = Form(
            name="OpenVINO bf16",
            form="onnx",
            file=str(folder.onnx),
            runtime="openvino",
            hint="bf16",
        )
        forms.insert(-2 if folder.int8.exists() else len(forms), bf16)
    if not folder.onnx.exists() and not folder.int8.exists():
        raise UserError(
            str(folder.folder), "holds no model.onnx: unet-dist export or unet-dist quantize"
        )
    return forms


def computed_rightly(forms: Sequence[Form]) -> tuple[list[Form], list[str]]:
    """Those that can be measured, and what to say of the others."""
    # Here, since it takes time, and measuring is done in other processes.
    from unet_dist.deploy.functions import inlined
    from unet_dist.deploy.qdq import has_signed_activations

    kept, notes = [], []
    for form in forms:
        if form.runtime == "openvino" and has_signed_activations(
            inlined(read_onnx(Path(form.file)))
        ):
            notes.append(f"{form.name} is left out: {form.file} {SIGNED}")
        else:
            kept.append(form)
    return kept, notes


def run_of(folder: ModelFile) -> RunDir:
    """The run that the models were made of, as the export wrote it down.

    Raises:
        UserError: it is not known or not there; ``--run`` names it.
    """
    record = folder.export_record(folder.onnx)
    tree = read_json(record)
    run = RunDir(Path(str(tree.get("run", ""))))
    if not run.config.is_file():
        raise UserError(str(record), f"its run {run.path} is not there: name it by --run")
    return run


def choose_images(run: RunDir, split: str, images: int) -> tuple[str, list[str]]:
    """The split, and the first so many sample ids of it; 0 for all.

    Raises:
        UserError: it has none.
    """
    dataset, _ = read_manifest(run.dataset, run.load_config().data)
    parts = dataset.splits.parts()
    split = split or next((name for name in SPLITS if parts[name]), "")
    ids = [sample.id for sample in parts[split]] if split else []
    if not ids:
        raise UserError("--split", f"{split or 'the run'} has no images")
    return split, ids[: images or len(ids)]


def measure(
    run: RunDir,
    forms: Sequence[Form],
    *,
    split: str,
    ids: Sequence[str],
    cores: Sequence[int],
    tta: str,
    tile: int,
    rounds: int,
    on_form: Tell,
) -> list[Speed]:
    """
    Args:
        tile: of deployed forms; 0 for the run's own.

    Raises:
        UserError: the network is not to be computed by such tiles, or a form cannot be run, with
            the last line of what it said.
    """
    check_tile(run.load_config(), tile)
    shared = {
        "run": str(run.path.resolve()),
        "split": split,
        "ids": list(ids),
        "cores": list(cores),
        "tta": tta,
        "tile": tile,
    }
    workers: list[_Worker] = []
    try:
        for number, form in enumerate(forms):
            on_form(f"warming up {form.name}: {{}} forms", number, len(forms))
            workers.append(_Worker.start(form, {**shared, **asdict(form)}))
        for number in range(rounds):
            for place, worker in enumerate(workers):
                turn = number * len(forms) + place
                on_form("measuring: {} turns", turn, len(forms) * rounds)
                worker.go()
    finally:
        for worker in workers:
            worker.end()
    return speeds([worker.measured() for worker in workers], len(ids))


def speeds(measured: Sequence[Measured], images: int) -> list[Speed]:
    """Images per second, and how many times those of MindSpore.

    Both speeds are of the median time: the median of speeds is another number where the rounds are
    even, and may be above that of the network alone.
    """
    fps = [images / statistics.median(one.seconds) for one in measured]
    native = next(
        (own for one, own in zip(measured, fps, strict=True) if one.form.form == "mindspore"), None
    )
    first = fps[0]
    return [
        Speed(
            name=one.form.name,
            bytes=Path(one.form.file).stat().st_size if one.form.file else None,
            fps=own,
            fps_least=images / max(one.seconds),
            fps_most=images / min(one.seconds),
            network_fps=images / statistics.median(one.network_seconds),
            dice=one.dice,
            executed=one.executed,
            times_native=None if native is None else own / native,
            times_first=own / first,
        )
        for one, own in zip(measured, fps, strict=True)
    ]


def scatter_warnings(found: Sequence[Speed]) -> list[str]:
    """Of forms whose rounds are too far apart to tell one from another."""
    return [
        f"the rounds of {one.name} differ by {one.fps_most / one.fps_least:.1f} times: the machine "
        "was busy with something else; measure again, with more --rounds"
        for one in found
        if one.fps_most > MOST_SCATTER * one.fps_least
    ]


def dice_warnings(found: Sequence[Speed]) -> list[str]:
    """Of forms that are worse than the first."""
    first, *others = found
    if first.dice is None:
        return []
    return [
        f"the Dice of {one.name} is {one.dice:.4f} where {first.name} has {first.dice:.4f}: look "
        "at what it predicts (unet-dist deploy diff) before it is used"
        for one in others
        # In as many digits as are shown.
        if one.dice is not None and round(first.dice - one.dice, 4) > MOST_LOST
    ]


class _Worker:
    """A process that holds one form ready."""

    def __init__(self, form: Form, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self._form = form
        self._process = process
        self._errors = errors
        self._ready: dict[str, Any] = {}
        self._rounds: list[dict[str, float]] = []

    @classmethod
    def start(cls, form: Form, spec: Mapping[str, Any]) -> Self:
        # Without names, so that nothing is left of them however this process ends.
        errors = TemporaryFile("w+", errors="replace")  # noqa: SIM115  # closed by end()
        process = subprocess.Popen(
            [sys.executable, "-m", "unet_dist.deploy.bench_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        worker = cls(form, process, errors)
        try:
            worker._ready = worker._asked(json.dumps(spec))
        except BaseException:  # a Ctrl-C too: warming up takes long
            worker.end()
            raise
        return worker

    def go(self) -> None:
        """One round."""
        self._rounds.append(self._asked("go"))

    def _asked(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its answer, or rather that there is none, tells why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                found: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return found
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        reason = said[-1] if said else f"ended with {code}"
        raise UserError(self._form.name, f"could not be measured: {reason}")

    def end(self) -> None:
        # It has told what it measured, and leaves nothing that is to be put away.
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            # What a dead worker was told is still to be sent.
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()

    def measured(self) -> Measured:
        return Measured(
            form=self._form,
            dice=self._ready["dice"],
            executed=self._ready["executed"],
            seconds=[one["seconds"] for one in self._rounds],
            network_seconds=[one["network_seconds"] for one in self._rounds],
        )

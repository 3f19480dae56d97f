"""Writes the files of a conversion, and runs atc where it is asked for."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from unet_dist.deploy.ascend_commands import (
    AMCT_SCRIPT,
    SCRIPT,
    Call,
    ConversionPlan,
    amct_model,
    amct_stem,
    deployed_by_amct,
    plan_conversion,
    replaced_note,
)
from unet_dist.deploy.ascend_request import AscendRequest
from unet_dist.deploy.ascend_rules import violations
from unet_dist.deploy.model_file import content_of
from unet_dist.deploy.untrusted import read_onnx
from unet_dist.errors import UserError
from unet_dist.runs import write_files_atomically

LOG_LINES = 20
"""Of a failed atc, that are shown."""


@dataclass(frozen=True, kw_only=True)
class AtcEnd:
    """How one call ended."""

    makes: str
    code: int
    """Of the process; 1 if it was content but wrote no file."""
    log: Path
    last_lines: tuple[str, ...]


def write_conversion(request: AscendRequest, folder: Path, *, will_run: bool) -> ConversionPlan:
    """
    Args:
        will_run: atc is to be run afterwards.

    Raises:
        UserError: with every rule that the request breaks; nothing is written then.
    """
    if faults := [*violations(request), *(_run_faults(request) if will_run else [])]:
        raise UserError(str(request.model.path), faults)
    model = os.path.relpath(request.model.path, folder)
    plan = plan_conversion(request, model=model)
    script = folder / SCRIPT
    if script.is_file():
        note = replaced_note(script.read_text(errors="replace"), plan.files[SCRIPT])
        plan = replace(plan, notes=tuple(filter(None, (*plan.notes, note))))
    contents = {folder / name: text.encode() for name, text in plan.files.items()}
    if request.int8:
        contents[folder / amct_model(amct_stem(request))] = _in_amct_form(request.model.path)
    write_files_atomically(contents, durable=False)
    script.chmod(0o755)
    return plan


def _in_amct_form(path: Path) -> bytes:
    # Here, since it takes time, and models of 8 bits alone need it.
    from unet_dist.deploy.amct_form import to_amct_form

    return content_of(to_amct_form(read_onnx(path)))


def _run_faults(request: AscendRequest) -> list[str]:
    if request.tool == "lite":
        return ["--run runs atc, and --tool lite needs none: leave --run away"]
    if shutil.which("atc") is None:
        return [
            "--run: atc is not on PATH: source CANN's set_env.sh; or leave --run away, and run "
            f"{SCRIPT} where atc is"
        ]
    return []


def check_converted(request: AscendRequest, folder: Path) -> None:
    """
    Raises:
        UserError: what atc is to read is not there yet, since AMCT makes it of what was written.
    """
    deployed = folder / deployed_by_amct(amct_stem(request))
    if request.int8 and not deployed.is_file():
        raise UserError(
            "--run",
            f"there is no {deployed.name} yet: python {folder / AMCT_SCRIPT} where AMCT is "
            "installed, then again",
        )


def run_atc(
    calls: tuple[Call, ...], folder: Path, *, on_start: Callable[[Call], None]
) -> list[AtcEnd]:
    """One after the other, up to the first that fails, each with its log in the folder."""
    ends = []
    for call in calls:
        on_start(call)
        log = folder / call.log
        # What an earlier call left would look like success.
        (folder / call.makes).unlink(missing_ok=True)
        with log.open("wb") as output:
            done = subprocess.run(
                call.argv,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        # Of a signal, as shells tell it.
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        last_lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        if code == 0 and not (folder / call.makes).is_file():
            code, last_lines = 1, [*last_lines, f"atc ended with 0, but wrote no {call.makes}"]
        if code != 0:
            # A part of a file looks like a file.
            (folder / call.makes).unlink(missing_ok=True)
        ends.append(AtcEnd(makes=call.makes, code=code, log=log, last_lines=tuple(last_lines)))
        if code != 0:
            break
    return ends

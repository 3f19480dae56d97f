"""What the commands share: how they speak, and the options that several of them have."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Annotated, Any, NoReturn, get_args

import typer
from rich.console import Console
from typer.core import TyperCommand

from unet_dist.cluster.topology import Part
from unet_dist.config import Tta
from unet_dist.config_file import known_keys
from unet_dist.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_JOB_FAILED, UserError, one_of
from unet_dist.launching.describe import describe_answer, describe_failure, describe_plan
from unet_dist.launching.job import Job, JobResult
from unet_dist.launching.overfit import verdict_of
from unet_dist.launching.placement import plan_job
from unet_dist.progress import Phases
from unet_dist.runs import SPLITS

EXIT_CODES = {"done": EXIT_DONE, "failed": EXIT_JOB_FAILED, "stopped": EXIT_INTERRUPTED}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

TtaOption = Annotated[
    str,
    typer.Option(
        "--tta",
        help="none, flip (4 views) or d4 (8) in place of the run's evaluate.tta. eval chooses a "
        "threshold for it, predict keeps the run's.",
    ),
]


def checked_split(split: str) -> str:
    if split not in SPLITS:
        raise UserError("--split", f"is {split!r}, but must be train, val or test")
    return split


def checked_tta(tta: str) -> str:
    """The option's value; empty if the run's own holds."""
    return one_of("--tta", tta, ("", *get_args(Tta)))


def console_for(as_json: bool) -> Console:
    """Where a person is spoken to: stderr if stdout is for one JSON object."""
    return Console(stderr=as_json, highlight=False, soft_wrap=True)


@contextmanager
def told_phases(left: str) -> Iterator[Phases]:
    """For what is computed in this process: its progress on stderr, and an end by Ctrl-C.

    Args:
        left: what there is after a Ctrl-C.
    """
    console = console_for(as_json=True)
    phases = Phases(console)

    def end(number: int, frame: FrameType | None) -> None:
        phases.__exit__()
        console.print(f"interrupted: {left}", markup=False)
        os._exit(EXIT_INTERRUPTED)

    # While MindSpore compiles or computes, it answers a Ctrl-C with a SIGTERM to its process. An
    # exception in a compilation would be told with all lines of the network that it was at; files
    # are renamed when they are whole, so that nothing has to be undone.
    before = signal.signal(signal.SIGTERM, end)
    try:
        with phases:
            yield phases
    except KeyboardInterrupt:
        console.print(f"interrupted: {left}", markup=False)
        # Not by Python's way out, on which a MindSpore that was half imported aborts.
        os._exit(EXIT_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse(reason: Exception, as_json: bool) -> NoReturn:
    """Ends with 1, since what was made is not good enough to be kept."""
    console = console_for(as_json)
    console.print(str(reason), markup=False)
    if as_json:
        answer(console, True, "", {"state": "failed", "reason": str(reason)})
    raise typer.Exit(EXIT_JOB_FAILED) from reason


def answer(console: Console, as_json: bool, text: str, value: Any) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        console.print(text, markup=False)


def new_app(help_text: str) -> typer.Typer:
    """A group of commands, as all of them behave."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


class TakesKeys(TyperCommand):
    """A command with KEY=VALUE arguments, for those who expect an option such as --epochs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {option for parameter in self.params for option in parameter.opts}
        given = (arg.partition("=")[0] for arg in args if arg.startswith("--"))
        for option in (option for option in given if option not in options):
            name = option.lstrip("-").replace("-", "_")
            keys = [key for key, _ in known_keys() if name in (key, key.rpartition(".")[2])]
            if keys:
                by = " or ".join(f"{key}=VALUE" for key in keys)
                raise UserError(option, f"is no option: it is set by {by}")
        return super().parse_args(ctx, args)


def show_plan(job: Job, as_json: bool) -> None:
    """What ``--dry-run`` prints; nothing is started and nothing written."""
    plan, _ = plan_job(job.run, job.what, job.placement, job.supervision.limits, argv=job.argv)
    answer(job.console, as_json, describe_plan(plan), plan.to_json())


def run_to_end(
    job: Job, part: Part, as_json: bool, prepare: Callable[[], None] = lambda: None
) -> NoReturn:
    """Leads the job, or follows the launcher of part 0; exits with the code that says how it
    ended. ``prepare`` is what the leader does first, with the run to itself."""
    if part.index > 0:
        finish(job, job.follow(), as_json)
    with job.run.locked():
        prepare()
        finish(job, job.lead(), as_json)


def finish(job: Job, result: JobResult, as_json: bool) -> NoReturn:
    """Says how a job ended, and exits with the code that says it."""
    report = {
        "state": result.ending,
        "run": str(job.run.path),
        "attempt": result.attempt.path.name,
        **result.answer,
    }
    if result.failure is not None:
        report["failure"] = asdict(result.failure)
        text = describe_failure(result.failure)
        if result.decision:
            text += f"\n{result.decision}"
    else:
        text = describe_answer(job.run, result.plan, result.ending, result.answer)
    ending = result.ending
    goal = result.plan.job.get("until_dice", 0.0)
    if ending == "done" and goal and result.answer:
        verdict = verdict_of(job.run, result.answer, goal, result.plan.job["doubts"])
        report["overfit"] = verdict.to_json()
        text += f"\n{verdict.to_text()}"
        ending = "done" if verdict.passed else "failed"
    answer(job.console, as_json, text, report)
    if ending == "done" and result.answer.get("faults"):
        ending = "failed"
    raise typer.Exit(EXIT_CODES[ending])

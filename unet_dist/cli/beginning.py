"""How a training begins: anew, from where it stopped, or to learn by heart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from unet_dist.cli.run_config import config_of_run, refuse_folder, refuse_structure
from unet_dist.config import Config
from unet_dist.config_file import (
    build_config,
    dump_config,
    read_yaml_mapping,
    with_absolute_paths,
)
from unet_dist.errors import UserError
from unet_dist.launching.datasets import begin_run, check_capture
from unet_dist.launching.overfit import GOAL, begin_overfit, overfit_config
from unet_dist.launching.placement import Placement
from unet_dist.profiling.capture import CapturePlan
from unet_dist.runs import RunDir, default_run_path, write_text_atomically


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What differs between a new training, one that goes on, and one that learns by heart."""

    folder: RunDir
    placement: Placement
    what: Mapping[str, Any]
    """Of the job: ``split`` that is evaluated at the end, ``until_dice`` it trains, ``doubts``."""
    config_of: Callable[[int], Config]
    """For a number of ranks."""
    prepare: Callable[[int, Console], Mapping[str, Any]]
    """Fills the folder before that many ranks start; changes to ``what``.

    Raises:
        UserError: the data set is faulty, or the folder holds another run.
    """


def resumed(
    target: Path, overrides: list[str], placement: Placement, capture: CapturePlan | None
) -> Beginning:
    folder = RunDir(target)
    config = config_of_run(folder, overrides)
    before = folder.last_plan().get("job", {})

    def prepare(world: int, console: Console) -> Mapping[str, Any]:
        if capture is not None:
            check_capture(folder, config, capture, console)
        write_text_atomically(folder.config, dump_config(config))
        return {}

    return Beginning(
        folder=folder,
        placement=placement.or_else(folder.last_placement()),
        what={
            "split": before.get("split", ""),
            "until_dice": before.get("until_dice", 0.0),
            "doubts": before.get("doubts", []),
        },
        config_of=lambda world: config,
        prepare=prepare,
    )


def begun_anew(
    target: Path,
    overrides: list[str],
    placement: Placement,
    capture: CapturePlan | None,
    *,
    run: Path | None,
    overfit: int,
) -> Beginning:
    refuse_folder(target, "a run")
    name = target.with_stem(f"{target.stem}-overfit") if overfit else target
    folder = RunDir(run or default_run_path(name))
    config = build_config(read_yaml_mapping(target), overrides, where=str(target))
    config = with_absolute_paths(config)
    if not overfit:  # which measures regions
        refuse_structure(config)

    def config_of(world: int) -> Config:
        return overfit_config(config, images=overfit, world=world) if overfit else config

    def prepare(world: int, console: Console) -> Mapping[str, Any]:
        begun, changes = config, {}
        if overfit:
            begun, doubts = begin_overfit(
                folder, config, images=overfit, world=world, console=console
            )
            changes = {"doubts": doubts}
        else:
            begin_run(folder, config, console)
        try:
            if capture is not None:
                check_capture(folder, begun, capture, console)
        except UserError:
            folder.discard()
            raise
        write_text_atomically(folder.config, dump_config(begun))
        return changes

    return Beginning(
        folder=folder,
        placement=placement,
        what={
            "split": "train" if overfit else "",
            "until_dice": GOAL if overfit else 0.0,
            "doubts": [],
        },
        config_of=config_of,
        prepare=prepare,
    )

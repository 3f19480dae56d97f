"""``unet-dist train``, ``eval`` and ``predict``: the jobs of a run."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from unet_dist import launching
from unet_dist.cli.shared import Json, answer, console_for
from unet_dist.cluster.plan import CommKind
from unet_dist.cluster.topology import parts_of_batch
from unet_dist.config import Config
from unet_dist.config_file import (
    build_config,
    dump_config,
    known_keys,
    read_yaml_mapping,
    value_of,
    with_absolute_paths,
)
from unet_dist.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_JOB_FAILED, UserError
from unet_dist.launching import Placement
from unet_dist.runs import RunDir, default_run_path, write_text_atomically

FIXED_SECTIONS = ("data.", "model.")
FIXED_KEYS = (
    "seed",
    "augment.crops_per_image",
    "train.batch",
    "train.optimizer",
    "train.amp",
    "train.ema",
)
MOVABLE_KEYS = ("data.root", "data.cache_mb")

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as train.lr=0.001")
]
Simulate = Annotated[
    int,
    typer.Option(
        min=0,
        help="Number of simulated ranks on this CPU; 0 is 1, unless there is a rank table.",
        show_default=False,
    ),
]
RankTable = Annotated[str, typer.Option(help="HCCL rank table: one process per card.")]
ServerId = Annotated[str, typer.Option(help="This server's server_id in the rank table.")]
Comm = Annotated[
    CommKind, typer.Option(help="Collectives of simulated ranks: mpi, or MindSpore's own.")
]


def train(
    target: Annotated[Path, typer.Argument(help="Configuration file, or run folder to resume.")],
    overrides: Overrides = None,
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    server_id: ServerId = "",
    comm: Comm = "mpi",
    run: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would be started.")] = False,
    as_json: Json = False,
) -> None:
    """Train a U-Net, then score it on the test images and draw the report picture.

    \b
    Examples:
      unet-dist train configs/chasedb1.yaml data.root=DIR --simulate 2 --run runs/chase
      unet-dist train runs/chase --resume
      unet-dist train configs/drive.yaml data.root=DIR --rank-table rank_tables/1x8.json
      unet-dist train configs/vessels.yaml --simulate 4 --dry-run
    """
    console = console_for(as_json)
    placement = _placement(simulate, rank_table, server_id, comm)
    if resume:
        if run is not None:
            raise UserError("--run", f"--resume goes on in {target}; leave --run out")
        folder = RunDir(target)
        config = _config_of_run(folder, overrides or [])
        placement = placement.or_else(folder.last_plan().get("job", {}).get("placement", {}))
    else:
        if target.is_dir():
            raise UserError(str(target), "is a folder; to go on with a run, add --resume")
        folder = RunDir(run or default_run_path(target))
        config = build_config(read_yaml_mapping(target), overrides or [], where=str(target))
        config = with_absolute_paths(config)
    topology = placement.topology()
    _check_fit(config, topology.world, topology.target)
    job = {"kind": "train", "resume": resume, "split": ""}
    if dry_run:
        plan, _ = launching.plan_job(folder, job, placement)
        answer(console, as_json, launching.describe_plan(plan), plan.to_json())
        return
    with folder.locked():
        if not resume:
            launching.begin_run(folder, config, console)
        write_text_atomically(folder.config, dump_config(config))
        _run(folder, job, placement, console, as_json)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    server_id: ServerId = "",
    comm: Comm = "mpi",
    as_json: Json = False,
) -> None:
    """Score the best checkpoint on whole images, at the threshold chosen on validation images.

    \b
    Example:
      unet-dist eval runs/chase --split test --json
    """
    if split not in ("train", "val", "test"):
        raise UserError("--split", f"is {split!r}, but must be train, val or test")
    folder = RunDir(run)
    folder.load_config()
    placement = _placement(simulate, rank_table, server_id, comm)
    placement = placement.or_else(folder.last_plan().get("job", {}).get("placement", {}))
    job = {"kind": "evaluate", "split": split}
    with folder.locked():
        _run(folder, job, placement, console_for(as_json), as_json)


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[list[Path], typer.Argument(help="Images, TIFF stacks, or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    simulate: Simulate = 0,
    rank_table: RankTable = "",
    server_id: ServerId = "",
    as_json: Json = False,
) -> None:
    """Write mask, probability (16 bit) and overlay of each image.

    \b
    Example:
      unet-dist predict runs/chase eye1.png eye2.png --out predictions
    """
    from unet_dist.evaluate.inputs import list_images

    folder = RunDir(run)
    folder.load_config()
    listed = list_images(images)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("--out", f"{out} cannot be made: {error.strerror}") from error
    placement = _placement(simulate, rank_table, server_id, "mpi")
    job = {
        "kind": "predict",
        "out": str(out.resolve()),
        "images": [
            {"path": str(image.ref.path.resolve()), "page": image.ref.page, "stem": image.stem}
            for image in listed
        ],
    }
    with folder.locked():
        _run(folder, job, placement, console_for(as_json), as_json)


def _placement(simulate: int, rank_table: str, server_id: str, comm: CommKind) -> Placement:
    if rank_table and comm != "mpi":
        raise UserError("--comm", "has no effect with --rank-table: cards use HCCL; leave it out")
    table = str(Path(rank_table).resolve()) if rank_table else ""
    return Placement(simulate=simulate, rank_table=table, server_id=server_id, comm=comm)


def _config_of_run(folder: RunDir, overrides: list[str]) -> Config:
    """The run's configuration with overrides, which change it for good: train.epochs=100."""
    before = folder.load_config()
    after = build_config(read_yaml_mapping(folder.config), overrides, where=str(folder.config))
    fixed = [
        key
        for key, _ in known_keys()
        if key in FIXED_KEYS or key.startswith(FIXED_SECTIONS)
        if key not in MOVABLE_KEYS and value_of(before, key) != value_of(after, key)
    ]
    if fixed:
        raise UserError(
            str(folder.path),
            [f"{key} cannot change when a run is resumed; start a new run" for key in fixed],
        )
    return after


def _check_fit(config: Config, world: int, target: str) -> None:
    parts_of_batch(config.train.batch, config.train.accumulation, world)
    if target == "CPU" and config.train.amp == "bf16":
        raise UserError(
            "train.amp", "bf16 has no convolution kernels on the CPU; use fp16 or off there"
        )


def _run(
    folder: RunDir, job: Mapping[str, Any], placement: Placement, console: Console, as_json: bool
) -> None:
    """Runs the job to its end and exits with the code that says how it ended.

    The run must be locked: the number of the attempt is taken here.
    """
    plan, attempt = launching.plan_job(folder, job, placement)
    trains = plan.job["kind"] == "train"
    ending = "failed"
    reason: str | None = "the launcher was ended"
    if trains:
        folder.write_status("running", attempt=attempt.path.name)
    try:
        result, result_of_job = launching.run_job(folder, plan, attempt, console)
        ending = launching.ending_of(result, result_of_job)
        reason = result.failure.reason if result.failure else None
    finally:
        if trains:
            folder.write_status(ending, attempt=attempt.path.name, first_failure=reason)
    report = {
        "state": ending,
        "run": str(folder.path),
        "attempt": attempt.path.name,
        **result_of_job,
    }
    if result.failure is not None:
        report["failure"] = asdict(result.failure)
        text = launching.describe_failure(result.failure)
    else:
        text = launching.describe_answer(folder, plan, ending, result_of_job)
    answer(console, as_json, text, report)
    if ending == "done" and result_of_job.get("faults"):
        ending = "failed"
    codes = {"done": EXIT_DONE, "failed": EXIT_JOB_FAILED, "stopped": EXIT_INTERRUPTED}
    raise typer.Exit(codes[ending])

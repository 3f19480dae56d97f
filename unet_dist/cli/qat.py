"""The training of ``unet-dist quantize --method qat``."""

from rich.console import Console

from unet_dist.cli.shared import EXIT_CODES, finish
from unet_dist.cli.where import supervision_of
from unet_dist.cluster.topology import Part, fitting_ranks
from unet_dist.config_file import dump_config
from unet_dist.errors import UserError
from unet_dist.launching.datasets import begin_run
from unet_dist.launching.job import Job
from unet_dist.launching.placement import Placement, check_fit
from unet_dist.runs import RunDir, write_text_atomically

MAX_RESTARTS = 3


def train_for_8_bits(
    run: RunDir,
    folder: RunDir,
    *,
    epochs: int,
    calibrate: int,
    placement: Placement,
    go_on: str,
    console: Console,
    as_json: bool,
) -> None:
    """Trains into ``folder`` from the weights of ``run``, unless that is done; what was begun there
    goes on. Ends the program if the training fails or is stopped.

    Args:
        go_on: the command that goes on with it when it was stopped.

    Raises:
        UserError: the folder holds another training.
    """
    from unet_dist.deploy.qat import progress_of, qat_config, start_file, write_start
    from unet_dist.deploy.source import open_source

    source = open_source(run, opset=17)
    start = start_file(source, folder, images=calibrate)
    config = qat_config(source.config, start, epochs)
    placement = placement.or_else(folder.last_placement() or run.last_placement())
    topology = placement.topology()
    # The file to start from is written last, when nothing else can be wrong.
    train = config.train.model_copy(update={"start_from": ""})
    check_fit(config.model_copy(update={"train": train}), topology.world, topology.target)
    _refuse_parts(topology.part)
    progress = progress_of(folder, config)
    if progress == "done":
        console.print(f"{folder.path} is trained", markup=False)
        return
    job = Job(
        run=folder,
        what={
            "kind": "train",
            "resume": progress == "begun",
            "split": "",
            "until_dice": 0.0,
            "doubts": [],
            # The model of 8 bits is judged on validation images, when it is made.
            "final_evaluation": False,
            "go_on": go_on,
        },
        placement=placement,
        supervision=supervision_of(topology, max_restarts=MAX_RESTARTS),
        console=console,
        fitting=fitting_ranks(config.train.batch, config.train.accumulation),
    )
    with folder.locked():
        if progress == "new":
            # What was killed before it began leaves a manifest, of data that are checked anew.
            folder.dataset.unlink(missing_ok=True)
            write_start(source, start, images=calibrate)
            begin_run(folder, config, console)
            write_text_atomically(folder.config, dump_config(config))
        else:
            console.print(f"goes on with the training in {folder.path}", markup=False)
        result = job.lead()
    if EXIT_CODES[result.ending]:
        finish(job, result, as_json)


def _refuse_parts(part: Part) -> None:
    if part.count > 1:
        raise UserError(
            "--method qat",
            f"trains on one server, but this is part {part.index} of {part.count}: give a "
            "--rank-table of one server, or --simulate",
        )

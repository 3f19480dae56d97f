"""The data set of a run, checked before any rank starts."""

from rich.console import Console

from unet_dist.config import Config
from unet_dist.errors import UserError
from unet_dist.progress import counter
from unet_dist.runs import RunDir


def refuse_used(folder: RunDir) -> None:
    """A run needs a folder of its own."""
    if folder.config.exists():
        raise UserError(
            str(folder.path),
            f"already holds a run; go on with `unet-dist train {folder.path} --resume`, or "
            "choose another --run",
        )
    if any(path.name != ".lock" for path in folder.path.iterdir()):
        raise UserError(str(folder.path), "is not empty, and not a run; choose another --run")


def begin_run(folder: RunDir, config: Config, console: Console) -> None:
    """Checks the whole data set and writes down what the ranks need of it; a faulty data set
    leaves no run behind."""
    from unet_dist.data.dataset import normalisation
    from unet_dist.data.manifest import write_manifest
    from unet_dist.data.readiness import check_for_training
    from unet_dist.evaluate.structure import structure_of

    refuse_used(folder)
    try:
        with counter(console, "checking images") as count_images:
            report, dataset = check_for_training(config, on_progress=count_images)
        if dataset is None:
            raise UserError(config.data.root or "data.root", report.faults)
        structure_of(config, dataset.coding)  # what the end would refuse, the start does
        write_manifest(folder.dataset, dataset, normalisation(dataset))
    except BaseException:
        folder.discard()
        raise
    for warning in report.warnings:
        console.print(f"warning: {warning}", markup=False)
    sizes = {part: len(samples) for part, samples in dataset.splits.parts().items()}
    console.print(
        f"{sizes['train']} images to train, {sizes['val']} to validate, {sizes['test']} to test; "
        f"masks {dataset.coding.describe()}",
        markup=False,
    )

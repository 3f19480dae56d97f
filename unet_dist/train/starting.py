"""The weights a training starts from, when these are another one's."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from unet_dist.errors import UserError
from unet_dist.runs import RunDir
from unet_dist.train.checkpoint import Arrays, load_best

SHOWN = 8


def starting_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """The best weights of a run folder, averaged if it keeps an average, or those of a file.

    Args:
        shapes: of the network's parameters, by name.

    Raises:
        UserError: with every parameter that is missing, unknown or of another shape.
    """
    if path.is_dir():
        checkpoint, _ = load_best(RunDir(path).checkpoints)
        found = {**checkpoint.weights, **checkpoint.average}
    else:
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(str(path), f"cannot be read as safetensors: {error}") from error
    faults = [f"{name}: not there" for name in shapes if name not in found]
    faults += [f"{name}: the network has no such parameter" for name in found if name not in shapes]
    faults += [
        f"{name}: {found[name].shape} in place of {shape}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != shape
    ]
    if faults:
        more = len(faults) - SHOWN
        raise UserError(
            str(path),
            [
                *faults[:SHOWN],
                *([f"and {more} more"] if more > 0 else []),
                "train.start_from needs weights of the same model section and channels",
            ],
        )
    return found

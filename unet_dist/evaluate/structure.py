"""What kind of structure the masks hold, which decides what is measured at the end."""

from typing import Literal

from unet_dist.config import Config
from unet_dist.data.masks import MaskCoding
from unet_dist.errors import UserError

Structure = Literal["region", "tubular", "partition", "objects"]


def structure_of(config: Config, coding: MaskCoding) -> Structure:
    """The configured structure, or the one that fits the data.

    Raises:
        UserError: if the masks have no such structure.
    """
    numbered = coding.kind in ("instances", "instances_border")
    asked = config.evaluate.structure
    if asked == "auto":
        if config.data.classes == 2 and config.data.is_retina:
            return "tubular"
        if config.data.classes == 2 and config.data.format == "isbi2012":
            return "partition"
        return "objects" if numbered else "region"
    if asked == "objects" and not numbered:
        raise UserError(
            "evaluate.structure",
            f"objects needs masks that number the objects, but these are {coding.kind}: set "
            "data.mask=instances or another structure",
        )
    if asked in ("tubular", "partition") and config.data.classes > 2:
        raise UserError(
            "evaluate.structure",
            f"{asked} is for one foreground class, but data.classes is {config.data.classes}: "
            "set region",
        )
    return asked

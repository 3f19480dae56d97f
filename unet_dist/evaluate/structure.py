"""What kind of structure the masks hold, which decides what is measured at the end."""

from typing import Literal

from unet_dist.config import Config
from unet_dist.data.masks import Kind, MaskCoding, expected_kind
from unet_dist.errors import UserError

Structure = Literal["region", "tubular", "partition", "objects"]

DIVISION = 3
"""The way objects and cells are told apart (``objects.find_objects``, ``partition``). It counts up
with every change of numbers: a threshold was chosen for one way, and results of two differ. 2: by
the objects' own diameter. 3: cells end where the field of view does."""


def structure_of(config: Config, coding: MaskCoding) -> Structure:
    """The configured structure, or the one that fits the data.

    Raises:
        UserError: if the masks have no such structure.
    """
    asked = config.evaluate.structure
    if asked == "auto":
        if config.data.classes == 2 and config.data.is_retina:
            return "tubular"
        if config.data.classes == 2 and config.data.format == "isbi2012":
            return "partition"
        return "objects" if _numbers_objects(coding.kind) else "region"
    _refuse(config, coding.kind)
    return asked


def check_structure(config: Config) -> None:
    """Raises UserError as ``structure_of`` would, before any mask is read."""
    _refuse(config, expected_kind(config.data))


def why_not(structure: str, config: Config, kind: Kind | None) -> str:
    """Why masks of this kind have no such structure; empty if they have it.

    Args:
        kind: None where the masks' values decide it: they never say that they number objects.
    """
    if structure == "objects" and not _numbers_objects(kind):
        coding = f"of classes (data.mask={config.data.mask})" if kind is None else kind
        return f"objects needs masks that number the objects, but these are {coding}"
    if structure in ("tubular", "partition") and config.data.classes > 2:
        return f"{structure} is for one foreground class, but data.classes is {config.data.classes}"
    return ""


def _refuse(config: Config, kind: Kind | None) -> None:
    structure = config.evaluate.structure
    if reason := why_not(structure, config, kind):
        numbered = "data.mask=instances or another structure"
        cure = numbered if structure == "objects" else "region"
        raise UserError("evaluate.structure", f"{reason}: set {cure}")


def _numbers_objects(kind: Kind | None) -> bool:
    return kind in ("instances", "instances_border")

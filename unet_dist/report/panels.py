"""One image as four pictures: itself, its truth, the prediction and where they differ."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_dist.data.colours import Rgb, class_colours, object_colours
from unet_dist.data.sample import IGNORE
from unet_dist.evaluate import overlays
from unet_dist.evaluate.metrics import hard_prediction
from unet_dist.evaluate.overlays import (
    CORRECT,
    FALSE,
    MISSED,
    error_codes,
    image_bytes,
    to_rgb_bytes,
)

GREY = (70, 74, 82)  # pixels outside the field of view or with unknown truth
WHITE = (255, 255, 255)
ORANGE, BLUE = (tuple(overlays.ERROR_COLOURS[code].tolist()) for code in (FALSE, MISSED))
BLACK = (0, 0, 0)

ERROR_COLOURS = np.zeros((4, 3), np.uint8)
ERROR_COLOURS[[CORRECT, FALSE, MISSED]] = WHITE, ORANGE, BLUE

MEANINGS = (
    (WHITE, "found (true positive)"),
    (ORANGE, "not there (false positive)"),
    (BLUE, "missed (false negative)"),
    (GREY, "not counted"),
)
"""Colours of the errors of one foreground class."""

RIGHT = (150, 150, 150)
MEANINGS_OF_SEVERAL = (
    (RIGHT, "right class"),
    (WHITE, "missed: predicted as background"),
    (GREY, "not counted"),
)
"""Of several classes: none of the palette of classes, whose colours mean what is wrongly
predicted."""


MEANINGS_OF_OBJECTS = (
    (WHITE, "found: overlaps a true object by more than half"),
    (ORANGE, "false, merged or split"),
    (BLUE, "missed"),
    (GREY, "not counted"),
)
"""Of single objects."""


def column_names(*, several: bool, objects: bool = False) -> tuple[str, str, str, str]:
    """Over the four pictures."""
    if objects:
        return "image", "true objects", "objects found", "errors"
    if several:
        return "image", "truth", "most probable class", "errors: class wrongly predicted"
    return "image", "truth", "predicted probability", "errors"


def meanings_of(*, several: bool, objects: bool) -> tuple[tuple[Rgb, str], ...]:
    """The legend below them: colours of the errors."""
    if objects:
        return MEANINGS_OF_OBJECTS
    return MEANINGS_OF_SEVERAL if several else MEANINGS


STRIP_SIDE = 420
"""Longer side of a picture of ``strip``, in pixels."""
STRIP_GAP = 6


@dataclass(frozen=True, kw_only=True)
class ObjectsShown:
    """Numbers of objects, 0 where there is none."""

    true_hw: NDArray[np.integer]
    found_hw: NDArray[np.integer]
    errors_hw: NDArray[np.uint8]
    """See ``evaluate.objects.object_errors``."""


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """One image to show."""

    id: str
    image_hwc: NDArray[np.float32]
    """One channel or three, 0..1."""
    truth_hw: NDArray[np.uint8]
    """Class numbers and ``IGNORE``."""
    prob_hwk: NDArray[np.float32]
    threshold: float | None
    """None: the most probable of several classes."""
    fov_hw: NDArray[np.bool_]
    dice: float
    """NaN if the image has no foreground, neither drawn nor predicted."""
    class_names: tuple[str, ...] = ()
    """Background first, for the legend of several classes."""
    objects: ObjectsShown | None = None
    """Where masks number them: shown in place of classes."""

    @property
    def unknown_hw(self) -> NDArray[np.bool_]:
        """Pixels that do not count."""
        return np.asarray(~self.fov_hw | (self.truth_hw == IGNORE))


def panels(row: PictureRow) -> tuple[NDArray[np.uint8], ...]:
    """Image, truth, prediction and errors, each as bytes [H, W, 3].

    The prediction is the probability of the only foreground class as grey, or the most probable
    class in its colour. Errors: white is right, orange is foreground that is not there, blue is
    foreground that was missed. With several classes, whose colours would clash with these: grey is
    right, white was missed, and what is wrong has the colour of the class that was predicted.
    Single objects each have a colour, and are right, wrong or missed as a whole.
    """
    if row.objects is not None:
        return _object_panels(row, row.objects)
    decided_hw = hard_prediction(row.prob_hwk, row.threshold)
    unknown_hw = row.unknown_hw
    truth_hw = np.where(unknown_hw, 0, row.truth_hw)
    if row.threshold is None:
        colours = np.array(class_colours(row.prob_hwk.shape[2]), np.uint8)
        prediction_hwc = colours[decided_hw]
    else:
        colours = np.array([BLACK, WHITE], np.uint8)
        prediction_hwc = to_rgb_bytes(row.prob_hwk[:, :, -1:])
    codes_hw = error_codes(decided_hw, row.truth_hw, row.fov_hw)
    errors_hwc = ERROR_COLOURS[codes_hw]
    if row.threshold is None:
        errors_hwc[codes_hw == CORRECT] = RIGHT
        errors_hwc[codes_hw == FALSE] = colours[decided_hw[codes_hw == FALSE]]
        errors_hwc[codes_hw == MISSED] = WHITE
    shown_hwc = colours[truth_hw]
    for picture_hwc in (shown_hwc, errors_hwc):
        picture_hwc[unknown_hw] = GREY
    prediction_hwc[~row.fov_hw] = GREY
    return image_bytes(row.image_hwc), shown_hwc, prediction_hwc, errors_hwc


def _object_panels(row: PictureRow, objects: ObjectsShown) -> tuple[NDArray[np.uint8], ...]:
    pictures = [_objects_apart(hw) for hw in (objects.true_hw, objects.found_hw)]
    pictures.append(ERROR_COLOURS[objects.errors_hw])
    for picture_hwc in pictures:
        picture_hwc[row.unknown_hw] = GREY
    return image_bytes(row.image_hwc), *pictures


def _objects_apart(numbers_hw: NDArray[np.integer]) -> NDArray[np.uint8]:
    """In colours, of which there are fewer than objects: a black line parts those that touch."""
    picture_hwc = np.asarray(object_colours(int(numbers_hw.max(initial=0)))[numbers_hw])
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        one, other = numbers_hw[here], numbers_hw[there]
        picture_hwc[here][(one != other) & (one > 0) & (other > 0)] = BLACK
    return picture_hwc


def shown_panels(row: PictureRow) -> list[NDArray[np.uint8]]:
    """The four pictures, reduced."""
    return [reduced(one) for one in panels(row)]


def reduced(picture_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """To at most ``STRIP_SIDE``."""
    height, width = picture_hwc.shape[:2]
    factor = min(1.0, STRIP_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(picture_hwc, size, interpolation=cv2.INTER_AREA), np.uint8)


def strip(row: PictureRow) -> NDArray[np.uint8]:
    """The four pictures side by side, reduced."""
    small = shown_panels(row)
    gap_hwc = np.full((len(small[0]), STRIP_GAP, 3), 255, np.uint8)
    joined = [part for one in small for part in (one, gap_hwc)]
    return np.concatenate(joined[:-1], axis=1)

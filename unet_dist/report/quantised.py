"""One file that tells what 8 bits have cost: both predictions of some images side by side."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.balance import SMALLEST_SAMPLE
from unet_dist.data.colours import Rgb
from unet_dist.errors import counted
from unet_dist.report.panels import (
    BLACK,
    BLUE,
    GREY,
    MEANINGS,
    MEANINGS_OF_SEVERAL,
    ORANGE,
    STRIP_GAP,
    PictureRow,
    column_names,
    reduced,
    shown_panels,
)
from unet_dist.report.template import render, shown_picture

TEMPLATE = Path(__file__).with_name("quantised.html.j2")
MOST_LAYERS = 20
FULL_COLOUR = 0.1
"""Difference of probabilities from which on its colour is the full one: ten times as strong as
probabilities are shown, and the same in every report, so that two can be compared."""


def quantised_html(
    record: Mapping[str, Any],
    pictures: Sequence[tuple[str, Sequence[bytes]]],
    *,
    classes: int,
    even_light: bool,
) -> str:
    """
    Args:
        record: of ``quantize.json``.
        pictures: caption and PNGs of each, those of ``pair_strips``.
        classes: with the background.
        even_light: the images are shown as the network sees them, their light evened.
    """
    options = record["options"]
    runtime = options["runtime"]
    image, truth, prediction, _ = column_names(several=classes > 2)
    return render(
        TEMPLATE,
        verdict=headline(record),
        notes=notes_of(record),
        faults=record["faults"],
        rows=_rows(record),
        others=[f"{name}: {dice:.4f}" for name, dice in record["dice"].items() if name != runtime],
        settings=_settings(record),
        rows_of_panels=(
            ("input, light evened" if even_light else image, truth, "errors of 8 bits"),
            ("float32", "8 bits", "8 bits - float32"),
        ),
        prediction=prediction,
        legend=MEANINGS_OF_SEVERAL if classes > 2 else MEANINGS,
        differences=_differences(classes),
        full_colour=f"{FULL_COLOUR:g}",
        pictures=[
            {"caption": caption, "strips": [shown_picture(png) for png in pngs]}
            for caption, pngs in pictures
        ],
        layers=_layers(record),
        all_layers=len(record["sensitivities"]),
    )


def _settings(record: Mapping[str, Any]) -> list[str]:
    """What was rounded, how, and what it predicts by."""
    options, threshold = record["options"], record["threshold"]
    images = f"{record['calibrated_on']} of {counted(record['training_images'], 'training image')}"
    if record["epochs"] is None:
        method = "ptq, after training"
        ranges = f"{images}, ranges by {options['calibration']}"
    else:
        method = f"qat, {counted(record['epochs'], 'epoch')} of training that saw 8 bits"
        ranges = f"ranges learnt in that training, begun from those of {images} (minmax)"
    found = [
        f"run {Path(record['run']).name}, weights {record['checkpoint_sha256'][:16]}",
        f"method {method}",
        ranges,
        f"activations {options['activations']}, weights s8 by output channel",
        "the most probable class wins" if threshold is None else f"threshold {threshold:g}",
    ]
    if record["agreement"] is not None:
        found.append(
            f"{record['agreement']:.2%} of the pixels of validation images have the class that the "
            "training gave them"
        )
    return found


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is measured, and its values of float32 and of 8 bits."""
    validation, runtime = record["validation"], record["options"]["runtime"]
    return [
        (
            f"Dice, mean of {counted(validation['images'], 'validation image')}, "
            f"{counted(validation['views'], 'view')} of each",
            f"{record['dice_float32']:.4f}",
            f"{record['dice'][runtime]:.4f}",
        ),
        ("file, bytes", f"{record['bytes_float32']:,}", f"{record['bytes']:,}"),
        (
            f"a batch of tiles by {runtime}, ms",
            f"{1000 * record['seconds_float32']:.1f}",
            f"{1000 * record['seconds']:.1f}",
        ),
    ]


def _layers(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Those whose rounding moves the output most."""
    return [
        {
            "name": name,
            "error": f"{error:.2g}",
            "bits": "float32" if name in record["float_layers"] else "8",
        }
        for name, error in list(record["sensitivities"].items())[:MOST_LAYERS]
    ]


def _differences(classes: int) -> list[tuple[Rgb, str]]:
    """The legend of the last panel."""
    if classes > 2:
        return [(BLACK, "equal"), (ORANGE, "the class that differs most")]
    return [
        (BLACK, "equal"),
        (BLUE, "less probable in 8 bits"),
        (ORANGE, "more probable in 8 bits"),
        (GREY, "not counted"),
    ]


def headline(record: Mapping[str, Any]) -> str:
    """What 8 bits have cost and gained, and on how much that rests."""
    before, after = (round(dice, 4) for dice in _both(record))
    left = len(record["float_layers"])
    stays = f", {left} of {record['layers']} layers in float32" if left else ""
    return (
        # Of the rounded numbers, so that it agrees with them.
        f"8 bits: Dice {after:.4f}, {after - before:+.4f} to float32, on "
        f"{counted(record['validation']['images'], 'validation image')}; {record['size']:.1%} of "
        f"the size, {record['speedup']:.2f} times as fast by {record['options']['runtime']}{stays}"
    )


def _both(record: Mapping[str, Any]) -> tuple[float, float]:
    return record["dice_float32"], record["dice"][record["options"]["runtime"]]


def notes_of(record: Mapping[str, Any]) -> list[str]:
    """What the headline does not tell, and what to do about it."""
    return list(
        filter(None, (_few(record), _calibration(record), _threshold(record), _compact(record)))
    )


def _few(record: Mapping[str, Any]) -> str:
    validation = record["validation"]
    units, unit = validation["units"], validation["unit"]
    if units >= SMALLEST_SAMPLE:
        return ""
    found = f"those of validation are of {units}" if unit == "patient" else f"there are {units}"
    return (
        f"an interval of the Dice needs {SMALLEST_SAMPLE} {unit}s at least, but {found}: they "
        "hardly tell whether 8 bits are worse; unet-dist deploy bench tells the Dice of both on "
        "the test images"
    )


def _calibration(record: Mapping[str, Any]) -> str:
    options, seen = record["options"], record["calibrated_on"]
    if options["method"] != "ptq" or seen >= options["calibrate"]:
        return ""
    return (
        f"calibrated on all of the {counted(seen, 'training image')}: --calibrate "
        f"{options['calibrate']} asks for more than there are"
    )


def _threshold(record: Mapping[str, Any]) -> str:
    now, before = record["threshold"], record["threshold_float32"]
    if now == before:
        return ""
    return (
        "the threshold was chosen anew, on validation images in the training with 8 bits: "
        f"{now:g}, where the run has {before:g}"
    )


def _compact(record: Mapping[str, Any]) -> str:
    if record["layout"] == "plain":
        return ""
    share, limit = record["bytes_plain"] / record["bytes_float32"], record["options"]["max_size"]
    # Rounded up, or the advice would be refused.
    wider = f" --max-size {math.ceil(1000 * share) / 1000:g}" if share > limit else ""
    return (
        "layout compact: the file has its layers as ONNX functions, which ONNX Runtime and "
        "unet-dist read, but neither OpenVINO itself nor atc, AMCT and other converters. For them "
        f"quantize again with --layout plain{wider}: {record['bytes_plain']:,} bytes in place of "
        f"{record['bytes']:,}, {share:.1%} of the size"
    )


def pair_strips(before: PictureRow, after: PictureRow) -> list[NDArray[np.uint8]]:
    """Image, truth and errors after; below them prediction before and after, and what changed.
    In two rows, since six panels side by side are too small to see a thin vessel."""
    image, truth, first, _ = shown_panels(before)
    _, _, second, errors = shown_panels(after)
    changed = reduced(difference_picture(before, after))
    return [_beside((image, truth, errors)), _beside((first, second, changed))]


def _beside(shown: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap_hwc = np.full((len(shown[0]), STRIP_GAP, 3), 255, np.uint8)
    joined = [part for one in shown for part in (one, gap_hwc)]
    return np.concatenate(joined[:-1], axis=1)


def difference_picture(before: PictureRow, after: PictureRow) -> NDArray[np.uint8]:
    """Bytes [H, W, 3]: black where the probabilities are equal, the brighter the more the
    foreground became more (orange) or less probable (blue); of several classes the one that
    changed most, in orange."""
    change_hwk = after.prob_hwk - before.prob_hwk
    is_several = before.threshold is None
    change_hw = np.abs(change_hwk).max(axis=2) if is_several else change_hwk[:, :, -1]
    share_hw1 = np.minimum(np.abs(change_hw) / FULL_COLOUR, 1)[:, :, None]
    colour_hwc = np.where(change_hw[:, :, None] > 0, np.array(ORANGE), np.array(BLUE))
    picture_hwc: NDArray[np.uint8] = np.rint(share_hw1 * colour_hwc).astype(np.uint8)
    picture_hwc[~before.fov_hw] = GREY
    return picture_hwc

"""One file that tells what 8 bits have cost: both predictions of some images side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.report.panels import (
    MEANINGS,
    MEANINGS_OF_SEVERAL,
    STRIP_GAP,
    PictureRow,
    column_names,
    shown_panels,
)
from unet_dist.report.template import render, shown_picture

TEMPLATE = Path(__file__).with_name("quantised.html.j2")
MOST_LAYERS = 20


def quantised_html(
    record: Mapping[str, Any], pictures: Sequence[tuple[str, bytes]], *, classes: int
) -> str:
    """
    Args:
        record: of ``quantize.json``.
        pictures: caption and PNG of each.
        classes: with the background.
    """
    options = record["options"]
    runtime = options["runtime"]
    image, truth, prediction, _ = column_names(several=classes > 2)
    return render(
        TEMPLATE,
        verdict=_verdict(record),
        faults=record["faults"],
        rows=[
            (
                "Dice on validation images",
                f"{record['dice_float32']:.4f}",
                f"{record['dice'][runtime]:.4f}",
            ),
            ("file, bytes", f"{record['bytes_float32']:,}", f"{record['bytes']:,}"),
            (
                f"a batch of tiles by {runtime}, ms",
                f"{1000 * record['seconds_float32']:.1f}",
                f"{1000 * record['seconds']:.1f}",
            ),
        ],
        others=[f"{name}: {dice:.4f}" for name, dice in record["dice"].items() if name != runtime],
        settings=[
            f"{record['calibrated_on']} training images, ranges by {options['calibration']}",
            f"activations {options['activations']}, weights s8 by output channel",
        ],
        panels=(image, truth, "float32", "8 bits", "errors of 8 bits"),
        prediction=prediction,
        legend=MEANINGS_OF_SEVERAL if classes > 2 else MEANINGS,
        pictures=[{"caption": caption, **shown_picture(png)} for caption, png in pictures],
        layers=[
            {
                "name": name,
                "error": f"{error:.2g}",
                "bits": "float32" if name in record["float_layers"] else "8",
            }
            for name, error in list(record["sensitivities"].items())[:MOST_LAYERS]
        ],
    )


def _verdict(record: Mapping[str, Any]) -> str:
    left = len(record["float_layers"])
    stays = f", {left} of {record['layers']} layers in float32" if left else ""
    return (
        f"8 bits: Dice {-record['drop']:+.4f}, {record['size']:.1%} of the size, "
        f"{record['speedup']:.2f} times as fast{stays}"
    )


def pair_strip(before: PictureRow, after: PictureRow) -> NDArray[np.uint8]:
    """Image, truth, prediction before and after, and the errors after, side by side."""
    image, truth, first, _ = shown_panels(before)
    _, _, second, errors = shown_panels(after)
    gap_hwc = np.full((len(image), STRIP_GAP, 3), 255, np.uint8)
    joined = [part for one in (image, truth, first, second, errors) for part in (one, gap_hwc)]
    return np.concatenate(joined[:-1], axis=1)

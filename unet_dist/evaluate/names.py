"""The metrics by their names in results, in the order in which they are shown."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    title: str
    """For a reader who knows the field."""
    lower_is_better: bool = False
    in_pixels: bool = False
    """All others lie in 0 to 1."""


METRICS = {
    "foreground_dice": Metric("Dice of all object pixels"),
    "dice": Metric("Dice of the foreground"),
    "iou": Metric("IoU of the foreground"),
    "ap_50": Metric("object AP at IoU 0.5, TP / (TP + FP + FN)"),
    "ap_50_95": Metric("object AP, mean of IoU 0.5 to 0.95"),
    "aji": Metric("aggregated Jaccard index"),
    "v_rand": Metric("V_rand after border thinning"),
    "v_rand_split": Metric("V_rand, split part"),
    "v_rand_merge": Metric("V_rand, merge part"),
    "v_info": Metric("V_info after border thinning"),
    "v_info_split": Metric("V_info, split part"),
    "v_info_merge": Metric("V_info, merge part"),
    "cldice": Metric("centre line Dice (clDice)"),
    "sensitivity": Metric("sensitivity (recall)"),
    "specificity": Metric("specificity"),
    "precision": Metric("precision"),
    "accuracy": Metric("pixel accuracy"),
    "auc": Metric("area under the ROC curve"),
    "average_precision": Metric("average precision of pixels"),
    "hausdorff_95": Metric(
        "Hausdorff distance, 95 %, pixels", lower_is_better=True, in_pixels=True
    ),
    "assd": Metric("mean surface distance, pixels", lower_is_better=True, in_pixels=True),
    "calibration_error": Metric("expected calibration error", lower_is_better=True),
    "dice_with_background": Metric("mean Dice with the background"),
    "soft_dice_with_background": Metric("soft Dice with the background"),
}


def main_dice(measured: Container[str]) -> str:
    """The Dice to lead with, of a result or of an image's row: of numbered objects that of all
    their pixels, since its classes (inside, border) are only a means to tell them apart."""
    return "foreground_dice" if "foreground_dice" in measured else "dice"


def title_of(name: str, *, several: bool) -> str:
    """For a reader; with several foreground classes Dice and IoU are means over them."""
    title = METRICS[name].title
    if several and name in ("dice", "iou"):
        return title.replace("of the foreground", "of each class, mean")
    return title


def title_in_class(name: str) -> str:
    """Where the class stands beside it."""
    return METRICS[name].title.removesuffix(" of the foreground")


OPTIMISTIC = "the epochs and the threshold were chosen on these very images, so it is optimistic"
"""Of scores of validation images, also those that folds left out."""


def interval_text(values: Mapping[str, Any], name: str, *, unit: str = "") -> str:
    """The 95 % interval of a metric in a result of ``evaluate.results``, or why it has none; empty
    if the metric is not defined or none was asked for.

    Args:
        unit: image or patient, for a row without a protocol of its own.
    """
    from unet_dist.data.balance import SMALLEST_SAMPLE  # NumPy, which most commands do without

    if values[name] is None or name not in values["intervals"]:
        return ""
    interval = values["intervals"][name]
    if interval is None:
        return f"needs {SMALLEST_SAMPLE} {unit or values['protocol']['bootstrap']['unit']}s"
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def at_threshold(threshold: float | None) -> str:
    """To be appended to what was measured there; empty where the most probable class wins."""
    return "" if threshold is None else f", threshold {threshold:g}"


def decimals(value: float | None) -> str:
    """As metrics are shown; None where one is not defined."""
    return "undefined" if value is None else f"{value:.4f}"


def structure_sentence(result: Mapping[str, Any]) -> str:
    """How cells or objects were found; empty for other structures."""
    structure = result["structure"]
    chosen, origin = structure["threshold"], structure["threshold_source"]
    if result["split"] == "val" and origin == "validation":
        origin += ": these very images, so that it is optimistic"
    if structure["kind"] == "partition":
        return (
            f"Cells lie at least {chosen:g} deep (from {origin}) between membranes, in the square "
            f"root of the probability, smoothed by {structure['cell_smoothing']:g} pixels."
        )
    if structure["kind"] == "objects":
        return (
            f"Objects, and their pixels, have probability >= {chosen:g} (threshold from {origin}); "
            f"objects of fewer than {structure['min_object']} pixels are dropped."
        )
    return ""

"""Predictions for several numbers of cards, each with the best way to divide the step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unet_dist.profiling.model_costs import BACKWARD
from unet_dist.profiling.scaling import (
    Prediction,
    Split,
    Topology,
    Workload,
    best_buckets,
    best_split,
    predict,
)

WORTH = 0.01
"""Of a step: what saves less is not recommended."""


@dataclass(frozen=True, kw_only=True)
class CardsPrediction:
    plain: Prediction
    """As many images on each card as now, or an even share of the batch."""
    best: Prediction | None
    """Of the ways to divide the same images that fit into memory; None if none does."""
    buckets: int
    """Parts of the gradients that are best sent one after the other."""
    bucket_exposed_s: float
    why: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def predict_cards(
    workload: Workload,
    cards: Sequence[int],
    topology: Topology,
    *,
    images: int,
    batch: int,
    memory_bytes: float,
) -> list[CardsPrediction]:
    """Args:
    images: of a card, where ``batch`` is 0.
    batch: of all cards; numbers of cards that do not divide it are left out.
    """
    found = []
    for number in cards:
        if batch and batch % number:
            continue
        each = batch // number if batch else images
        plain = predict(workload, Split(cards=number, images=each), topology)
        best = best_split(workload, number, each * number, topology, memory_bytes=memory_bytes)
        backward = plain.computing_s * BACKWARD / (1 + BACKWARD)
        buckets, exposed = best_buckets(
            workload.gradient_bytes, number, topology, backward_s=backward
        )
        found.append(
            CardsPrediction(
                plain=plain,
                best=best,
                buckets=buckets,
                bucket_exposed_s=exposed,
                why=_why(plain, best, exposed, memory_bytes),
            )
        )
    return found


def _why(plain: Prediction, best: Prediction | None, exposed: float, memory: float) -> str:
    if best is None:
        return f"no division fits into {memory / 1e9:g} GB"
    reasons = []
    if best.split != plain.split:
        needs = plain.memory_bytes / 1e9
        reasons.append(f"{plain.split.images} images at once need {needs:.1f} GB")
    if plain.communication_s > 0.05 * plain.step_s:
        share = plain.communication_s / plain.step_s
        reasons.append(f"{share:.0%} of the step is exposed communication")
        if exposed < 0.5 * plain.communication_s:
            reasons.append("sending gradients in parts would hide most of it")
    return "; ".join(reasons) or "the simplest way is the fastest"


def prediction_lines(found: Sequence[CardsPrediction]) -> list[str]:
    lines = [
        " cards    batch   step ms    images/s  efficiency  all-reduce ms  GB a card  by",
    ]
    for one in found:
        plain = one.plain
        lines.append(
            f"{plain.split.cards:6} {plain.split.batch:8} {plain.step_s * 1e3:9.2f} "
            f"{plain.images_per_s:11.1f} {plain.efficiency:11.1%} "
            f"{plain.communication_s * 1e3:14.3f} {plain.memory_bytes / 1e9:10.2f}  "
            f"{plain.algorithm}"
        )
    for one in found:
        lines.append(f"{one.plain.split.cards} cards: {_recommended(one)} ({one.why})")
    lines.append(
        "Predicted by the alpha-beta model with nominal links; not measured on cards. Efficiency "
        "is that of a card against one card alone."
    )
    return lines


def _recommended(one: CardsPrediction) -> str:
    if one.best is None:
        return "smaller crops, or a narrower network"
    split = one.best.split
    text = f"train.batch={split.batch}"
    if split.accumulation > 1:
        text += f" train.accumulation={split.accumulation}"
    if split.sharded:
        text += ", the optimiser's state divided over the cards"
    saved = one.plain.communication_s - one.bucket_exposed_s
    worth = one.buckets > 1 and saved > WORTH * one.plain.step_s
    return text + (f", gradients in {one.buckets} parts" if worth else "")

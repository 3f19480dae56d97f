"""Predictions for several numbers of cards, each with the best way to divide the step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unet_dist.profiling.scaling import (
    WORTH,
    Prediction,
    Split,
    Topology,
    Workload,
    best_split,
    predict,
)


@dataclass(frozen=True, kw_only=True)
class CardsPrediction:
    plain: Prediction
    """As many images on each card as now, or an even share of the batch."""
    best: Prediction | None
    """Of the ways to divide the same images that fit into memory; None if none does."""
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
    batch: of all cards; numbers of cards that cannot share it evenly are left out.
    """
    found = []
    for number in cards:
        each = batch // number if batch else images
        best = best_split(
            workload, number, batch or each * number, topology, memory_bytes=memory_bytes
        )
        if batch and batch % number:
            # Cards that share images may divide a batch that single cards cannot.
            if best is None:
                continue
            plain = best
        else:
            plain = predict(workload, Split(cards=number, images=each), topology)
        found.append(CardsPrediction(plain=plain, best=best, why=_why(plain, best, memory_bytes)))
    return found


def _why(plain: Prediction, best: Prediction | None, memory: float) -> str:
    if best is None:
        return f"no division fits into {memory / 1e9:g} GB"
    reasons = []
    if plain.memory_bytes > memory:
        needs = plain.memory_bytes / 1e9
        reasons.append(f"{plain.split.images} images at once need {needs:.1f} GB")
    if best.split.strips > 1:
        share = best.exchange_s / best.step_s
        reasons.append(f"the rows that strips exchange are {share:.0%} of the step")
    if plain.communication_s > 0.05 * plain.step_s:
        share = plain.communication_s / plain.step_s
        reasons.append(f"{share:.0%} of the step is exposed communication")
    if best.step_s < (1 - WORTH) * plain.step_s:
        reasons.append(f"{plain.step_s * 1e3:.2f} ms become {best.step_s * 1e3:.2f}")
    return "; ".join(reasons) or "the simplest way is the fastest"


def prediction_lines(found: Sequence[CardsPrediction], links: str) -> list[str]:
    """Args:
    links: where their speed is known from.
    """
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
        f"Predicted by the alpha-beta model with {links}; not measured on cards. Efficiency is "
        "that of a card against one card alone."
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
    if split.strips > 1:
        text += (
            f", each image cut into {split.strips} strips of a card each (which this program does "
            "not do)"
        )
    return text + (f", gradients in {split.buckets} parts" if split.buckets > 1 else "")

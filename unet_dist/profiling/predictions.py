"""Predictions for several numbers of cards, each with the best way to divide the step."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unet_dist.errors import UserError
from unet_dist.profiling.scaling import WORTH, Prediction, Split, best_split, predict, splits_of
from unet_dist.profiling.workload import KnownStep

NOT_PREDICTED = ("waiting", "late", "bubble", "beside")
"""Parts of a measured step that other numbers of cards are not predicted to have."""


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
    step: KnownStep, cards: Sequence[int], *, batch: int, memory_bytes: float
) -> list[CardsPrediction]:
    """
    Args:
        batch: of all cards; 0 for as many images on each card as now. Numbers of cards that cannot
            share it evenly are left out.

    Raises:
        UserError: none of them can.
    """
    workload, topology, images = step.workload, step.topology, step.images
    uneven = uneven_lines(step, cards, batch=batch)
    if len(uneven) == len(cards):
        raise UserError("--cards", uneven)
    found = []
    for number in cards:
        if batch and not splits_of(number, batch, batch, rows=workload.rows):
            continue
        each = batch // number if batch else images
        best = best_split(
            workload, number, batch or each * number, topology, memory_bytes=memory_bytes
        )
        if batch and batch % number:
            # Cards that share images may divide a batch that single cards cannot.
            if best is None:
                needs = f"{batch} images over {number} cards"
                raise UserError("--memory-gb", f"{needs} fit into {memory_bytes / 1e9:g} GB in no "
                                "way: take fewer images, or more memory")  # fmt: skip
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


def uneven_lines(step: KnownStep, cards: Sequence[int], *, batch: int) -> list[str]:
    return [
        f"{batch} images do not divide over {number} cards"
        for number in cards
        if batch and not splits_of(number, batch, batch, rows=step.workload.rows)
    ]


def notes_of(step: KnownStep) -> list[str]:
    """What predictions of a step hold of, the most important first."""
    notes = []
    if step.simulated:
        notes.append(
            "Simulated ranks share one CPU: computing is that of a rank on the CPU, and only links "
            f"are those of {step.topology.name}. Nothing here is a speed of cards."
        )
    if step.cards:
        split = Split(cards=step.cards, images=step.images)
        told = predict(step.workload, split, step.topology).step_s * 1e3
        left_out = sum(step.parts[name] for name in NOT_PREDICTED) / 1e6
        whole = step.parts["step"] / 1e6
        notes.append(
            f"On {step.cards} {'ranks' if step.simulated else 'cards'} a step was measured with "
            f"{whole:.2f} ms and is predicted with {told:.2f}: of the measured one {left_out:.2f} "
            f"ms ({left_out / whole:.0%}) are waiting for other ranks, communication that is not "
            "explained, validation and checkpoints, which are left out of all predictions."
        )
    return [*notes, step.source] if step.source else notes


def prediction_lines(
    found: Sequence[CardsPrediction], step: KnownStep, notes: Sequence[str]
) -> list[str]:
    lines = [
        *notes,
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
        f"Predicted by the alpha-beta model with {step.links}; not measured on cards. Efficiency "
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
    if split.strips > 1:
        text += (
            f", each image cut into {split.strips} strips of a card each (which this program does "
            "not do)"
        )
    return text + (f", gradients in {split.buckets} parts" if split.buckets > 1 else "")

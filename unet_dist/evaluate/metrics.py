"""Metrics as counts: they add up over images and ranks, and are divided once, by the reader."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.data.sample import IGNORE
from unet_dist.errors import UserError
from unet_dist.evaluate.bins import FIRST_BIN, NUM_BINS, STEPS, bins_of
from unet_dist.evaluate.curves import auc, average_precision, calibration_error


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Pixels inside the field of view whose truth is known. Counts can be added."""

    positive_fb: NDArray[np.int64]
    """Pixels of each foreground class, by bin (``bins.py``) of its predicted probability."""
    negative_fb: NDArray[np.int64]
    """Pixels of other classes, by bin of the class's predicted probability."""
    matrix_kk: NDArray[np.int64] | None
    """With several foreground classes: pixels by true class (rows) and most probable class."""
    true_probability: float
    """Sum over pixels of the probability that the true class was given."""
    squared_probability: float
    """Sum over pixels and all classes of the squared probability."""

    @property
    def num_foreground(self) -> int:
        return int(self.positive_fb.shape[0])

    def __add__(self, other: "Counts") -> "Counts":
        matrix_kk = None
        if self.matrix_kk is not None and other.matrix_kk is not None:
            matrix_kk = self.matrix_kk + other.matrix_kk
        return Counts(
            positive_fb=self.positive_fb + other.positive_fb,
            negative_fb=self.negative_fb + other.negative_fb,
            matrix_kk=matrix_kk,
            true_probability=self.true_probability + other.true_probability,
            squared_probability=self.squared_probability + other.squared_probability,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageScore:
    """What one image adds to the evaluation; two scores are equal if their JSON is."""

    id: str
    height: int
    width: int
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """JSON values, exact: in the histograms -n stands for n zeros in a row."""
        matrix_kk = self.counts.matrix_kk
        return {
            "id": self.id,
            "height": self.height,
            "width": self.width,
            "positive": [_fold_zeros(bins) for bins in self.counts.positive_fb.tolist()],
            "negative": [_fold_zeros(bins) for bins in self.counts.negative_fb.tolist()],
            "matrix": None if matrix_kk is None else matrix_kk.tolist(),
            "soft": [self.counts.true_probability, self.counts.squared_probability],
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "ImageScore":
        matrix = tree["matrix"]
        return cls(
            id=tree["id"],
            height=tree["height"],
            width=tree["width"],
            counts=Counts(
                positive_fb=np.array([_unfold_zeros(row) for row in tree["positive"]], np.int64),
                negative_fb=np.array([_unfold_zeros(row) for row in tree["negative"]], np.int64),
                matrix_kk=None if matrix is None else np.array(matrix, np.int64),
                true_probability=tree["soft"][0],
                squared_probability=tree["soft"][1],
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Pixels of one class against the rest, after the decision."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def dice(self) -> float:
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def sensitivity(self) -> float:
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def background_dice(self) -> float:
        return _ratio(2 * self.tn, 2 * self.tn + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        return _ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The metrics of an image, a class or a pool; NaN where one is not defined."""

    dice: float
    """Of the foreground alone."""
    iou: float
    sensitivity: float
    specificity: float
    precision: float
    accuracy: float
    """Share of the pixels whose class is right."""
    auc: float
    """Area under the ROC curve."""
    average_precision: float
    """Area under the steps of the precision-recall curve."""
    calibration_error: float
    """Expected difference between probability and frequency, see ``curves.calibration_error``."""
    dice_with_background: float = math.nan
    """Mean Dice over all classes, the background too: PaddleSeg's and mmsegmentation's mDice. Of a
    whole image, not of one class."""
    soft_dice_with_background: float = math.nan
    """``2 sum(p y) / (sum p^2 + sum y^2)`` over all pixels and both classes, p the probability:
    what MindSpore's official Unet script calls Dice. With p of 0 and 1 it is the accuracy."""


QUALITIES = tuple(field.name for field in fields(Quality))
CLASS_QUALITIES = tuple(field.name for field in fields(Quality) if field.default is MISSING)
"""Those that a single class has too."""


def score_image(
    sample_id: str,
    prob_hwk: NDArray[np.float32],
    target_hw: NDArray[np.uint8],
    fov_hw: NDArray[np.bool_],
) -> ImageScore:
    """Counts the pixels of one image.

    Args:
        prob_hwk: one foreground probability, or those of all classes, background first.
        target_hw: class numbers and ``IGNORE``.

    Raises:
        UserError: if a probability is not a number.
    """
    height, width = target_hw.shape
    assert prob_hwk.shape[:2] == fov_hw.shape == (height, width)
    refuse_nan(prob_hwk, f"sample {sample_id}", "pixels")
    counted_hw = fov_hw & (target_hw != IGNORE)
    truth = target_hw[counted_hw]
    prob_nk = prob_hwk[counted_hw]
    foreground_nf = prob_nk if prob_nk.shape[1] == 1 else prob_nk[:, 1:]
    by_class = [
        _histograms(probability, truth == number)
        for number, probability in enumerate(foreground_nf.T, start=1)
    ]
    true_probability, squared_probability = _soft_sums(truth, foreground_nf)
    return ImageScore(
        id=sample_id,
        height=height,
        width=width,
        counts=Counts(
            positive_fb=np.stack([positive for positive, _ in by_class]),
            negative_fb=np.stack([negative for _, negative in by_class]),
            matrix_kk=_class_matrix(truth, prob_nk) if len(by_class) > 1 else None,
            true_probability=true_probability,
            squared_probability=squared_probability,
        ),
    )


def hard_prediction(prob_hwk: NDArray[np.float32], threshold: float | None) -> NDArray[np.uint8]:
    """Class numbers: foreground from the threshold on, or the most probable class (None)."""
    class_hw: NDArray[np.intp] | NDArray[np.bool_]
    if threshold is None:
        class_hw = np.argmax(prob_hwk, axis=2)
    else:
        class_hw = prob_hwk[:, :, -1] >= np.float32(threshold)
    return class_hw.astype(np.uint8)


def confusions(counts: Counts, threshold: float | None) -> list[Confusion]:
    """One for each foreground class; ``threshold`` is None when the most probable class wins."""
    assert (threshold is None) == (counts.matrix_kk is not None)
    if counts.matrix_kk is None:
        assert threshold is not None
        number = round(threshold * STEPS)
        assert math.isclose(number / STEPS, threshold, abs_tol=1e-9), "use snap_threshold"
        first = FIRST_BIN[number]
        positive, negative = counts.positive_fb[0], counts.negative_fb[0]
        tp, fp = int(positive[first:].sum()), int(negative[first:].sum())
        return [Confusion(tp=tp, fp=fp, fn=int(positive.sum()) - tp, tn=int(negative.sum()) - fp)]
    matrix = counts.matrix_kk
    result = []
    for number in range(1, len(matrix)):
        tp = int(matrix[number, number])
        fp, fn = int(matrix[:, number].sum()) - tp, int(matrix[number].sum()) - tp
        result.append(Confusion(tp=tp, fp=fp, fn=fn, tn=int(matrix.sum()) - tp - fp - fn))
    return result


def class_qualities(counts: Counts, threshold: float | None) -> list[Quality]:
    """Each foreground class against the rest."""
    histograms = zip(counts.positive_fb, counts.negative_fb, strict=True)
    return [
        Quality(
            dice=confusion.dice,
            iou=confusion.iou,
            sensitivity=confusion.sensitivity,
            specificity=confusion.specificity,
            precision=confusion.precision,
            accuracy=confusion.accuracy,
            auc=auc(positive, negative),
            average_precision=average_precision(positive, negative),
            calibration_error=calibration_error(positive, negative),
        )
        for confusion, (positive, negative) in zip(
            confusions(counts, threshold), histograms, strict=True
        )
    ]


def quality(counts: Counts, threshold: float | None) -> Quality:
    """Mean over the foreground classes that are defined; accuracy is over all classes."""
    by_class = class_qualities(counts, threshold)
    mean = mean_quality(by_class)
    if counts.matrix_kk is None:
        background = confusions(counts, threshold)[0].background_dice
        num_pixels = int(counts.positive_fb.sum() + counts.negative_fb.sum())
        accuracy = mean.accuracy
    else:
        matrix = counts.matrix_kk
        background = _ratio(2 * int(matrix[0, 0]), int(matrix[0].sum() + matrix[:, 0].sum()))
        num_pixels = int(matrix.sum())
        accuracy = _ratio(int(matrix.trace()), num_pixels)
    return replace(
        mean,
        accuracy=accuracy,
        dice_with_background=mean_defined([background, *(one.dice for one in by_class)])[0],
        # The truth is one-hot, so the sum of its squares is the number of pixels.
        soft_dice_with_background=_ratio(
            2 * counts.true_probability, counts.squared_probability + num_pixels
        ),
    )


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """Mean of each metric over those where it is defined."""
    return Quality(
        **{name: mean_defined(getattr(one, name) for one in qualities)[0] for name in QUALITIES}
    )


def mean_defined(values: Iterable[float]) -> tuple[float, int]:
    """Mean of the values that are not NaN, and how many they are."""
    defined = [value for value in values if not math.isnan(value)]
    return _ratio(math.fsum(defined), len(defined)), len(defined)


def pool(scores: Sequence[ImageScore]) -> Counts:
    """All pixels as if they were one image's."""
    total = scores[0].counts
    for score in scores[1:]:
        total = total + score.counts
    return total


def refuse_nan(prob_hwk: NDArray[np.float32], where: str, what: str) -> None:
    """Raises UserError if a probability is not a number; ``what`` are its pixels."""
    if num_bad := int(np.count_nonzero(~np.isfinite(prob_hwk).all(axis=2))):
        fault = (
            f"the network's output is not a number at {num_bad} of {prob_hwk[..., 0].size} {what}"
        )
        raise UserError(where, f"{fault}; did the training diverge?")


def _histograms(
    probability: NDArray[np.float32], is_class: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    bins = bins_of(probability)
    return (
        np.bincount(bins[is_class], minlength=NUM_BINS).astype(np.int64),
        np.bincount(bins[~is_class], minlength=NUM_BINS).astype(np.int64),
    )


def _class_matrix(truth: NDArray[np.uint8], prob_nk: NDArray[np.float32]) -> NDArray[np.int64]:
    classes = prob_nk.shape[1]
    pairs = truth.astype(np.int64) * classes + prob_nk.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def _soft_sums(truth: NDArray[np.uint8], foreground_nf: NDArray[np.float32]) -> tuple[float, float]:
    """Sums of the probability of the true class, and of all squares, the background's included."""
    prob_nf = foreground_nf.astype(np.float64)
    prob_nk = np.concatenate([1 - prob_nf.sum(axis=1, keepdims=True), prob_nf], axis=1)
    of_truth = np.take_along_axis(prob_nk, truth[:, None].astype(np.intp), axis=1)
    return float(of_truth.sum()), float((prob_nk**2).sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _fold_zeros(numbers: list[int]) -> list[int]:
    """[7, 0, 0, 0, 5] becomes [7, -3, 5]."""
    folded: list[int] = []
    for number in numbers:
        if number:
            folded.append(number)
        elif folded and folded[-1] < 0:
            folded[-1] -= 1
        else:
            folded.append(-1)
    return folded


def _unfold_zeros(folded: list[int]) -> list[int]:
    numbers: list[int] = []
    for number in folded:
        numbers.extend([number] if number > 0 else [0] * -number)
    return numbers

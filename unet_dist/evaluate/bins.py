"""The bins of the probability that pixels are counted in, from which all curves follow."""

import numpy as np
from numpy.typing import NDArray

STEPS = 1000
"""Every threshold is a multiple of 1 / STEPS, and the start of a bin."""
LEAST_LOGIT, MOST_LOGIT = -28.0, 17.0
"""Where float32 leaves off: a sigmoid of more than 17 is 1."""
LOGIT_STEP = 0.05

# Networks trained on Dice are nearly always sure. With thresholds alone as edges the AUC of logits
# +-20 + 12 N(0, 1), a tenth of them true, was 0.008 too low, and the average precision 0.08; with
# these 1e-7 and 0.0001. Exactly 1 is a bin of its own, since its pixels are a tie.
_SIGMOIDS = 1 / (1 + np.exp(-np.arange(LEAST_LOGIT, MOST_LOGIT, LOGIT_STEP)))

# In float32, as the probabilities are: then ``bin >= FIRST_BIN[k]`` is the very same pixels as
# ``probability >= k / STEPS`` in a written mask. floor(p * STEPS) is wrong by one at some edges.
BIN_STARTS: NDArray[np.float32] = np.unique(
    np.concatenate([np.arange(STEPS + 1) / STEPS, _SIGMOIDS]).astype(np.float32)
)
"""Ascending, from 0 to 1."""
NUM_BINS = len(BIN_STARTS)
FIRST_BIN: NDArray[np.intp] = np.searchsorted(
    BIN_STARTS, (np.arange(STEPS) / STEPS).astype(np.float32)
)
"""The bin that starts at k / STEPS, by k."""
BIN_MIDDLES: NDArray[np.float64] = (BIN_STARTS + np.append(BIN_STARTS[1:], 1.0)) / 2


def bins_of(probability: NDArray[np.float32]) -> NDArray[np.intp]:
    """The bin of each; what is a little outside of 0..1 is in the first or the last."""
    bins = np.searchsorted(BIN_STARTS, probability.astype(np.float32), side="right") - 1
    return np.maximum(bins, 0)

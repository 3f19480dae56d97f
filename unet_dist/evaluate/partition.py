"""How well membranes divide an image into cells: V_rand and V_info (Arganda-Carreras et al.,
Frontiers in Neuroanatomy 2015, doi:10.3389/fnana.2015.00142)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from skimage.morphology import local_minima, reconstruction
from skimage.segmentation import watershed

Mask = NDArray[np.bool_]
Regions = NDArray[np.int32]
"""A region's number for each pixel, 0 where there is none."""

_CROSS = ndimage.generate_binary_structure(2, 1)
"""Cells are 4-connected."""


@dataclass(frozen=True, kw_only=True)
class PartitionScore:
    """F scores of their two parts; each is 1 for equal partitions.

    Merge parts suffer from true cells that were merged, split parts from those that were split.
    """

    v_rand: float
    v_rand_split: float
    v_rand_merge: float
    v_info: float
    v_info_split: float
    v_info_merge: float


def partition_score(true_cells: Regions, predicted_cells: Regions) -> PartitionScore:
    """Of the pixels that lie in true cells, NaN if there is none (foreground-restricted).

    With p_ij the share of pixels in predicted cell i and true cell j and the marginals s_i and t_j,
    V_rand = sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2) and V_info = 2 I(S; T) / (H(S) + H(T)).
    """
    inside = true_cells > 0
    number = int(np.count_nonzero(inside))
    if number == 0:
        return PartitionScore(**dict.fromkeys(PartitionScore.__dataclass_fields__, np.nan))
    p_ij = overlaps(predicted_cells[inside], true_cells[inside]).astype(np.float64) / number
    s_i, t_j = (np.asarray(p_ij.sum(axis=axis)).ravel() for axis in (1, 0))
    joint, split, merge = (float((p**2).sum()) for p in (p_ij.data, t_j, s_i))
    entropy_s, entropy_t = _entropy(s_i), _entropy(t_j)
    information = entropy_s + entropy_t - _entropy(p_ij.data)
    return PartitionScore(
        v_rand=joint / (split / 2 + merge / 2),
        v_rand_split=joint / split,
        v_rand_merge=joint / merge,
        # One cell in both has no entropy to explain: they are equal.
        v_info=_share(2 * information, entropy_s + entropy_t),
        v_info_split=_share(information, entropy_s),
        v_info_merge=_share(information, entropy_t),
    )


def true_cells(membrane_hw: Mask, counted_hw: Mask) -> Regions:
    """The 4-connected regions between true membranes; 0 on membranes and where nothing counts."""
    return _components(~membrane_hw & counted_hw)


def predicted_cells(
    membrane_p_hw: NDArray[np.float32], fov_hw: Mask, depth: float, *, smoothing: float
) -> Regions:
    """The basins of a watershed on the smoothed square root of the membrane's probability, those
    shallower than ``depth`` being part of a deeper neighbour (Grimaud, "New measure of contrast:
    dynamics", SPIE 1769, 1992).

    Unlike a threshold, depth asks of a membrane what stands out from the cells beside it, and a
    short gap in it does not merge them. The root spreads the low probabilities, where gaps are.
    Regions meet on the ridge of a membrane, so that its width does not matter ("after border
    thinning"). On ISBI 2012, slices 20 to 24, one network, both chosen on slices 17 to 19: V_rand
    0.960, V_info 0.977; with a threshold 0.943, 0.968.

    Args:
        membrane_p_hw: probabilities [H, W].
        fov_hw: the field of view, whose end is the end of every cell; outside are no cells (0).
        depth: the least height of a membrane's root over a cell's, 0 to 1.
        smoothing: standard deviation of the Gaussian, in pixels.
    """
    return np.where(fov_hw, basins(relief(membrane_p_hw, fov_hw, smoothing), depth), 0)


def relief(
    membrane_p_hw: NDArray[np.float32], fov_hw: Mask, smoothing: float
) -> NDArray[np.float64]:
    """What is flooded: high on membranes and outside the field of view, low in cells."""
    height_hw = np.where(fov_hw, np.sqrt(membrane_p_hw, dtype=np.float64), 1)
    return np.asarray(ndimage.gaussian_filter(height_hw, smoothing))


def basins(relief_hw: NDArray[np.float64], depth: float) -> Regions:
    """See ``predicted_cells``."""
    # h_minima would leave two basins apart whose lowest pixels are equal.
    filled_hw = reconstruction(relief_hw + depth, relief_hw, method="erosion", footprint=_CROSS)
    basins_hw, count = ndimage.label(local_minima(filled_hw, _CROSS))
    if count < 2:
        return np.ones(relief_hw.shape, np.int32)
    return np.asarray(watershed(relief_hw, basins_hw), np.int32)


def overlaps(one: NDArray[np.integer], two: NDArray[np.integer]) -> sparse.csr_array:
    """Pixels that a region of ``one`` (row) shares with one of ``two`` (column), by number."""
    ones = np.ones(one.size, np.int64)
    matrix = sparse.coo_array((ones, (one.ravel(), two.ravel()))).tocsr()
    matrix.sum_duplicates()
    return matrix


def _components(mask_hw: Mask) -> Regions:
    return np.asarray(ndimage.label(mask_hw)[0], np.int32)


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _share(part: float, whole: float) -> float:
    # Entropies of one region differ from 0 by rounding.
    return part / whole if whole > 1e-12 else 1.0

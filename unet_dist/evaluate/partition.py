"""How well membranes divide an image into cells: V_rand and V_info (Arganda-Carreras et al.,
Frontiers in Neuroanatomy 2015, doi:10.3389/fnana.2015.00142)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from skimage.segmentation import watershed

Mask = NDArray[np.bool_]
Regions = NDArray[np.int32]
"""A region's number for each pixel, 0 where there is none."""


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


def predicted_cells(membrane_p_hw: NDArray[np.float32], threshold: float) -> Regions:
    """The 4-connected regions where a membrane is less probable than the threshold, grown by a
    watershed on that probability until every pixel belongs to one.

    So the width of a predicted membrane does not matter ("after border thinning"): regions meet
    on its ridge. Without any region the image is one.
    """
    cells = _components(membrane_p_hw < np.float32(threshold))
    if not cells.any():
        return np.ones_like(cells)
    # Only the rims of the regions can grow: the same pixels as from all of them, 2 to 4 times
    # faster.
    growing_hw = ndimage.binary_dilation(cells == 0)
    grown = watershed(membrane_p_hw, np.where(growing_hw, cells, 0), mask=growing_hw)
    return np.where(cells > 0, cells, grown)


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

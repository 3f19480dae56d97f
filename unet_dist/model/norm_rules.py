"""What norms are computed with, for those who compute without MindSpore too."""

EPSILON = 1e-5
"""Added to variances."""
MOST_GROUPS = 8


def groups_of(channels: int) -> int:
    """Of group normalisation: the largest number up to ``MOST_GROUPS`` that divides them."""
    return max(groups for groups in range(1, MOST_GROUPS + 1) if channels % groups == 0)

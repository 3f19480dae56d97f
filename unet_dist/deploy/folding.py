"""Batch norms made part of the convolutions before them."""

import numpy as np

from unet_dist.model.norm_rules import EPSILON
from unet_dist.train.checkpoint import Arrays

PARTS = ("gamma", "beta", "moving_mean", "moving_variance")


def fold_batch_norms(weights: Arrays) -> Arrays:
    """The same network without batch norms, its convolutions with a bias in their place; other
    norms have no running statistics, and stay.

    A norm is the number after its convolution's in a sequence: ``body.0`` and ``body.1``.
    """
    folded = dict(weights)
    for name in weights:
        norm, dot, part = name.rpartition(".")
        if not dot or part != "moving_mean":
            continue
        parent, _, number = norm.rpartition(".")
        conv = f"{parent}.{int(number) - 1}"
        gamma, beta, mean, variance = (
            folded.pop(f"{norm}.{each}").astype(np.float64) for each in PARTS
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        weight = weights[f"{conv}.weight"] * factor[:, None, None, None]
        folded[f"{conv}.weight"] = weight.astype(np.float32)
        folded[f"{conv}.bias"] = (beta - mean * factor).astype(np.float32)
    return folded

"""Losses as sums over images, so that ranks and accumulation steps add up.

Every function takes ``valid_nhw`` (1 inside the field of view and where the mask says a class,
else 0) and ``weight_n`` (1 for an image, 0 for the padding of the last batch).
"""

import mindspore as ms
from mindspore import ops

from unet_dist.config import LossConfig

SMOOTH = 1.0
"""Added to both sides of the Dice ratio, in pixels: an image without foreground and without
prediction then has loss 0, and the gradient stays bounded."""


LossSums = tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]
"""Sums over the images of a batch: loss, pixels in both prediction and truth, pixels predicted,
pixels of the truth. The last three give the training Dice.

A plain tuple: graph mode gives gradients of zero through a NamedTuple, without a word."""


def loss_sums(
    logits_nkhw: ms.Tensor,
    target_nhw: ms.Tensor,
    valid_nhw: ms.Tensor,
    skeleton_nhw: ms.Tensor,
    weight_n: ms.Tensor,
    config: LossConfig,
) -> LossSums:
    """Weighted cross entropy, soft Dice and skeleton recall, each a mean over an image's valid
    pixels or foreground classes, summed over images.

    Args:
        logits_nkhw: ``[N, K, H, W]``; K = 1 means two classes by a sigmoid.
        target_nhw: class numbers, int32, 0 where not valid.
        skeleton_nhw: class numbers on skeletons, int32, else 0; any shape if their weight is 0.
    """
    logits = ops.cast(logits_nkhw, ms.float32)
    classes = max(2, logits.shape[1])
    weights = config.class_weights or (1.0,) * classes
    if logits.shape[1] == 1:
        foreground = ops.cast(target_nhw, ms.float32)
        z = logits[:, 0]
        # log(1 + e^-|z|) + max(z, 0) - z y, which neither overflows nor loses small values.
        entropy = ops.relu(z) - z * foreground + ops.log1p(ops.exp(-ops.abs(z)))
        pixel_weight = weights[0] + (weights[1] - weights[0]) * foreground
        entropy = entropy * pixel_weight
        probability = ops.sigmoid(z).expand_dims(1)
        one_hot = foreground.expand_dims(1)
        hard = ops.cast(z > 0, ms.float32).expand_dims(1)
    else:
        log_p = ops.log_softmax(logits, 1)
        channels = ops.arange(classes).reshape(1, classes, 1, 1)
        all_hot = ops.cast(channels == target_nhw.expand_dims(1), ms.float32)
        class_weight = ms.Tensor(weights, ms.float32).reshape(1, classes, 1, 1)
        entropy = -(log_p * all_hot * class_weight).sum(axis=1)
        probability = ops.exp(log_p)[:, 1:]
        one_hot = all_hot[:, 1:]
        hard = ops.cast(channels == logits.argmax(axis=1).expand_dims(1), ms.float32)[:, 1:]

    pixels = ops.maximum(valid_nhw.sum(axis=(1, 2)), ops.ones_like(weight_n))
    entropy_n = (entropy * valid_nhw).sum(axis=(1, 2)) / pixels
    valid = valid_nhw.expand_dims(1)
    overlap = (probability * one_hot * valid).sum(axis=(2, 3))
    sizes = ((probability + one_hot) * valid).sum(axis=(2, 3))
    dice_n = 1.0 - ((2.0 * overlap + SMOOTH) / (sizes + SMOOTH)).mean(axis=1)
    loss_n = config.cross_entropy * entropy_n + config.dice * dice_n
    if config.skeleton_recall > 0:
        foreground_classes = ops.arange(1, classes).reshape(1, classes - 1, 1, 1)
        on_line = ops.cast(foreground_classes == skeleton_nhw.expand_dims(1), ms.float32)
        found = (probability * on_line).sum(axis=(2, 3))
        missed_n = 1.0 - ((found + SMOOTH) / (on_line.sum(axis=(2, 3)) + SMOOTH)).mean(axis=1)
        loss_n = loss_n + config.skeleton_recall * missed_n

    counted = valid * weight_n.reshape(-1, 1, 1, 1)
    return (
        (loss_n * weight_n).sum(),
        (hard * one_hot * counted).sum(),
        (hard * counted).sum(),
        (one_hot * counted).sum(),
    )

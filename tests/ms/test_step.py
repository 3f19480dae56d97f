"""The optimiser against formulas computed by NumPy, on one rank."""

from dataclasses import replace
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from unet_dist.comm import Communicator
from unet_dist.config import Config, LossConfig
from unet_dist.config_file import build_config
from unet_dist.data.loader import Batch
from unet_dist.heartbeat import Heartbeat
from unet_dist.model.losses import loss_sums
from unet_dist.train.checkpoint import TrainState
from unet_dist.train.loop import advance, build_net
from unet_dist.train.state import RanksDiffer, agreed
from unet_dist.train.step import BETA1, BETA2, EPSILON, StepResult, TrainStep, norm_of


class OneRank:
    """A job of a single rank needs no library to talk."""

    rank, world = 0, 1
    heartbeat = Heartbeat()

    def gradient_sum(self) -> None:
        return None


def setting(*overrides: str) -> tuple[Config, Any, TrainStep]:
    config = build_config({}, ["model.width=2", "model.depth=1", *overrides], where="test")
    comm: Communicator = OneRank()  # type: ignore[assignment]
    net = build_net(config, comm)
    return config, net, TrainStep(net, loss=config.loss, train=config.train, comm=comm)


def batch(net: Any, images: int = 2) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        x_nchw=rng.standard_normal((images, 3, 8, 8)).astype(np.float32),
        target_nhw=rng.integers(0, 2, (images, 8, 8)).astype(np.int32),
        valid_nhw=np.ones((images, 8, 8), np.float32),
        skeleton_nhw=np.zeros((images, 1, 1), np.int32),
        weight_n=np.ones(images, np.float32),
        keep_nc=np.ones((images, net.deepest_channels), np.float32),
        step_images=images,
    )


def weights(net: Any) -> list[np.ndarray]:
    return [np.array(parameter.asnumpy()) for parameter in net.trainable_params()]


def gradients(net: Any, step: TrainStep) -> list[np.ndarray]:
    flat = step.summed([batch(net)], loss_scale=1.0, stop=False).asnumpy()[6:]
    pieces = np.split(flat, np.cumsum([w.size for w in weights(net)])[:-1])
    return [g.reshape(w.shape) for g, w in zip(pieces, weights(net), strict=True)]


def take(net: Any, step: TrainStep, updates: int = 0) -> None:
    step([batch(net)], updates=updates, lr=0.1, average_decay=0.25, loss_scale=1.0, stop=False)


def test_adamw_is_its_formula_and_spares_norms_and_biases() -> None:
    _, net, step = setting("train.weight_decay=0.5", "train.clip_norm=0")
    first = [np.zeros_like(w) for w in weights(net)]
    second = [np.zeros_like(w) for w in weights(net)]
    for updates in range(3):
        before, slopes = weights(net), gradients(net, step)
        take(net, step, updates)
        for i, (w, g) in enumerate(zip(before, slopes, strict=True)):
            first[i] = BETA1 * first[i] + (1 - BETA1) * g
            second[i] = BETA2 * second[i] + (1 - BETA2) * g * g
            if w.ndim > 1:
                w = w * (1 - 0.1 * 0.5)
            m = first[i] / (1 - BETA1 ** (updates + 1))
            v = second[i] / (1 - BETA2 ** (updates + 1))
            expected = w - 0.1 * m / (np.sqrt(v) + EPSILON)
            # Adam divides by tiny roots where a gradient is nearly zero.
            np.testing.assert_allclose(weights(net)[i], expected, atol=2e-3)


def test_sgd_is_its_formula() -> None:
    _, net, step = setting(
        "train.optimizer=sgd", "train.momentum=0.9", "train.weight_decay=0.5", "train.clip_norm=0"
    )
    speed = [np.zeros_like(w) for w in weights(net)]
    for updates in range(2):
        before, slopes = weights(net), gradients(net, step)
        take(net, step, updates)
        for i, (w, g) in enumerate(zip(before, slopes, strict=True)):
            speed[i] = 0.9 * speed[i] + g + (0.5 * w if w.ndim > 1 else 0)
            np.testing.assert_allclose(weights(net)[i], w - 0.1 * speed[i], atol=1e-6)


def test_clipping_holds_the_global_norm() -> None:
    _, net, step = setting("train.optimizer=sgd", "train.clip_norm=0.01", "train.weight_decay=0")
    before, slopes = weights(net), gradients(net, step)
    norm = np.sqrt(sum((g**2).sum() for g in slopes))
    assert norm > 0.01
    take(net, step)
    moved = [b - a for a, b in zip(weights(net), before, strict=True)]
    assert np.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_the_average_follows_the_weights() -> None:
    _, net, step = setting("train.optimizer=sgd")
    before = weights(net)
    take(net, step)
    for parameter, old in zip(net.trainable_params(), before, strict=True):
        expected = 0.25 * old + 0.75 * parameter.asnumpy()
        np.testing.assert_allclose(step.averaged_weights()[parameter.name], expected, rtol=1e-5)


def test_without_an_average_the_weights_are_evaluated() -> None:
    _, net, step = setting("train.ema=0")
    take(net, step)
    for parameter in net.trainable_params():
        assert np.array_equal(step.averaged_weights()[parameter.name], parameter.asnumpy())


def test_the_loss_scale_changes_nothing_but_the_scale() -> None:
    _, net, step = setting("train.clip_norm=0")
    plain = step.summed([batch(net)], loss_scale=1.0, stop=False).asnumpy()
    scaled = step.summed([batch(net)], loss_scale=64.0, stop=False).asnumpy()
    np.testing.assert_allclose(scaled[:6], plain[:6])
    np.testing.assert_allclose(scaled[6:] / 64, plain[6:], rtol=1e-5, atol=1e-9)


def test_padding_of_the_last_batch_has_no_weight() -> None:
    _, net, step = setting()
    whole = batch(net, images=1)
    padded = batch(net, images=2)
    padded = padded._replace(
        x_nchw=np.concatenate([whole.x_nchw, padded.x_nchw[1:]]),
        target_nhw=np.concatenate([whole.target_nhw, padded.target_nhw[1:]]),
        weight_n=np.array([1, 0], np.float32),
        step_images=1,
    )
    alone = step.summed([whole], loss_scale=1.0, stop=False).asnumpy()
    filled = step.summed([padded], loss_scale=1.0, stop=False).asnumpy()
    np.testing.assert_allclose(filled, alone, rtol=1e-4, atol=1e-6)


def test_the_loss_scale_doubles_after_its_window() -> None:
    config, _, _ = setting("train.amp=fp16", "train.loss_scale=8", "train.loss_scale_window=2")
    good = StepResult(loss=1.0, dice=0.5, gradient_norm=1.0, overflow=False, stop=False)
    state = TrainState(loss_scale=8.0)
    scales = []
    for overflow in (False, False, True, False, False):
        state = advance(state, replace(good, overflow=overflow), config)
        scales.append(state.loss_scale)
    assert scales == [8.0, 16.0, 8.0, 8.0, 16.0]
    assert (state.step, state.updates) == (5, 4)


def test_both_passes_are_trained_alike_and_their_gates_too() -> None:
    _, net, step = setting("model.passes=2", "model.attention=gate")
    config = LossConfig()
    one = batch(net)
    x, keep = ms.Tensor(one.x_nchw), ms.Tensor(one.keep_nc)
    arrays = (one.target_nhw, one.valid_nhw, one.skeleton_nhw, one.weight_n)
    rest = [ms.Tensor(array) for array in arrays]
    losses = [float(loss_sums(y, *rest, config)[0].asnumpy()) for y in net.stages(x, keep)]
    seen = step.summed([one], loss_scale=1.0, stop=False).asnumpy()[0]
    assert seen == pytest.approx(np.mean(losses), rel=1e-5)
    assert all(np.abs(g).max() > 0 for g in gradients(net, step) if g.ndim > 1)


@pytest.mark.parametrize("length", [5, 4096, 3_000_001])
def test_the_norm_of_many_weights_has_the_same_bits_each_time(length: int) -> None:
    """Ranks clip by it, each by its own. Added in the order in which threads end, the longest gives
    two values in a few hundred calls."""
    vector = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    norm = ms.jit(norm_of)
    seen = {float(norm(ms.Tensor(vector)).asnumpy()) for _ in range(300 if length > 5000 else 1)}
    assert len(seen) == 1
    exact = np.linalg.norm(vector.astype(np.float64))
    assert seen.pop() == pytest.approx(exact, rel=1e-6)


def test_ranks_whose_weights_differ_are_named() -> None:
    assert agreed(["a", "a"], 5) == "a"
    with pytest.raises(RanksDiffer, match=r"^step 5: the weights of ranks \[0, 3\] differ"):
        agreed(["b", "a", "a", "c", "a"], 5)

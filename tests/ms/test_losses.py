import mindspore as ms
import numpy as np
import pytest
from numpy.typing import NDArray

from unet_dist.config import LossConfig
from unet_dist.model.losses import SMOOTH, loss_sums

Floats = NDArray[np.float64]


def computed(
    logits: NDArray[np.float32],
    target: NDArray[np.int32],
    valid: NDArray[np.float32],
    weight: NDArray[np.float32],
    config: LossConfig,
) -> list[float]:
    @ms.jit
    def run(a, b, c, d, e):  # type: ignore[no-untyped-def]
        return loss_sums(a, b, c, d, e, config)

    arrays = (logits, target, valid, skeleton_of(target), weight)
    tensors = [ms.Tensor(array) for array in arrays]
    return [float(value.asnumpy()) for value in run(*tensors)]


def skeleton_of(target: NDArray[np.int32]) -> NDArray[np.int32]:
    """Every second column stands for a skeleton: the loss takes what it is given."""
    skeleton = target.copy()
    skeleton[:, :, ::2] = 0
    return skeleton


def reference(
    logits: Floats, target: NDArray[np.int32], valid: Floats, weight: Floats, config: LossConfig
) -> float:
    """The definitions, pixel by pixel, in float64."""
    classes = max(2, logits.shape[1])
    if logits.shape[1] == 1:
        foreground = 1 / (1 + np.exp(-logits[:, 0]))
        p = np.stack([1 - foreground, foreground], axis=1)
    else:
        e = np.exp(logits - logits.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
    hot = np.stack([target == k for k in range(classes)], axis=1).astype(float)
    class_weights = np.array(config.class_weights or [1.0] * classes)
    total = 0.0
    for n in range(len(logits)):
        pixel = -(hot[n] * np.log(p[n]) * class_weights[:, None, None]).sum(0)
        entropy = (pixel * valid[n]).sum() / max(1.0, valid[n].sum())
        dice = []
        for k in range(1, classes):
            overlap = (p[n, k] * hot[n, k] * valid[n]).sum()
            size = ((p[n, k] + hot[n, k]) * valid[n]).sum()
            dice.append(1 - (2 * overlap + SMOOTH) / (size + SMOOTH))
        missed = []
        for k in range(1, classes):
            line = skeleton_of(target)[n] == k
            missed.append(1 - (p[n, k][line].sum() + SMOOTH) / (line.sum() + SMOOTH))
        total += weight[n] * (
            config.cross_entropy * entropy
            + config.dice * float(np.mean(dice))
            + config.skeleton_recall * float(np.mean(missed))
        )
    return total


def example(
    classes: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(classes)
    logits = rng.standard_normal((3, 1 if classes == 2 else classes, 6, 5)).astype(np.float32) * 3
    target = rng.integers(0, classes, (3, 6, 5)).astype(np.int32)
    valid = (rng.random((3, 6, 5)) > 0.3).astype(np.float32)
    return logits, target * valid.astype(np.int32), valid, np.array([1, 1, 0], np.float32)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "settings",
    [{}, {"dice": 0}, {"cross_entropy": 0}, {"weights": True}, {"skeleton_recall": 0.7}],
)
def test_loss_is_its_definition(classes: int, settings: dict[str, float]) -> None:
    weights = tuple(range(1, classes + 1)) if settings.get("weights") else ()
    values = {k: v for k, v in settings.items() if k != "weights"}
    config = LossConfig.model_validate({**values, "class_weights": weights})
    logits, target, valid, weight = example(classes)
    expected = reference(
        logits.astype(float), target, valid.astype(float), weight.astype(float), config
    )
    assert computed(logits, target, valid, weight, config)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_what_is_outside_the_field_of_view_has_no_effect(classes: int) -> None:
    logits, target, valid, weight = example(classes)
    changed = np.where(valid[:, None] > 0, logits, 50).astype(np.float32)
    config = LossConfig()
    assert computed(logits, target, valid, weight, config) == pytest.approx(
        computed(changed, target, valid, weight, config), rel=1e-6
    )


def test_an_image_without_a_valid_pixel_has_a_finite_loss() -> None:
    logits, target, valid, weight = example(2)
    values = computed(logits, target * 0, valid * 0, weight, LossConfig())
    assert values == [0.0, 0.0, 0.0, 0.0]


def test_extreme_logits_do_not_overflow() -> None:
    logits = np.array([[[[1e4, -1e4]]]], np.float32)
    target = np.array([[[0, 1]]], np.int32)
    ones = np.ones((1, 1, 2), np.float32)
    config = LossConfig(dice=0)
    loss = computed(logits, target, ones, np.ones(1, np.float32), config)[0]
    assert loss == pytest.approx(1e4)


@pytest.mark.parametrize("classes", [2, 4])
def test_gradient_is_that_of_the_definition(classes: int) -> None:
    """Compared with differences; a gradient lost on the way would be zero."""
    logits, target, valid, weight = example(classes)
    config = LossConfig(skeleton_recall=0.5)

    def loss(a, b, c, d, e):  # type: ignore[no-untyped-def]
        return loss_sums(a, b, c, d, e, config)[0]

    differentiate = ms.value_and_grad(loss, 0)

    @ms.jit
    def run(a, b, c, d, e):  # type: ignore[no-untyped-def]
        return differentiate(a, b, c, d, e)[1]

    arrays = (logits, target, valid, skeleton_of(target), weight)
    gradient = run(*map(ms.Tensor, arrays)).asnumpy()
    wide = [logits.astype(float), target, valid.astype(float), weight.astype(float)]
    for place in [(0, 0, 1, 1), (1, 0, 4, 2), (2, 0, 0, 0)]:
        up, down = wide[0].copy(), wide[0].copy()
        up[place] += 1e-5
        down[place] -= 1e-5
        slope = reference(up, *wide[1:], config) - reference(down, *wide[1:], config)
        assert gradient[place] == pytest.approx(slope / 2e-5, rel=1e-3, abs=1e-7)

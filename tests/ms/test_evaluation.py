import numpy as np
import pytest

from unet_dist.config_file import build_config
from unet_dist.data.dataset import Normalisation
from unet_dist.data.sample import Example
from unet_dist.evaluate.forward import Member, new_predictor
from unet_dist.evaluate.metrics import score_image
from unet_dist.evaluate.on_ranks import summary_of
from unet_dist.evaluate.predictor import Predictor
from unet_dist.model.unet import build_unet


def predictor(*overrides: str) -> tuple[Predictor[Member], dict[str, np.ndarray]]:
    config = build_config(
        {},
        ["model.width=4", "model.depth=1", "evaluate.tile=16", "evaluate.batch=2", *overrides],
        where="test",
    )
    net = build_unet(
        config.model, in_channels=config.data.in_channels, classes=config.data.classes, seed=1
    )
    weights = {p.name: np.array(p.asnumpy()) for p in net.get_parameters()}
    return new_predictor(config, [Normalisation((0.0,) * 3, (1.0,) * 3)]), weights


def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)


def test_weights_loaded_after_the_first_prediction_take_effect() -> None:
    forward, weights = predictor("model.norm=batch")
    forward.members[0].load(weights)
    first = forward.forward(image())
    forward.members[0].load({name: array * 1.5 for name, array in weights.items()})
    second = forward.forward(image())
    forward.members[0].load(weights)
    assert not np.allclose(first, second)
    assert np.array_equal(forward.forward(image()), first)


def test_probabilities_of_several_classes_add_up_to_one() -> None:
    forward, weights = predictor("data.classes=3")
    forward.members[0].load(weights)
    p = forward.forward(image())
    assert p.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)


def test_one_image_does_not_depend_on_the_others_of_its_batch() -> None:
    forward, weights = predictor("model.norm=batch")
    forward.members[0].load(weights)
    x = image()
    changed = x.copy()
    changed[1] *= 3
    np.testing.assert_allclose(forward.forward(x)[0], forward.forward(changed)[0], atol=1e-6)


@pytest.mark.parametrize(("tta", "views"), [("none", 1), ("flip", 4), ("d4", 8)])
def test_test_time_augmentation_averages_the_views_in_the_tiles_own_orientation(
    tta: str, views: int
) -> None:
    forward, weights = predictor(f"evaluate.tta={tta}")
    forward.members[0].load(weights)
    x = image()
    seen = list(forward.views(x))
    assert len(seen) == views
    assert np.allclose(forward.forward(x), np.mean(seen, axis=0), atol=1e-6)
    if views == 8:
        turned = np.ascontiguousarray(np.rot90(x, axes=(2, 3)))
        assert np.allclose(
            forward.forward(turned), np.rot90(forward.forward(x), axes=(2, 3)), atol=1e-5
        )


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    single, weights = predictor()
    two = new_predictor(single.config, [Normalisation((0.0,) * 3, (1.0,) * 3)] * 2)
    other = {name: array * 1.5 for name, array in weights.items()}
    expected = []
    for member, values in zip(two.members, (weights, other), strict=True):
        member.load(values)
        single.members[0].load(values)
        expected.append(single.forward(image()))
    assert np.allclose(two.forward(image()), np.mean(expected, axis=0), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_outside_of_the_view_all_is_background(classes: int) -> None:
    forward, weights = predictor(f"data.classes={classes}")
    forward.members[0].load(weights)
    view = np.ones((16, 16), np.bool_)
    view[:, :5] = False
    target = np.zeros((16, 16), np.uint8)
    example = Example(image()[0].transpose(1, 2, 0), target, view)
    probability = forward.probabilities(example)
    everywhere = forward.probabilities(example._replace(fov_hw=np.ones_like(view)))
    np.testing.assert_array_equal(probability[view], everywhere[view])
    background = [0.0] if classes == 2 else [1.0, 0.0, 0.0, 0.0]
    assert (probability[~view] == background).all()
    assert not (everywhere[~view] == background).all()


def test_the_variance_is_that_of_the_views_and_of_the_class_that_varies_most() -> None:
    forward, weights = predictor("evaluate.tta=d4", "data.classes=3")
    forward.members[0].load(weights)
    x = image()
    views = np.stack(list(forward.views(x)))
    got = forward.forward_with_variance(x)
    assert got.shape == (2, 4, 16, 16)
    np.testing.assert_allclose(got[:, :3], views.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(got[:, 3], views.var(axis=0).max(axis=1), atol=1e-7)
    assert got[:, 3].max() > 1e-6


def test_the_protocol_tells_how_many_views_were_averaged() -> None:
    config = build_config({}, ["evaluate.tta=d4"], where="test")
    truth = np.array([[0, 1]], np.uint8)
    score = score_image("a", np.full((1, 2, 1), 0.7, np.float32), truth, np.ones((1, 2), np.bool_))
    summary = summary_of(config, "test", [score], 0.5, "default")
    assert summary.protocol.views == 8

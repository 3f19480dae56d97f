import numpy as np

from unet_dist.config_file import build_config
from unet_dist.data.dataset import Normalisation
from unet_dist.evaluate.forward import Predictor
from unet_dist.model.unet import build_unet


def predictor(*overrides: str) -> tuple[Predictor, dict[str, np.ndarray]]:
    config = build_config(
        {},
        ["model.width=4", "model.depth=1", "evaluate.tile=16", "evaluate.batch=2", *overrides],
        where="test",
    )
    net = build_unet(
        config.model, in_channels=config.data.in_channels, classes=config.data.classes, seed=1
    )
    weights = {p.name: np.array(p.asnumpy()) for p in net.get_parameters()}
    return Predictor(config, Normalisation((0.0,) * 3, (1.0,) * 3)), weights


def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)


def test_weights_loaded_after_the_first_prediction_take_effect() -> None:
    forward, weights = predictor("model.norm=batch")
    forward.load(weights)
    first = forward.forward(image())
    forward.load({name: array * 1.5 for name, array in weights.items()})
    second = forward.forward(image())
    forward.load(weights)
    assert not np.allclose(first, second)
    assert np.array_equal(forward.forward(image()), first)


def test_probabilities_of_several_classes_add_up_to_one() -> None:
    forward, weights = predictor("data.classes=3")
    forward.load(weights)
    p = forward.forward(image())
    assert p.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)


def test_one_image_does_not_depend_on_the_others_of_its_batch() -> None:
    forward, weights = predictor("model.norm=batch")
    forward.load(weights)
    x = image()
    changed = x.copy()
    changed[1] *= 3
    np.testing.assert_allclose(forward.forward(x)[0], forward.forward(changed)[0], atol=1e-6)

import numpy as np
import pytest

from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.data.dataset import open_dataset
from unet_dist.data.matching import BY_CHANCE, ENOUGH, outline, share_that_fits
from unet_dist.data.readiness import check_for_training
from unet_dist.data.sample import IGNORE
from unet_dist.data.synthetic import write_synthetic


@pytest.mark.parametrize("kind", ["vessels", "organs"])
def test_own_masks_fit_and_those_of_others_do_not(tmp_path, kind):
    write_synthetic(kind, tmp_path / "set", count=8, size=96, seed=1)
    dataset = open_dataset(load_config(tmp_path / "set/config.yaml").data, seed=0)
    examples = [
        dataset.read_native(sample) for part in dataset.splits.parts().values() for sample in part
    ]
    assert share_that_fits(examples) == 1
    others = examples[1:] + examples[:1]
    shuffled = [
        one._replace(target_hw=other.target_hw) for one, other in zip(examples, others, strict=True)
    ]
    share = share_that_fits(shuffled)
    assert share is not None
    assert share < BY_CHANCE
    assert share_that_fits(examples[: ENOUGH - 1]) is None
    empty = [one._replace(target_hw=np.zeros_like(one.target_hw)) for one in examples]
    assert share_that_fits(empty) is None
    same = [one._replace(target_hw=examples[0].target_hw) for one in examples]
    assert share_that_fits(same) is None


def test_outline_has_both_sides_and_none_beside_ignored_pixels():
    target = np.zeros((5, 8), np.uint8)
    target[:, 4:] = 1
    assert np.flatnonzero(outline(target).all(axis=0)).tolist() == [3, 4]
    target[:, 4:] = IGNORE
    assert not outline(target).any()


def test_mixed_up_masks_are_a_warning(tmp_path):
    write_synthetic("nuclei", tmp_path / "set", count=8, size=64, seed=1)
    config = Config(data={"root": str(tmp_path / "set"), "format": "labelmap"})
    assert not [w for w in check_for_training(config)[0].warnings if "mixed up" in w]
    masks = sorted((tmp_path / "set/masks").iterdir())
    contents = [mask.read_bytes() for mask in masks]
    for mask, content in zip(masks, contents[1:] + contents[:1], strict=True):
        mask.write_bytes(content)
    [warning] = [w for w in check_for_training(config)[0].warnings if "mixed up" in w]
    assert "unet-dist data check CONFIG --picture" in warning

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_dist.config_file import build_config
from unet_dist.data.dataset import open_dataset
from unet_dist.data.sample import ImageRef
from unet_dist.errors import UserError
from unet_dist.evaluate.inputs import list_images, truths_in, truths_of_dataset


def write(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((16, 16), np.uint8)
    values[:8] = value
    Image.fromarray(values).save(path)
    return path


def test_a_stack_that_cannot_be_read_does_not_stop_the_rest(tmp_path):
    tifffile.imwrite(tmp_path / "good.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    (tmp_path / "bad.tif").write_bytes(b"II*\0 and nothing more")
    stems = [one.stem for one in list_images([tmp_path])]
    assert stems == ["bad", "good_0", "good_1", "good_2"]


def test_a_named_file_that_is_no_image_is_refused_and_an_image_of_any_name_is_one(tmp_path):
    image = write(tmp_path / "eye.png").rename(tmp_path / "eye")
    (tmp_path / "broken.png").write_bytes(b"")  # told when its turn comes
    assert [one.stem for one in list_images([image, tmp_path / "broken.png"])] == ["eye", "broken"]
    (tmp_path / "some.py").write_text("print()\n")
    with pytest.raises(UserError) as caught:
        list_images([tmp_path / "some.py", image, tmp_path / "none.png"])
    assert len(caught.value.faults) == 2
    assert caught.value.faults[0].startswith(f"{tmp_path / 'some.py'}: not an image of a known")


def test_truths_bear_the_names_of_the_images(tmp_path):
    images = [write(tmp_path / "images" / name) for name in ("1.png", "2.jpg", "3.png")]
    masks = tmp_path / "masks"
    write(masks / "1_mask.png")
    write(masks / "2.png")
    truths = truths_in(masks, list_images(images), suffix="_mask")
    assert truths == {
        "1": ImageRef(path=masks / "1_mask.png"),
        "2": ImageRef(path=masks / "2.png"),
    }


def test_pages_of_a_stack_have_the_pages_of_its_truth(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "s.tif"
        tifffile.imwrite(path, np.zeros((2, 8, 8), np.uint8), photometric="minisblack")
    truths = truths_in(tmp_path / "masks", list_images([tmp_path / "images"]), suffix="")
    assert [truths[stem].page for stem in ("s_0", "s_1")] == [0, 1]


def test_no_truth_at_all_is_a_fault_that_says_what_was_looked_for(tmp_path):
    image = write(tmp_path / "images" / "1.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match=r"no mask for any of the images, such as 1_m\.png"):
        truths_in(tmp_path / "masks", list_images([image]), suffix="_m")
    with pytest.raises(UserError, match="no such folder"):
        truths_in(tmp_path / "nowhere", list_images([image]), suffix="_m")
    with pytest.raises(UserError, match="no mask for any"):  # an image is not its own truth
        truths_in(tmp_path / "images", list_images([image]), suffix="")


def test_a_mask_is_the_truth_of_one_image(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "01.png")
    write(tmp_path / "masks" / "01.png")
    inputs = list_images([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UserError, match=r"01\.png would be the truth of a_01 and b_01"):
        truths_in(tmp_path / "masks", inputs, suffix="")


def test_images_of_the_data_set_have_its_masks(tmp_path):
    for n in range(4):
        write(tmp_path / "images" / f"{n}.png", 10 + n)
        write(tmp_path / "masks" / f"{n}.png", 255)
    other = write(tmp_path / "elsewhere" / "0.png")
    config = build_config({}, [f"data.root={tmp_path}"], where="test")
    dataset = open_dataset(config.data, seed=0)
    inputs = list_images([tmp_path / "images", other])
    truths = truths_of_dataset(dataset, inputs)
    assert sorted(ref.path.name for ref in truths.values()) == [f"{n}.png" for n in range(4)]
    assert len(inputs) == 5

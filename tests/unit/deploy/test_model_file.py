"""What a deployed model says of itself, and how it is read back."""

from dataclasses import replace
from pathlib import Path

import pytest

from unet_dist.deploy.model_file import Metadata, ModelFile
from unet_dist.errors import UserError
from unet_dist.runs import write_json

METADATA = Metadata(
    config_sha256="c" * 64,
    checkpoint_sha256="d" * 64,
    classes=2,
    class_names=("background", "vessel"),
    threshold=0.35,
    mean=(0.5, 0.25, 0.125),
    std=(0.1, 0.2, 0.3),
    in_channels=3,
    size_multiple=16,
    precision="float32",
    opset=17,
    config={"data": {"channels": "rgb"}},
)


def test_metadata_survive_the_texts_of_an_onnx_file() -> None:
    several = replace(METADATA, classes=3, class_names=("a", "b", "c"), threshold=None)
    for one in (METADATA, several):
        assert Metadata.of_props(one.to_props(), where="m") == one


def test_all_missing_metadata_are_told_at_once() -> None:
    props = METADATA.to_props()
    del props["mean"]
    props["classes"] = "two"
    with pytest.raises(UserError) as caught:
        Metadata.of_props(props, where="m.onnx")
    assert caught.value.faults == (
        "its metadata classes is 'two', which is not JSON",
        "its metadata lack mean",
    )


def test_a_foreign_file_is_told_from_a_damaged_one() -> None:
    with pytest.raises(UserError, match="not made by unet-dist export"):
        Metadata.of_props({}, where="m.onnx")
    with pytest.raises(UserError, match="format is 2, not 1"):
        Metadata.of_json({**METADATA.to_json(), "format": 2}, where="m.onnx")


def test_class_names_are_a_list_and_no_text_of_as_many_letters() -> None:
    with pytest.raises(UserError, match="its class_names are 'ab', but must be a list"):
        Metadata.of_json({**METADATA.to_json(), "class_names": "ab"}, where="m")


def test_contradictions_are_refused() -> None:
    tree = {**METADATA.to_json(), "std": [1.0], "threshold": None, "precision": "int4"}
    with pytest.raises(UserError) as caught:
        Metadata.of_json(tree, where="m")
    assert len(caught.value.faults) == 3


def test_a_folder_without_a_model_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unet-dist export RUN"):
        ModelFile(tmp_path).load_metadata()
    write_json(ModelFile(tmp_path).metadata, METADATA.to_json())
    assert ModelFile(tmp_path).load_metadata() == METADATA

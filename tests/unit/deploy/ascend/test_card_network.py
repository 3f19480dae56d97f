"""A converted model as a network: what goes to the card, in which batches, and what comes back."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.deploy.ascend.made_runtimes import MadeAcl, MadeLite
from tests.unit.deploy.ascend.small_models import GREY, METADATA, REQUEST, SOURCE
from unet_dist.deploy.ascend_commands import plan_conversion
from unet_dist.deploy.ascend_request import AscendRequest
from unet_dist.deploy.card_executors import AclError
from unet_dist.deploy.card_network import open_card_network
from unet_dist.deploy.model_file import Metadata
from unet_dist.errors import UserError


def converted(folder: Path, request: AscendRequest) -> Path:
    """The first file of a conversion, with the record beside it."""
    plan = plan_conversion(request, model="../model.onnx")
    for name, text in plan.files.items():
        (folder / name).write_text(text)
    path = folder / (*plan.atc, *plan.lite)[0].makes
    path.write_bytes(b"converted")
    return path


def use(monkeypatch: pytest.MonkeyPatch, name: str, runtime: Any) -> Any:
    monkeypatch.setitem(sys.modules, name, runtime)
    return runtime


def images(number: int, channels: int = 3, side: int = 16) -> np.ndarray[Any, Any]:
    levels = np.random.default_rng(1).integers(0, 256, (number, channels, side, side))
    return (levels / 255).astype(np.float32)


def normalised_sum(image_nchw: np.ndarray[Any, Any], metadata: Metadata) -> Any:
    mean, std = np.array(metadata.mean), np.array(metadata.std)
    scaled = (image_nchw - mean[:, None, None]) / std[:, None, None]
    return scaled.sum(axis=1, keepdims=True)


def test_float_images_are_normalised_and_batches_filled_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = converted(tmp_path, replace(REQUEST, shapes=((2, 3, 16, 16),)))
    acl = use(
        monkeypatch,
        "acl",
        MadeAcl(shape=(2, 3, 16, 16), is_pixelwise=False, dtype=np.float32),
    )
    image_nchw = images(5)
    with open_card_network(path, device=0) as network:
        y_nkhw = network.forward(image_nchw)
        with pytest.raises(UserError, match=r"takes images of 16 x 16 .* not 32 x 32"):
            network.forward(images(1, side=32))
    assert len(acl.batches) == 3
    assert y_nkhw.dtype == np.float32
    # It comes back in half precision.
    np.testing.assert_allclose(y_nkhw, normalised_sum(image_nchw, METADATA), atol=0.01)
    assert acl.taken == {}


def test_aipp_gets_the_grey_levels_pixel_by_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(REQUEST, shapes=((1, 3, 16, 16),), aipp=True, input_type="uint8")
    path = converted(tmp_path, request)
    acl = use(monkeypatch, "acl", MadeAcl(shape=(1, 3, 16, 16), is_pixelwise=True, dtype=np.uint8))
    image_nchw = images(1)
    with open_card_network(path, device=0) as network:
        network.forward(image_nchw)
    np.testing.assert_array_equal(acl.batches[0], np.rint(image_nchw * 255))


def test_the_smallest_profile_that_holds_the_rest_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(REQUEST, shapes=((-1, 3, 16, 16),), dynamic_batch=(1, 2, 4))
    path = converted(tmp_path, replace(request, input_type="float16"))
    acl = use(
        monkeypatch,
        "acl",
        MadeAcl(shape=(4, 3, 16, 16), is_pixelwise=False, dtype=np.float16),
    )
    image_nchw = images(7)
    with open_card_network(path, device=0) as network:
        y_nkhw = network.forward(image_nchw)
    assert [len(batch) for batch in acl.batches] == [4, 4]
    acl.batches.clear()
    with open_card_network(path, device=0) as network:
        network.forward(images(6))
    assert [len(batch) for batch in acl.batches] == [4, 2]
    np.testing.assert_allclose(y_nkhw, normalised_sum(image_nchw, METADATA), atol=0.02)


def test_a_profile_of_sizes_is_set_for_grey_images_under_aipp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(
        REQUEST,
        model=replace(SOURCE, metadata=GREY),
        shapes=((1, 1, -1, -1),),
        dynamic_sizes=((16, 16), (32, 32)),
        aipp=True,
        input_type="uint8",
    )
    path = converted(tmp_path, request)
    acl = use(monkeypatch, "acl", MadeAcl(shape=(1, 1, 32, 32), is_pixelwise=False, dtype=np.uint8))
    with open_card_network(path, device=0) as network:
        y_nkhw = network.forward(images(1, channels=1))
    assert acl.profile == (1, 1, 16, 16)
    assert y_nkhw.shape == (1, 1, 16, 16)


def test_a_failed_call_is_named_and_nothing_stays_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = converted(tmp_path, replace(REQUEST, shapes=((1, 3, 16, 16),)))
    acl = use(
        monkeypatch,
        "acl",
        MadeAcl(shape=(1, 3, 16, 16), is_pixelwise=False, dtype=np.float32),
    )
    acl.failing = "execute"
    with (
        pytest.raises(AclError, match=r"acl\.mdl\.execute: failed with 507"),
        open_card_network(path, device=0) as network,
    ):
        network.forward(images(1))
    assert acl.taken == {}


def test_lite_is_resized_to_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = replace(REQUEST, tool="lite", shapes=((-1, 3, 16, 16),), dynamic_batch=(2, 4))
    path = converted(tmp_path, request)
    lite = use(monkeypatch, "mindspore_lite", MadeLite())
    image_nchw = images(3)
    with open_card_network(path, device=5) as network:
        y_nkhw = network.forward(image_nchw)
    np.testing.assert_allclose(y_nkhw, normalised_sum(image_nchw, METADATA), atol=1e-4)
    assert lite.told == [("mindir", ["ascend"], 5), [[4, 3, 16, 16]]]


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = converted(tmp_path, replace(REQUEST, shapes=((1, 3, 16, 16),)))
    monkeypatch.setitem(sys.modules, "acl", None)
    with pytest.raises(UserError, match="pyACL comes with CANN"), open_card_network(path, device=0):
        pass
    other = path.with_name("other.om")
    other.write_bytes(b"")
    with pytest.raises(UserError, match=r"no other\.om\.json"), open_card_network(other, device=0):
        pass
    description = path.with_name(f"{path.name}.json")
    other.with_name("other.om.json").write_text(description.read_text())
    with (
        pytest.raises(UserError, match=f"tells of {path.name}"),
        open_card_network(other, device=0),
    ):
        pass
    description.unlink()
    with pytest.raises(UserError, match="must stay where"), open_card_network(path, device=0):
        pass

"""The final evaluation with a stand-in for the network, since only its probabilities matter."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import cv2
import numpy as np
import pytest

from tests.light import Alone
from unet_dist.config_file import build_config
from unet_dist.data.dataset import open_dataset
from unet_dist.data.synthetic import write_synthetic
from unet_dist.evaluate.candidates import DEFAULT_PROBABILITY, PROBABILITIES
from unet_dist.evaluate.final import decide, fingerprint_of, measure_samples
from unet_dist.evaluate.fingerprint import PROTOCOL_KEYS
from unet_dist.evaluate.structure import Structure, structure_of

STRUCTURES = get_args(Structure)


def opened(folder: Path, kind: str, *overrides: str):
    """A data set and a predictor whose borders are faint where the truth is certain."""
    write_synthetic(kind, folder, count=6, size=64, seed=0)
    config = build_config(
        {}, [f"data.root={folder}", "data.channels=grey", *overrides], where="test"
    )
    dataset = open_dataset(config.data, seed=0)

    def of_sample(dataset, sample):
        target_hw = dataset.read_native(sample).target_hw
        classes = np.eye(config.data.classes, dtype=np.float32)[target_hw]
        prob_hwk = 0.3 * cv2.GaussianBlur(classes, (0, 0), 1)
        if config.data.classes == 2:
            return prob_hwk[:, :, 1:]
        prob_hwk[:, :, 0] = 1 - prob_hwk[:, :, 1:].sum(axis=2)
        return prob_hwk

    return SimpleNamespace(config=config, of_sample=of_sample), dataset


def decided(predictor, dataset, **thresholds):
    structure = structure_of(predictor.config, dataset.coding)
    return decide(structure, predictor, dataset, Alone(), **thresholds)


def test_the_threshold_of_cells_is_chosen_on_validation_images_and_better_there(tmp_path):
    predictor, dataset = opened(tmp_path, "membranes", "evaluate.structure=partition")
    calls = []

    got = decide(
        "partition", predictor, dataset, Alone(), threshold=0.25, source="validation",
        on_image=lambda *numbers: calls.append(numbers),
    )  # fmt: skip

    assert got.threshold == 0.25
    assert got.structure_source == "validation"
    assert calls[-1] == (len(dataset.splits.val),) * 2

    def v_rand(decision):
        results = measure_samples(predictor, dataset, dataset.splits.val, decision, Alone())
        return np.mean([result.model.shape["v_rand"] for result in results])

    assert v_rand(got) > v_rand(replace(got, structure_threshold=0.5))


@pytest.mark.parametrize(
    ("overrides", "threshold", "source", "expected"),
    [
        (["evaluate.structure=partition", "data.split.val=0"], 0.2, "configured", (0.1, "default")),
        (["evaluate.structure=tubular"], 0.4, "validation", (None, "validation")),
    ],
)
def test_where_nothing_is_chosen_the_threshold_of_the_foreground_serves(
    tmp_path, overrides, threshold, source, expected
):
    predictor, dataset = opened(tmp_path, "membranes", *overrides)
    got = decided(predictor, dataset, threshold=threshold, source=source)
    assert (got.structure_threshold, got.structure_source) == expected


def test_objects_with_borders_have_a_threshold_and_a_least_size(tmp_path):
    nuclei = ["data.format=labelmap", "data.classes=3"]
    predictor, dataset = opened(tmp_path, "nuclei", *nuclei, "evaluate.min_object=10000")
    got = decided(predictor, dataset, threshold=None, source="argmax")
    assert got.structure_threshold == DEFAULT_PROBABILITY, "no candidate finds an object"
    assert got.structure_source == "validation"
    found = replace(got, structure_threshold=0.1)
    [result] = measure_samples(predictor, dataset, dataset.splits.test[:1], found, Alone())
    assert result.model.shape["foreground_dice"] > 0.8
    assert result.model.objects.predicted == 0, "evaluate.min_object drops every object"
    kept, dataset = opened(tmp_path / "kept", "nuclei", *nuclei)
    assert decided(kept, dataset, threshold=None, source="argmax").structure_threshold in (
        set(PROBABILITIES) - {DEFAULT_PROBABILITY}
    )
    asked, dataset = opened(tmp_path / "a", "nuclei", *nuclei, "evaluate.threshold=0.25")
    configured = decided(asked, dataset, threshold=None, source="argmax")
    assert (configured.structure_threshold, configured.structure_source) == (0.25, "configured")
    none, dataset = opened(tmp_path / "b", "nuclei", *nuclei, "data.split.val=0")
    unfitted = decided(none, dataset, threshold=None, source="argmax")
    assert (unfitted.structure_threshold, unfitted.structure_source) == (0.5, "default")


def test_the_fingerprint_holds_the_images_and_the_thresholds(tmp_path):
    predictor, dataset = opened(tmp_path, "membranes")
    decision = decided(predictor, dataset, threshold=0.1, source="configured")
    results = measure_samples(predictor, dataset, dataset.splits.train, decision, Alone())

    def fingerprint(decision=decision, results=results, **coding):
        made = {"checkpoint_step": 3, "weights_sha256": "w"}
        coded = replace(dataset.coding, **coding)
        return fingerprint_of(predictor.config, "train", results, decision, coded, **made)

    got = fingerprint()

    assert got.images == tuple(sorted(sample.id for sample in dataset.splits.train))
    assert (got.threshold, got.threshold_source, got.checkpoint_step) == (0.1, "configured", 3)

    def protocol(of):
        return {key: of.to_json()[key] for key in PROTOCOL_KEYS}

    # The same files read the other way round are another truth.
    assert dataset.coding.kind != "inverted"
    assert protocol(fingerprint(kind="inverted")) != protocol(got)
    assert protocol(fingerprint(kind="labels", ignore=255)) != protocol(fingerprint(kind="labels"))
    # The least size is of objects alone.
    larger = {name: replace(decision, structure=name, min_object=99) for name in STRUCTURES}
    smaller = {name: replace(one, min_object=4) for name, one in larger.items()}
    differing = [
        name
        for name in STRUCTURES
        if protocol(fingerprint(larger[name])) != protocol(fingerprint(smaller[name]))
    ]
    assert differing == ["objects"]
    mask = dataset.splits.train[0].mask.path
    cv2.imwrite(str(mask), 255 - cv2.imread(str(mask)))
    again = measure_samples(predictor, dataset, dataset.splits.train, decision, Alone())
    changed = fingerprint(results=again)
    assert changed.data_sha256 != got.data_sha256

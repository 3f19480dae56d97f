import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from unet_dist import __version__
from unet_dist.config_file import build_config, with_absolute_paths
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.errors import UserError
from unet_dist.evaluate.fingerprint import (
    FileDigests,
    Fingerprint,
    config_sha256,
    data_sha256,
    short_form,
    versions,
)
from unet_dist.evaluate.measures import Decision, measure
from unet_dist.evaluate.metrics import score_image
from unet_dist.evaluate.results import ImageResult, plots_of, result_of
from unet_dist.evaluate.score import Protocol, summarise
from unet_dist.launching.describe import describe_evaluation

FINGERPRINT = Fingerprint(
    split="test",
    images=("eye-0", "eye-1"),
    data_sha256="d" * 64,
    observer="first",
    fov="none",
    classes=2,
    mask="binary",
    ignore=-1,
    averaging="per image, then mean over images",
    structure="tubular",
    min_object=0,
    cell_smoothing=0.0,
    division=None,
    threshold=0.5,
    threshold_source="configured",
    structure_threshold=None,
    structure_threshold_source="configured",
    checkpoint_step=7,
    weights_sha256="w" * 64,
    config_sha256="c" * 64,
    versions={"unet_dist": "1"},
)


def decision(structure, **changes):
    fixed = Decision(
        structure=structure,
        threshold=0.5,
        source="configured",
        structure_threshold=None,
        structure_source="configured",
        min_object=0,
        cell_smoothing=0.0,
    )
    return replace(fixed, **changes)


def evaluated(structure="tubular", number=4, human=False, **changes):
    decided = decision(structure, **changes)
    results = []
    for index in range(number):
        generator = np.random.default_rng(index)
        truth = (generator.random((12, 14)) < 0.3).astype(np.uint8)
        prob = (0.4 * truth + 0.6 * generator.random(truth.shape))[..., None].astype(np.float32)
        fov, other = np.ones(truth.shape, bool), truth.copy()
        other[:2] = 1
        numbers = np.arange(truth.size).reshape(truth.shape) * truth
        kind = {"objects_hw": numbers} if structure == "objects" else {}
        result = ImageResult(
            id=f"eye-{index}",
            group=f"patient-{index // 2}" if number > 4 else f"eye-{index}",
            sha256=str(index),
            model=measure(f"eye-{index}", prob, truth, fov, decided, **kind),
        )
        if human:
            hard = other[..., None].astype(np.float32)
            result = replace(
                result,
                human=measure(result.id, hard, truth, fov, decided),
                model_against_human=measure(result.id, prob, other, fov, decided),
            )
        results.append(ImageResult.from_json(json.loads(json.dumps(result.to_json()))))
    protocol = Protocol(
        split="test", observer="first", fov="none", classes=2, resize=1, tile=64, overlap=0.25
    )
    summary = summarise(
        [result.model.score for result in results],
        threshold=0.5,
        threshold_source="configured",
        protocol=protocol,
        groups={result.id: result.group for result in results},
    )
    return result_of(summary, results, decided, FINGERPRINT)


def test_means_intervals_and_counts_are_those_of_the_rows():
    got = evaluated()

    for name in ("dice", "cldice", "assd", "precision", "soft_dice_with_background"):
        column = [row[name] for row in got["per_image"]]
        assert got[name] == pytest.approx(np.mean(column))
        low, high = got["intervals"][name]
        assert low < got[name] < high
        assert high - low < 2 * (max(column) - min(column))
        assert got["counted"][name] == 4
    assert got["dice_interval"] == got["intervals"]["dice"]
    assert got["pooled"]["average_precision"] != got["average_precision"]
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_intervals_are_drawn_by_patient_where_patients_have_several_images():
    assert evaluated(number=8)["protocol"]["bootstrap"]["unit"] == "patient"
    assert evaluated(number=4)["protocol"]["bootstrap"]["unit"] == "image"


def test_a_second_observer_has_a_row_against_the_truth_and_the_model_one_against_him():
    got = evaluated(human=True)

    human, model = got["observers"]
    assert human["row"] == "second observer against first"
    assert model["row"] == "model against second observer"
    for index in range(4):
        truth = np.random.default_rng(index).random((12, 14)) < 0.3
        other = truth.copy()
        other[:2] = True
        expected = reference.f1_score(truth.ravel(), other.ravel())
        assert human["per_image"][index]["dice"] == pytest.approx(expected)
    assert human["sensitivity"] == 1
    assert "auc" not in human
    assert model["auc"] is not None
    assert model["dice"] != got["dice"]
    assert evaluated()["observers"] == []


def test_pooled_objects_are_counted_over_all_images():
    got = evaluated("objects", structure_threshold=0.5)

    rows = got["per_image"]
    assert (
        got["pooled"]["ap_50"]
        != got["ap_50"]
        == pytest.approx(np.mean([row["ap_50"] for row in rows]))
    )
    assert got["pooled"]["foreground_dice"] == pytest.approx(got["pooled"]["dice"])
    assert got["structure"]["threshold"] == 0.5


def test_the_console_shows_each_number_with_its_interval_and_the_fingerprint():
    got = evaluated(human=True)

    lines = describe_evaluation(got, "report picture x.png").splitlines()

    [dice, human_dice, _] = [line for line in lines if line.startswith("Dice of the foreground")]
    low, high = got["intervals"]["dice"]
    for value in (got["dice"], low, high, got["pooled"]["dice"]):
        assert f"{value:.4f}" in dice
    assert f"{got['observers'][0]['dice']:.4f}" in human_dice
    assert any("95 % over images" in line for line in lines)
    assert lines[-2] == got["fingerprint"]["short"]
    cells = describe_evaluation(
        evaluated("partition", structure_threshold=0.1, structure_source="validation"), "x"
    )
    assert "Cells lie at least 0.1 deep (from validation) between membranes" in cells


def test_what_is_drawn_holds_all_pixels_of_all_images():
    # tp 1, fp 1, fn 2, tn 1
    one = score_image(
        "one",
        np.array([[[0.9], [0.8], [0.1], [0.2], [0.3]]], np.float32),
        np.array([[1, 0, 1, 1, 0]], np.uint8),
        np.ones((1, 5), bool),
    )
    protocol = Protocol(
        split="test", observer="", fov="none", classes=2, resize=1, tile=64, overlap=0
    )
    summary = summarise([one], threshold=0.5, threshold_source="configured", protocol=protocol)
    plots = plots_of(summary)
    assert plots["confusion"] == [[1, 1], [2, 1]]
    assert [0.5, 0.4] in plots["dice_by_threshold"]
    assert [[len(curve) for curve in plots["calibration"]]] == [[5]]


def sample(folder, name="a", *, mask=b"mask", page=0):
    for part, content in (("image", b"image"), ("mask", mask), ("fov", b"fov")):
        (folder / part).write_bytes(content)
    refs = {part: ImageRef(path=folder / part, page=page) for part in ("image", "mask", "fov")}
    return Sample(id=name, group=name, **refs)


def test_the_digest_of_the_data_changes_with_ids_bytes_and_pages(tmp_path):
    def digest(**changes):
        return FileDigests().of_sample(sample(tmp_path, **changes))

    digests = [digest(), digest(name="b"), digest(mask=b"other"), digest(page=1)]
    assert len(set(digests)) == 4
    assert digest() == digests[0]
    without_view = replace(sample(tmp_path), fov=None)
    assert FileDigests().of_sample(without_view) not in digests
    assert data_sha256(digests) != data_sha256(digests[::-1])


def test_a_file_that_is_gone_is_named(tmp_path):
    lost = sample(tmp_path)
    (tmp_path / "mask").unlink()
    with pytest.raises(UserError, match=r"mask.*No such file"):
        FileDigests().of_sample(lost)


def test_the_configurations_digest_leaves_out_where_the_data_lies():
    here, there, other = (
        build_config({}, overrides, where="test")
        for overrides in (["data.root=/a"], ["data.root=/b"], ["data.root=/a", "seed=1"])
    )
    assert config_sha256(here) == config_sha256(there) != config_sha256(other)


def test_the_configurations_digest_knows_the_order_of_a_data_set_in_two_places():
    order = ["data.split.by=order", "data.split.file=index.csv"]
    digests = [
        config_sha256(
            with_absolute_paths(build_config({}, [f"data.root={root}", *order], where="test"))
        )
        for root in ("/a", "/b/c")
    ]
    assert digests[0] == digests[1]
    elsewhere = build_config(
        {}, ["data.root=/a", "data.split.by=order", "data.split.file=/x.csv"], where="test"
    )
    assert config_sha256(elsewhere) != digests[0]


def test_the_short_form_names_data_weights_configuration_and_version():
    tree = FINGERPRINT.to_json()
    assert short_form(tree) == (
        f"fingerprint {tree['sha256'][:8]}: data dddddddd (2 images of test), "
        "weights wwwwwwww of step 7, configuration cccccccc, unet_dist 1"
    )
    assert replace(FINGERPRINT, threshold=0.4).sha256 != FINGERPRINT.sha256
    assert versions()["unet_dist"] == __version__
    assert set(versions()) == {"unet_dist", "mindspore", "numpy", "scipy", "scikit-image"}

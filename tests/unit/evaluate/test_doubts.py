import json
from pathlib import Path
from typing import Any

import pytest

from unet_dist.evaluate.doubts import doubts_of, unfinished
from unet_dist.launching.describe import describe_result
from unet_dist.records import read_records
from unet_dist.runs import RunDir, write_json


def result(confusion: list[list[int]], *aucs: float | None, **more: Any) -> dict[str, Any]:
    per_class = [{"class": n, "auc": auc} for n, auc in enumerate(aucs, 1)]
    names = ["background", "vessel", "disc"][: len(confusion)]
    return {
        "class_names": names, "per_class": per_class, "plots": {"confusion": confusion},
        "threshold": 0.006, **more,
    }  # fmt: skip


def test_one_class_throughout_is_doubted_but_not_where_it_is_the_truth() -> None:
    [doubt] = doubts_of(result([[1, 8899], [0, 1100]], 0.7))
    assert doubt.startswith(
        "99.99% of the pixels are predicted as vessel at threshold 0.006, but 11.00% are: the model"
    )
    [doubt] = doubts_of(result([[8900, 0], [1100, 0]], 0.7, threshold=None))
    assert doubt.startswith("100.00% of the pixels are predicted as background, but 89.00% are")
    assert doubts_of(result([[10_000, 0], [0, 0]], None)) == []
    # A twentieth of a per mille that is found by half is a small structure, not nothing.
    assert doubts_of(result([[999_950, 0], [25, 25]], 0.9)) == []
    assert doubts_of(result([[8000, 900], [100, 1000]], 0.9)) == []


def test_a_class_that_is_never_predicted_is_named() -> None:
    found = doubts_of(result([[80, 5, 0], [5, 6, 0], [0, 4, 0]], 0.9, None))
    assert found == ["no pixel is predicted as disc, though 4.00% are"]


@pytest.mark.parametrize(("auc", "doubted"), [(0.48, True), (0.599, True), (0.6, False)])
def test_probabilities_near_chance_are_doubted(auc: float, doubted: bool) -> None:
    found = doubts_of(result([[80, 5], [5, 10]], auc))
    assert [f"vessel is {auc:.3f}" in doubt for doubt in found] == [True] * doubted


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.records(0).parent.mkdir()
    return run


def write_records(run: RunDir, last: int) -> None:
    start = {"kind": "start", "step": 0, "total_steps": 1800, "steps_per_epoch": 6}
    records = [start, {"kind": "step", "step": 20}, {"kind": "checkpoint", "step": last}]
    run.records(0).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_run_that_stopped_early_is_called_unfinished(run: RunDir) -> None:
    assert unfinished(run, read_records(run.records(0))) == ""  # nothing is known
    write_records(run, 30)
    assert unfinished(run, read_records(run.records(0))) == (
        "unfinished: this run stopped after step 30 of 1800 (epoch 5 of 300); go on with: "
        f"unet-dist train {run.path} --resume"
    )
    write_records(run, 1800)
    assert unfinished(run, read_records(run.records(0))) == ""
    write_records(run, 30)
    write_json(run.attempt(0).plan, {"job": {"kind": "train", "until_dice": 0.95}})
    assert unfinished(run, read_records(run.records(0))) == ""


def test_eval_says_it_on_the_console(run: RunDir) -> None:
    write_records(run, 30)
    answer = {
        **result([[0, 89], [0, 11]], 0.7), "split": "test", "images": 1, "dice": 0.198,
        "intervals": {"dice": None}, "pooled": {}, "observers": [],
        "protocol": {"sentence": "As agreed.", "bootstrap": {"unit": "image"}},
        "structure": {"kind": "region", "threshold": None, "threshold_source": "default"},
        "fingerprint": {"short": "fingerprint 1"},
    }  # fmt: skip
    lines = describe_result(run, answer).splitlines()
    assert lines[0] == "test split, 1 image"
    assert "needs 3 images" in lines[2]
    assert [line[:20] for line in lines[-3:-1]] == ["warning: unfinished:", "warning: 100.00% of "]

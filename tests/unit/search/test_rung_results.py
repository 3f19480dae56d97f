import json
from pathlib import Path

from unet_dist.search.rung_results import RungReader

START = {"kind": "start", "step": 0, "parameters": 1234}
EVAL_AT_3 = {
    "kind": "eval", "step": 6, "epoch": 3.0, "dice": 0.5, "iou": 0.4, "latency_ms": 8.5,
}  # fmt: skip
SAVED_AT_3 = {"kind": "checkpoint", "step": 6}
RECORDS: list[dict[str, object]] = [
    START,
    *({"kind": "step", "images_per_s": rate} for rate in (1.0, 5.0, 6.0)),
    {"kind": "eval", "step": 4, "epoch": 2.0, "dice": 0.4, "iou": 0.3},
    {"kind": "checkpoint", "step": 4},
    EVAL_AT_3,
    SAVED_AT_3,
    {"kind": "step", "images_per_s": 7.0},
    {"kind": "eval", "step": 18, "epoch": 9.0, "dice": None, "iou": 0.5},
    {"kind": "checkpoint", "step": 18},
]
SCORES_AT_3 = {"dice": 0.5, "iou": 0.4, "latency_ms": 8.5}
AT_3 = {**SCORES_AT_3, "parameters": 1234.0, "images_per_s": 5.0}


def text_of(records: list[dict[str, object]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_results_come_from_the_validations_at_rungs(tmp_path: Path) -> None:
    path = tmp_path / "rank_000.jsonl"
    reader = RungReader(path=path, rungs=(3, 9))
    assert reader.poll() == {}
    path.write_text(text_of(RECORDS) + '{"kind": "eval", "ep')
    # An undefined Dice is missing.
    at_9 = {"iou": 0.5, "parameters": 1234.0, "images_per_s": 5.5}
    assert reader.poll() == {3: AT_3, 9: at_9}
    assert RungReader(path=path, rungs=(2,)).poll().keys() == {2}


def test_a_file_is_followed_while_it_grows_and_when_it_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "rank_000.jsonl"
    reader = RungReader(path=path, rungs=(3,))
    text = text_of(RECORDS[:8])
    for end in range(0, len(text) + 1, 37):
        path.write_text(text[:end])
        found = dict(reader.poll())
    path.write_text(text)
    assert reader.poll() == {3: AT_3}
    assert found in ({}, {3: AT_3})
    # The ranks start again from an earlier checkpoint, on other cards.
    path.write_text(text_of([{**START, "parameters": 99}, EVAL_AT_3, SAVED_AT_3]))
    assert reader.poll()[3] == {**SCORES_AT_3, "parameters": 99.0}


def test_a_result_counts_once_its_checkpoint_is_written(tmp_path: Path) -> None:
    """Ranks killed in between go on from an earlier checkpoint, and measure again."""
    path = tmp_path / "rank_000.jsonl"
    reader = RungReader(path=path, rungs=(3,))
    path.write_text(text_of([START, EVAL_AT_3]))
    assert reader.poll() == {}
    # Read by who comes later too, and the same once ranks have started from nothing.
    assert RungReader(path=path, rungs=(3,)).poll() == {}
    again = {**EVAL_AT_3, "dice": 0.6}
    path.write_text(text_of([START, EVAL_AT_3, START, again]))
    assert reader.poll() == {}
    path.write_text(text_of([START, EVAL_AT_3, START, again, SAVED_AT_3]))
    assert {epoch: found["dice"] for epoch, found in reader.poll().items()} == {3: 0.6}


def test_ranks_that_go_on_from_a_checkpoint_that_was_not_told_tell_it(tmp_path: Path) -> None:
    """They were killed after they wrote it, and before they said so; and they wait at the rung."""
    path = tmp_path / "rank_000.jsonl"
    path.write_text(text_of([START, EVAL_AT_3, {**START, "step": 6}]))
    assert RungReader(path=path, rungs=(3,)).poll().keys() == {3}


def test_records_of_another_program_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rank_000.jsonl"
    path.write_text(
        '{"kind": "start"}\n{"kind": "step"}\n[1]\nnot json\n' + text_of([EVAL_AT_3, SAVED_AT_3])
    )
    assert RungReader(path=path, rungs=(3,)).poll() == {3: SCORES_AT_3}

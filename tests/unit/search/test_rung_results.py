import json
from pathlib import Path

from unet_dist.search.rung_results import RungReader

RECORDS = [
    {"kind": "start", "parameters": 1234},
    *({"kind": "step", "images_per_s": rate} for rate in (1.0, 5.0, 6.0)),
    {"kind": "eval", "epoch": 2.0, "dice": 0.4, "iou": 0.3},
    {"kind": "eval", "epoch": 3.0, "dice": 0.5, "iou": 0.4, "latency_ms": 8.5},
    {"kind": "step", "images_per_s": 7.0},
    {"kind": "eval", "epoch": 9.0, "dice": None, "iou": 0.5},
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
    text = text_of(RECORDS[:6])
    for end in range(0, len(text) + 1, 37):
        path.write_text(text[:end])
        found = dict(reader.poll())
    path.write_text(text)
    assert reader.poll() == {3: AT_3}
    assert found in ({}, {3: AT_3})
    # The ranks start again from an earlier checkpoint, on other cards.
    path.write_text(text_of([{"kind": "start", "parameters": 99}, RECORDS[5]]))
    assert reader.poll()[3] == {**SCORES_AT_3, "parameters": 99.0}


def test_records_of_another_program_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rank_000.jsonl"
    path.write_text('{"kind": "start"}\n{"kind": "step"}\n[1]\nnot json\n' + text_of([RECORDS[5]]))
    assert RungReader(path=path, rungs=(3,)).poll() == {3: SCORES_AT_3}

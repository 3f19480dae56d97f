"""``unet-dist rank-table``: exit codes, one JSON object, and what a person reads."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from table_samples import SHIPPED, one_server, shipped, write
from typer.testing import CliRunner, Result

from unet_dist.cli.rank_table import app
from unet_dist.errors import UserError


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_clean_table_exits_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK_ID", raising=False)
    result = _run("check", SHIPPED / "2x8.json", "--chip", "910A", "--json")
    report = _json(result)
    assert result.exit_code == 0
    assert report["counts"] == {"ERROR": 0, "UNSUPPORTED": 0, "WARN": 0}
    assert (report["ranks"], report["servers"], report["problems"]) == (16, 2, [])


@pytest.mark.parametrize(
    ("cards", "severity", "code"), [([0, 1, 2], "ERROR", 1), ([0, 4], "UNSUPPORTED", 1)]
)
def test_what_is_refused_or_forbidden_exits_with_1(
    tmp_path: Path, cards: list[int], severity: str, code: int
) -> None:
    path = write(tmp_path / "t.json", one_server(cards))
    result = _run("check", path, "--chip", "910A", "--json")
    assert result.exit_code == code
    problems = _json(result)["problems"]
    assert [(p["rule"], p["severity"], p["path"]) for p in problems] == [
        ("R15", severity, "server_list[0]")
    ]
    assert set(problems[0]) == {"path", "rule", "severity", "code", "message", "fix", "source"}


def test_a_warning_alone_exits_with_0(tmp_path: Path) -> None:
    tree = one_server([0, 1])
    tree["server_list"][0]["device"][1]["device_ip"] = "192.168.100.11"
    result = _run("check", write(tmp_path / "t.json", tree), "--chip", "910A")
    assert result.exit_code == 0
    assert "0 ERROR, 0 UNSUPPORTED, 1 WARN" in result.stdout


def test_the_text_names_place_rule_code_and_cure_and_the_source_if_asked(tmp_path: Path) -> None:
    tree = shipped("2x8")
    tree["server_list"][1]["server_id"] = "10.0.0.1"
    path = write(tmp_path / "t.json", tree)
    result = _run("check", path)
    assert "ERROR R9 EI0014 at server_list[1].server_id" in result.stdout
    assert '"10.0.0.1" is already used by server_list[0]' in result.stdout
    assert "mend: write a server_id of its own" in result.stdout
    assert ".cc" not in result.stdout
    assert result.stdout.splitlines()[-1] == "also run with --chip 910A|910B|910C"
    assert "topoinfo_ranktableConcise.cc GetSingleServer" in _run("check", path, "--verbose").stdout


def test_unsupported_is_explained_once_where_there_is_one(tmp_path: Path) -> None:
    meaning = "HCCL would start, its documents forbid it"
    path = write(tmp_path / "t.json", one_server([0, 4]))
    assert _run("check", path, "--chip", "910A").stdout.count(meaning) == 1
    assert meaning not in _run("check", path, "--chip", "910B").stdout


def test_a_rank_of_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK_ID", "16")
    result = _run("check", SHIPPED / "2x8.json", "--json")
    assert result.exit_code == 1
    assert [problem["rule"] for problem in _json(result)["problems"]] == ["R13"]


def test_check_waits_for_a_scheduler_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", one_server([0], status="initializing"))
    part = write(tmp_path / "part", one_server([0]))
    writer = threading.Timer(0.3, lambda: part.replace(path))
    writer.start()
    start = time.monotonic()
    result = _run("check", path, "--json", "--wait", "30")
    writer.join()
    assert result.exit_code == 0
    assert time.monotonic() - start < 10
    assert "its status is initializing; waiting up to 30 s more (--wait)" in result.stderr
    assert _json(result)["ranks"] == 1


def test_merge_slice_and_convert_write_a_table(tmp_path: Path) -> None:
    parts = []
    for number in (1, 2):
        part = tmp_path / f"part{number}.json"
        whole = SHIPPED / "2x8.json"
        assert _run("slice", whole, "--servers", f"10.0.0.{number}", "-o", part).exit_code == 0
        parts.append(part)
    merged = tmp_path / "merged.json"
    result = _run("merge", *parts, "-o", merged, "--json")
    assert result.exit_code == 0
    assert _json(result)["ranks"] == 16
    assert merged.read_text() == (SHIPPED / "2x8.json").read_text()
    pods = tmp_path / "pods.json"
    assert _run("convert", merged, "--to", "template2", "-o", pods).exit_code == 0
    assert pods.read_text() == (SHIPPED / "template2_2x8.json").read_text()


@pytest.mark.parametrize(
    ("choice", "lines"),
    [
        (["--devices", "0-3"], []),
        (["--devices", "0-2"], ["has 3 cards, but 910A works with", "has 3 cards, but 910A"]),
        (["--ranks", "0-3,12"], ["has 1 card, but 10.0.0.1 has 4"]),
    ],
)
def test_a_slice_that_a_910a_would_refuse_is_written_with_a_warning(
    tmp_path: Path, choice: list[str], lines: list[str]
) -> None:
    result = _run("slice", SHIPPED / "2x8.json", *choice, "-o", tmp_path / "t.json")
    assert result.exit_code == 0
    warnings = [x for x in result.stdout.splitlines() if x.startswith("910A would refuse this: ")]
    assert len(warnings) == len(lines)
    assert all(part in warning for part, warning in zip(lines, warnings, strict=True))


def test_converting_says_which_keys_of_a_super_pod_it_cannot_fill(tmp_path: Path) -> None:
    result = _run("convert", SHIPPED / "2x8.json", "--to", "1.2", "-o", tmp_path / "t.json")
    assert "written without super_device_id and super_pod_list, which " in result.stdout
    back = _run("convert", SHIPPED / "superpod_4x8.json", "--to", "1.2", "-o", tmp_path / "u.json")
    assert "written without" not in back.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none.json"], "no such file"),
        (["merge", SHIPPED / "1x8.json", "-o", "out.json"], "one table is nothing to merge"),
        (["slice", SHIPPED / "1x8.json", "-o", "out.json"], "pass at least one of --servers"),
        (["show", "none.json"], "none.json: no such file"),
    ],
)
def test_what_was_asked_wrongly_is_told_to_the_user(arguments: list[object], message: str) -> None:
    result = _run(*arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", SHIPPED / "1x8.json", "--chip", "920"],
        ["check", SHIPPED / "1x8.json", "--wait", "-1"],
        ["convert", SHIPPED / "1x8.json", "--to", "3.0", "-o", "out.json"],
        ["merge", SHIPPED / "1x8.json"],
    ],
)
def test_a_wrong_option_exits_with_2(arguments: list[object]) -> None:
    assert _run(*arguments).exit_code == 2


def test_diff_exits_with_1_and_names_the_ranks(tmp_path: Path) -> None:
    tree = shipped("2x8")
    tree["server_list"][0]["device"][2]["device_ip"] = "192.168.102.99"
    path = write(tmp_path / "t.json", tree)
    result = _run("diff", SHIPPED / "2x8.json", path)
    assert result.exit_code == 1
    assert "rank 2: device_ip 192.168.102.10 -> 192.168.102.99" in result.stdout
    report = _json(_run("diff", SHIPPED / "2x8.json", path, "--json"))
    assert report["same"] is False
    assert report["differences"] == [
        {"where": "rank 2", "key": "device_ip", "a": "192.168.102.10", "b": "192.168.102.99"}
    ]


def test_diff_overlooks_the_order_of_keys_but_not_of_servers(tmp_path: Path) -> None:
    """HCCL compares a checksum of the JSON with sorted keys (R18)."""
    tree = shipped("2x8")
    turned = write(tmp_path / "turned.json", dict(reversed(tree.items())))
    result = _run("diff", SHIPPED / "2x8.json", turned)
    assert (result.exit_code, "are the same to HCCL" in result.stdout) == (0, True)
    tree["server_list"].reverse()
    result = _run("diff", turned, write(tmp_path / "reversed.json", tree))
    assert result.exit_code == 1
    assert "EI0005 (R18" in result.stdout


def test_diff_says_first_that_servers_changed_places(tmp_path: Path) -> None:
    parts = [tmp_path / f"{number}.json" for number in (2, 1)]
    for part in parts:
        _run("slice", SHIPPED / "2x8.json", "--servers", f"10.0.0.{part.stem}", "-o", part)
    _run("merge", *parts, "-o", tmp_path / "turned.json")
    lines = _run("diff", SHIPPED / "2x8.json", tmp_path / "turned.json").stdout.splitlines()
    assert lines[1] == "  servers 10.0.0.1 and 10.0.0.2 are in another order"


def test_diff_writes_every_absent_value_alike(tmp_path: Path) -> None:
    tree = shipped("1x8")
    del tree["server_list"][0]["device"][0]["device_ip"]
    tree["server_list"][0]["device"][1]["host_port"] = "60000"
    text = _run("diff", SHIPPED / "1x8.json", write(tmp_path / "t.json", tree)).stdout
    assert "rank 0: device_ip 192.168.100.10 -> (none)" in text
    assert "rank 1: host_port (none) -> 60000" in text


def test_a_name_without_json_at_its_end_is_refused_with_the_rule(tmp_path: Path) -> None:
    result = _run("slice", SHIPPED / "1x8.json", "--ranks", "0", "-o", tmp_path / "x.txt")
    assert "the name must end in .json, with no earlier '.json' in the path" in str(
        result.exception
    )


def test_show_lists_every_card() -> None:
    text = _run("show", SHIPPED / "superpod_4x8.json").stdout
    assert "dialect 1.2: 4 servers, 32 ranks" in text
    assert "server 10.0.0.3, super pod 1, host_ip 10.0.0.3" in text
    assert [line.split()[:4] for line in text.splitlines() if "super_device_id 15" in line] == [
        ["15", "7", "-", "192.168.101.17"],
        ["31", "7", "-", "192.168.103.17"],
    ]
    facts = _json(_run("show", SHIPPED / "1x8.json", "--json"))
    assert [device["ring"] for device in facts["servers"][0]["devices"]] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("command", ["check", "merge", "slice", "convert", "diff", "show"])
def test_help_has_an_example(command: str) -> None:
    result = _run(command, "--help")
    assert result.exit_code == 0
    assert f"unet-dist rank-table {command} " in result.stdout

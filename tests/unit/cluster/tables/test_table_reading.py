"""Files: limits, what is no JSON, waiting for a scheduler, and the cure in every message."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from table_samples import SHIPPED, one_server, shipped, write

from unet_dist.cluster.tables.check import check_tree, path_problems
from unet_dist.cluster.tables.read import (
    MAX_BYTES,
    check_file,
    load_rank_table,
    parse,
    read_when_ready,
)
from unet_dist.errors import UserError


class Clock:
    """Time that passes only while someone sleeps, and a writer that acts at given times."""

    def __init__(self, acts: dict[float, Callable[[], object]]) -> None:
        self.now = 0.0
        self.acts = dict(sorted(acts.items()))
        self.notes: list[tuple[str, float]] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [when for when in self.acts if when <= self.now]:
            self.acts.pop(when)()

    def read(self, path: Path, wait_s: float) -> tuple[object, list[str]]:
        tree, problems = read_when_ready(
            path,
            wait_s,
            on_wait=lambda reason, left_s: self.notes.append((reason, left_s)),
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        return tree, [problem.rule for problem in problems]


def test_a_table_that_is_initializing_is_waited_for_and_the_wait_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", one_server([0], status="initializing"))
    clock = Clock({3.0: lambda: write(path, one_server([0]))})
    assert clock.read(path, 10) == (one_server([0]), [])
    assert clock.now == 3.0
    assert clock.notes[0] == ("its status is initializing", 10.0)


def test_the_wait_has_an_end(tmp_path: Path) -> None:
    tree = one_server([0], status="initializing")
    clock = Clock({})
    assert clock.read(write(tmp_path / "t.json", tree), 2) == (tree, [])
    assert clock.now == 2.0
    assert [problem.rule for problem in check_tree(tree).problems] == ["R4"]


def test_a_half_written_file_is_read_again_until_it_is_whole(tmp_path: Path) -> None:
    text = json.dumps(one_server([0, 1]))
    path = tmp_path / "t.json"
    path.write_text("")
    clock = Clock({0.5: lambda: path.write_text(text[:40]), 1.0: lambda: path.write_text(text)})
    assert clock.read(path, 10) == (one_server([0, 1]), [])
    assert clock.now == 1.0


def test_a_file_that_stays_broken_is_not_waited_for_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"version": ')
    clock = Clock({})
    assert clock.read(path, 3600) == (None, ["R3"])
    assert 2 <= clock.now <= 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"Fake rank table", "Expecting value"),
        (b'{"version": "1.0", // which\n}', "JSON has no comments"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1e999}', "too large a number"),
        (b'{"a": "\\ud800"}', "UTF-8"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"null", "only null"),
        (b"[" * 1_000_000, "nested deeper than 64"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper than 64"),
        (b"[" + b"{}," * 200_000 + b"{}]", "200001 objects"),
        (b"9" * 1_000_000, ""),
        (b'"' + b"a" * 1_000_000, ""),
    ],
    ids=range(13),
)
def test_what_is_no_json_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    tree, problems = parse(content)
    assert tree is None
    assert [(problem.rule, problem.code) for problem in problems] == [("R3", "EI0004")]
    assert reason in problems[0].message


def test_a_byte_order_mark_is_overlooked() -> None:
    assert parse(b"\xef\xbb\xbf{}") == ({}, [])


def test_a_large_table_is_checked_in_time_that_grows_with_its_size() -> None:
    """10,000 cards of 1,250 servers, each wrong: minutes if anything were quadratic."""
    tree = shipped("1x8")
    tree["server_list"] *= 1250
    problems = check_tree(tree, "910A").problems
    # server_count; 1249 names; 9992 addresses and as many ranks; too many servers.
    assert len(problems) == 1 + 1249 + 2 * 9992 + 1


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="larger than 10,000,000 bytes, which no rank table is"):
        check_file(path)


def test_a_missing_file_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path, message in (
        (tmp_path / "none.json", "no such file"),
        (tmp_path, "is not a file"),
        (pipe, "is not a file"),
        (tmp_path / "nul\0.json", "is no path"),
        (tmp_path / ("x" * 5000), "too long"),
    ):
        with pytest.raises(UserError, match=message):
            check_file(path, wait_s=60)


@pytest.mark.parametrize(
    ("name", "rule"), [("job.json.d/t.json", "R2"), ("t.txt", "R2"), ("a" * 4096 + ".json", "R1")]
)
def test_a_path_that_hccl_would_refuse_is_told(name: str, rule: str) -> None:
    problems = path_problems(Path("/tables") / name)
    assert [(problem.rule, problem.severity) for problem in problems] == [(rule, "ERROR")]


def test_the_launcher_gets_a_table_or_every_reason_at_once(tmp_path: Path) -> None:
    assert load_rank_table(SHIPPED / "2x8.json").world == 16
    tree = one_server([0, 1, 2, 3])
    tree["server_list"][0]["device"][1]["rank_id"] = "0"
    tree["server_list"][0]["device"][2]["device_ip"] = "x"
    path = write(tmp_path / "t.json", tree)
    with pytest.raises(UserError) as raised:
        load_rank_table(path)
    assert raised.value.where == str(path)
    assert raised.value.faults == (
        "server_list[0].device[1].rank_id: rank_id 0 is already used by "
        "server_list[0].device[0]; 1 is free (R12, EI0014)",
        'server_list[0].device[2].device_ip: device_ip "x" is not an IP address; '
        "hccn_tool -i ID -ip -g tells the address of a card (R11, EI0014)",
    )


def test_the_launcher_takes_what_hccl_takes(tmp_path: Path) -> None:
    """Cards of both rings: the documents of the 910A forbid it, HCCL starts them."""
    path = write(tmp_path / "t.json", one_server([0, 4]))
    assert load_rank_table(path, "910A").world == 2


def test_the_launcher_refuses_a_dialect_that_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", one_server([0], version="1.1"))
    with pytest.raises(UserError, match="hosts and cards together"):
        load_rank_table(path)

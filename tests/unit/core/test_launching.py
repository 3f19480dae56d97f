"""Where ranks are put, what is shown of their logs, and how a job goes on without a card."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from unet_dist.cli.launch import resolved
from unet_dist.cli.where import supervision_of
from unet_dist.cluster.failure import Failure
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.cluster.topology import Host
from unet_dist.errors import UserError
from unet_dist.launching.describe import describe_failure
from unet_dist.launching.journal import Journal
from unet_dist.launching.placement import Placement, Supervision, parse_ranks, plan_job, read_hosts
from unet_dist.launching.shrink import cards_that_work_together, without_card
from unet_dist.progress import TAIL_AT_ONCE, LogTail
from unet_dist.records import read_records
from unet_dist.runs import RunDir, write_json

TABLES = Path(__file__).parents[3] / "rank_tables"


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(UserError) as raised:
        Placement(simulate=2, rank_table="t.json", comm="mindspore", hosts=(Host("a"),), part="0/2")
    assert len(raised.value.faults) == 5
    with pytest.raises(UserError, match="started by one mpirun"):
        Placement(simulate=4, part="0/2")
    with pytest.raises(UserError, match="--master is '', but must be HOST:PORT"):
        Placement(simulate=4, part="0/2", comm="mindspore")


def test_a_placement_survives_the_plan_it_is_written_into(tmp_path: Path) -> None:
    placement = Placement(simulate=4, hosts=(Host("a", 2), Host("b", 2)))
    plan, attempt = plan_job(RunDir(tmp_path), {"kind": "train"}, placement, Supervision().limits)
    assert Placement.of_json(plan.to_json()["job"]["placement"]) == placement
    assert attempt.number == 0


@pytest.mark.parametrize(("bind", "cores"), [(True, [(1,), (2, 3)]), (False, [(), ()])])
def test_the_ranks_of_cards_get_cores_near_them_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bind: bool, cores: list[tuple[int, ...]]
) -> None:
    near = {0: (1,), 1: (2, 3)}
    monkeypatch.setattr("unet_dist.launching.placement.cores_near_cards", lambda cards: near)
    placement = Placement(rank_table=str(TABLES / "1x2.json"), bind_cores=bind)
    plan, _ = plan_job(RunDir(tmp_path), {"kind": "train"}, placement, Supervision().limits)
    assert [process.cores for process in plan.processes] == cores


def test_with_several_servers_this_one_is_found_by_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unet_dist.launching.placement.host_addresses", lambda: ("10.0.0.2",))
    topology = Placement(rank_table=str(TABLES / "2x8.json")).topology()
    assert topology.mine == tuple(range(8, 16))


def test_a_resumed_job_is_placed_as_before_unless_told_otherwise() -> None:
    earlier = {"simulate": 4, "comm": "mindspore", "part": "0/2", "master": "a:1"}
    assert Placement().or_else(earlier) == Placement(simulate=4)
    again = Placement(part="1/2", comm="mindspore", master="a:1")
    assert again.or_else(earlier) == replace(again, simulate=4)
    assert Placement(simulate=2).or_else(earlier) == Placement(simulate=2)
    assert Placement(comm="mindspore").or_else({"simulate": 4}).comm == "mindspore"
    cards = {"rank_table": "/t.json", "server_id": "a"}
    assert Placement(bind_cores=False).or_else(cards) == Placement(
        rank_table="/t.json", bind_cores=False
    )


def test_hosts_come_from_the_command_line_or_from_a_file(tmp_path: Path) -> None:
    assert read_hosts("a:2,b") == (Host("a", 2), Host("b"))
    assert read_hosts("") == ()
    file = tmp_path / "hosts"
    file.write_text("# two servers\na slots=2\nb devices=0-3 server_id=10.0.0.2\n")
    assert read_hosts(str(file)) == (Host("a", 2), Host("b", 4, "10.0.0.2"))
    many = ",".join(f"server{number:03}:8" for number in range(64))
    assert len(read_hosts(many)) == 64
    with pytest.raises(UserError, match="already"):
        read_hosts("a,a")
    with pytest.raises(UserError, match="cannot be read"):
        read_hosts("hosts.txt")
    file.write_text("a slots=x\nb colour=red\n")
    with pytest.raises(UserError) as raised:
        read_hosts(str(file))
    assert len(raised.value.faults) == 2


def test_ranks_to_show_are_numbers_and_ranges() -> None:
    assert parse_ranks("0,4-6,5", "--tee") == (0, 4, 5, 6)
    with pytest.raises(UserError, match="--tee"):
        parse_ranks("a", "--tee")
    with pytest.raises(UserError, match="write 0-7"):
        parse_ranks("7-0", "--tee")


def test_supervision_that_could_have_no_effect_is_refused() -> None:
    here, there = Placement(simulate=2), Placement(simulate=2, hosts=(Host("a"), Host("b")))
    with pytest.raises(UserError) as raised:
        supervision_of(there.topology(), min_ranks=3, tee="5")
    assert len(raised.value.faults) == 4
    assert supervision_of(here.topology(), min_ranks=1, max_restarts=2, tee="0-1").shown_ranks == (
        0,
        1,
    )


def test_the_program_to_start_is_looked_for_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    runner = (sys.executable, "-m", "unet_dist.run_script")
    assert resolved(["train.py", "-v"]) == (*runner, "train.py", "-v")
    assert resolved(["python", "train.py"]) == (*runner, "train.py")
    assert resolved(["python3", "-m", "pkg"]) == (*runner, "-m", "pkg")
    assert resolved(["python", "-c", "pass"]) == (sys.executable, "-c", "pass")
    assert resolved(["true"])[0].endswith("/true")
    for missing in (["nowhere"], ["nowhere.py"], ["python", "nowhere.py"]):
        with pytest.raises(UserError, match="nowhere"):
            resolved(missing)


def test_hosts_with_slots_say_how_many_simulated_ranks_there_are() -> None:
    assert Placement(hosts=(Host("a", 2), Host("b", 2))).topology().world == 4
    assert Placement(hosts=(Host("a"), Host("b"))).topology().world == 2


def test_an_attempt_whose_launcher_was_killed_gets_its_end_when_the_run_goes_on(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    write_json(run.attempt(0).plan, {})
    journal = Journal(run, Console(), keeps_status=True)
    journal.close_open_attempt()
    journal.close_open_attempt()
    [end] = read_records(run.timeline)
    assert (end["attempt"], end["state"]) == (0, "lost")


@pytest.mark.parametrize(
    ("victims", "first_line"),
    [
        (("rank 1: the same, 0.0 s later",), "all 2 ranks failed alike: no driver"),
        (("rank 1: other, 0.1 s later",), "rank 0 failed first: no driver"),
        ((), "rank 0 failed first: no driver"),
    ],
)
def test_ranks_that_fail_alike_are_not_told_apart(
    victims: tuple[str, ...], first_line: str
) -> None:
    failure = Failure(rank=0, reason="no driver", kind="error", victims=victims)
    lines = describe_failure(failure).splitlines()
    assert lines[0] == first_line
    assert ("a victim of this" in "".join(lines)) == (first_line[0] == "r" and bool(victims))


@pytest.mark.parametrize(
    ("bad", "size", "left"),
    [(3, 4, [4, 5, 6, 7]), (5, 4, [0, 1, 2, 3]), (0, 2, [1, 2]), (0, 1, [1])],
)
def test_the_cards_that_go_on_are_ones_that_a_910a_lets_work_together(
    bad: int, size: int, left: list[int]
) -> None:
    smaller = cards_that_work_together(load_rank_table(TABLES / "1x8.json"), bad, size)
    assert smaller is not None
    assert [device.device_id for device in smaller.servers[0].devices] == left
    assert [device.rank for device in smaller.servers[0].devices] == list(range(size))


def test_a_table_without_the_card_is_written_into_the_run(tmp_path: Path) -> None:
    placement = Placement(rank_table=str(TABLES / "1x8.json"))
    card = ("10.0.0.1", 6)
    found = without_card(
        placement, card, run=RunDir(tmp_path), fitting=[1, 2, 4, 8, 16], min_ranks=2
    )
    assert found is not None
    devices = load_rank_table(Path(found.rank_table)).servers[0].devices
    assert [device.device_id for device in devices] == [0, 1, 2, 3]
    none = without_card(placement, card, run=RunDir(tmp_path), fitting=[1, 8], min_ranks=2)
    assert none is None


def tail(log: Path, *texts: bytes, many: bool = True) -> list[str]:
    stream = io.StringIO()
    follower = LogTail({3: log}, Console(file=stream, width=10_000), many=many)
    for text in texts:
        with log.open("ab") as writer:
            writer.write(text)
        follower.poll()
    return stream.getvalue().splitlines()


def test_whole_lines_are_shown_with_their_rank(tmp_path: Path) -> None:
    assert tail(tmp_path / "l", b"one\ntw", b"o\n[red]\xff\n") == [
        "[3] one",
        "[3] two",
        "[3] [red]�",
    ]
    assert tail(tmp_path / "m", b"one\n", many=False) == ["one"]


def test_a_flood_is_passed_over_and_said(tmp_path: Path) -> None:
    flood = b"x" * 99 + b"\n"
    lines = tail(tmp_path / "l", flood * (3 * TAIL_AT_ONCE // 100), b"end\n")
    assert "bytes left out" in lines[0]
    assert lines[-1] == "[3] end"

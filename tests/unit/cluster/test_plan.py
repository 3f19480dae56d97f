import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.cluster.limits import Limits
from unet_dist.cluster.plan import LaunchPlan, find_mpirun, make_plan, worker_command
from unet_dist.cluster.tables.model import Device, RankTable, Server
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.cluster.topology import (
    Host,
    Part,
    Topology,
    from_rank_table,
    parse_part,
    parts_of_batch,
    share_cores,
    simulated,
)
from unet_dist.errors import UserError
from unet_dist.runs import AttemptDir

TABLES = Path(__file__).parents[3] / "rank_tables"
GOLDEN = Path(__file__).parent / "golden"
AVX512 = frozenset({"avx2", "avx512f"})
ATTEMPT = AttemptDir(Path("/runs/x/attempts/0"))
HOSTS = (Host("alpha", 0), Host("beta", 0))


def table_of(name: str, **where: Any) -> Topology:
    return from_rank_table(load_rank_table(TABLES / name), TABLES / name, **where)


def plan_of(topology: Topology, **options: Any) -> LaunchPlan:
    command = worker_command(ATTEMPT.part_plan(topology.part.index), {"kind": "train"})
    return make_plan(topology, ATTEMPT, command, environment={}, **{"comm": "mpi", **options})


@pytest.mark.parametrize(
    ("name", "topology", "options"),
    [
        ("cards_of_one_server", lambda: table_of("1x2.json"), {"comm": "mindspore"}),
        (
            "cards_of_the_second_server",
            lambda: table_of("2x8.json", part=Part(1, 2)),
            {"comm": "mindspore"},
        ),
        ("cards_over_hosts", lambda: table_of("2x8.json", hosts=HOSTS), {"comm": "mindspore"}),
        ("simulated_here", lambda: simulated(4, [0, 1]), {}),
        ("simulated_over_hosts", lambda: simulated(4, [0, 1], hosts=HOSTS), {}),
        (
            "simulated_part_with_mindspore",
            lambda: simulated(4, [0, 1], part=Part(0, 2)),
            {"comm": "mindspore", "master": ("10.0.0.1", 8118), "cpu_flags": AVX512},
        ),
    ],
)
def test_plans_are_those_of_the_golden_files(
    monkeypatch: pytest.MonkeyPatch, name: str, topology: Any, options: dict[str, Any]
) -> None:
    """The files were read and compared with what MindSpore's rank-table start-up, its dynamic
    cluster and mpirun ask for; a change of them must be meant."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    text = json.dumps(plan_of(topology(), **options).to_json(), indent=1)
    for value, word in (
        (find_mpirun(), "MPIRUN"),
        (sys.executable, "PYTHON"),
        (str(TABLES), "TABLES"),
    ):
        text = text.replace(value, word)
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text + "\n")
    assert text + "\n" == golden.read_text()


def test_one_process_per_card_with_the_environment_of_a_rank_table_start() -> None:
    plan = plan_of(table_of("1x8.json"), comm="mindspore", limits=Limits(chosen={"compile": 600}))
    assert plan.engine == "local"
    assert [process.ranks for process in plan.processes] == [(rank,) for rank in range(8)]
    env = plan.processes[3].env
    assert {key: env[key] for key in ("RANK_ID", "RANK_SIZE", "DEVICE_ID", "RANK_TABLE_FILE")} == {
        "RANK_ID": "3",
        "RANK_SIZE": "8",
        "DEVICE_ID": "3",
        "RANK_TABLE_FILE": str(TABLES / "1x8.json"),
    }
    # The longest phase is 1800 s: 60 s more, rounded up to a multiple of 68.
    assert env["HCCL_EXEC_TIMEOUT"] == "1904"
    assert env["HCCL_CONNECT_TIMEOUT"] == str(600 + 600 + 60)
    assert all(p.drop_env == ("OMPI_", "PMIX_", "PRTE_") for p in plan.processes)


def test_jobs_on_other_cards_of_a_server_use_other_ports() -> None:
    def ports(*cards: int) -> set[str | None]:
        whole = table_of("1x8.json")
        slots = tuple(replace(whole.slots[card], rank=rank) for rank, card in enumerate(cards))
        some = replace(whole, slots=slots, mine=tuple(range(len(cards))))
        return {process.env.get("HCCL_IF_BASE_PORT") for process in plan_of(some).processes}

    # 60000 is HCCL's own; it takes 32 from there on, fewer than the next job's distance.
    assert ports(*range(8)) == ports(0) == {None}
    assert ports(1) == {"60032"}
    assert ports(4, 5, 6, 7) == {"60128"}
    both = plan_of(table_of("2x8.json", server_id="10.0.0.2"))
    assert {process.env.get("HCCL_IF_BASE_PORT") for process in both.processes} == {None}


def test_time_limits_of_the_users_environment_are_kept() -> None:
    command = worker_command(ATTEMPT.plan, {})
    plan = make_plan(
        table_of("1x2.json"),
        ATTEMPT,
        command,
        comm="mindspore",
        environment={"HCCL_EXEC_TIMEOUT": "68"},
    )
    assert plan.processes[0].env["HCCL_EXEC_TIMEOUT"] == "68"


def test_more_ranks_than_cores_yield_to_each_other() -> None:
    plan = plan_of(simulated(4, [0, 1]))
    assert plan.starter is not None
    assert plan.starter.env["OMPI_MCA_mpi_yield_when_idle"] == "1"
    plan = plan_of(simulated(2, [0, 1]))
    assert plan.starter is not None
    assert "OMPI_MCA_mpi_yield_when_idle" not in plan.starter.env


def test_mpirun_counts_host_by_host_even_if_ranks_are_numbered_otherwise() -> None:
    """The table lists the server of rank 1 first."""
    servers = tuple(
        Server(server_id=name, devices=(Device(device_id=0, rank=rank),))
        for name, rank in (("10.0.0.1", 1), ("10.0.0.2", 0))
    )
    table, path = RankTable(dialect="1.0", servers=servers), Path("t.json")
    plan = plan_of(from_rank_table(table, path, hosts=HOSTS), comm="mindspore")
    assert [host.name for host in plan.topology.hosts] == ["alpha", "beta"]
    assert plan.mpi_order == ("rank_001", "rank_000")
    said = (Host("alpha", 0, "10.0.0.2"), Host("beta", 0, "10.0.0.1"))
    plan = plan_of(from_rank_table(table, path, hosts=said), comm="mindspore")
    assert plan.mpi_order == ("rank_000", "rank_001")
    with pytest.raises(UserError, match="give each host one of them, or none"):
        from_rank_table(table, path, hosts=(said[0], Host("beta")))


def test_onednn_is_held_back_only_on_avx512_and_only_if_the_user_did_not_choose() -> None:
    def isa(environment: dict[str, str]) -> str | None:
        plan = make_plan(
            simulated(1, [0]),
            ATTEMPT,
            worker_command(ATTEMPT.plan, {}),
            comm="mpi",
            cpu_flags=AVX512,
            environment=environment,
        )
        return plan.processes[0].env.get("ONEDNN_MAX_CPU_ISA")

    assert isa({}) == "AVX2"
    assert isa({"ONEDNN_MAX_CPU_ISA": "AVX"}) is None


@given(st.integers(1, 40), st.integers(1, 16))
def test_ranks_share_the_cores_evenly(ranks: int, cores: int) -> None:
    shares = share_cores(list(range(cores)), ranks)
    counts = [sum(core in share for share in shares) for core in range(cores)]
    assert len(shares) == ranks
    assert all(shares)
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 64), st.integers(1, 8))
def test_every_rank_is_started_by_exactly_one_part(ranks: int, parts: int) -> None:
    if ranks < parts:
        with pytest.raises(UserError, match="cannot be spread"):
            simulated(ranks, [0], part=Part(0, parts))
        return
    started = [simulated(ranks, [0], part=Part(i, parts)).mine for i in range(parts)]
    assert [rank for mine in started for rank in mine] == list(range(ranks))


@pytest.mark.parametrize(
    ("part", "ranks"),
    [(Part(1, 2), range(8, 16)), (Part(3, 16), [3]), (Part(3, 4), range(12, 16))],
)
def test_a_part_is_a_server_or_an_equal_piece_of_one(part: Part, ranks: Any) -> None:
    assert table_of("2x8.json", part=part).mine == tuple(ranks)


def test_parts_that_would_cross_servers_are_refused() -> None:
    with pytest.raises(UserError, match="use 2 parts, one for each server, or 16"):
        table_of("2x8.json", part=Part(0, 3))


def test_a_server_starts_its_own_cards_only() -> None:
    topology = table_of("2x8.json", server_id="10.0.0.2")
    assert topology.world == 16
    assert topology.part == Part(1, 2)
    assert [(slot.rank, slot.device_id) for slot in topology.my_slots] == [
        (rank, rank - 8) for rank in range(8, 16)
    ]


def test_with_several_servers_the_user_says_which_one_this_is() -> None:
    with pytest.raises(UserError, match=r"Pass one of: 10\.0\.0\.1, 10\.0\.0\.2"):
        table_of("2x8.json")


def test_hosts_must_fit_the_ranks() -> None:
    with pytest.raises(UserError, match="slots are 3, but --simulate asks for 4"):
        simulated(4, [0], hosts=[Host("a", 1), Host("b", 2)])
    with pytest.raises(UserError, match="names 1 hosts, but the rank table has 2 servers"):
        table_of("2x8.json", hosts=[Host("a", 0)])
    with pytest.raises(UserError, match=r"a has 4 slots, but server 10\.0\.0\.1 has 8 cards"):
        table_of("2x8.json", hosts=[Host("a", 4), Host("b", 8)])


@pytest.mark.parametrize("text", ["2", "2/2", "-1/2", "a/b", "1/", "0/0"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be I/N"):
        parse_part(text)


def test_ranks_that_do_not_divide_the_batch_are_told_which_would() -> None:
    assert parts_of_batch(12, 3, 2) == 2
    with pytest.raises(UserError, match="ranks that fit: 1, 2, 3, 4, 6, 12"):
        parts_of_batch(12, 1, 5)

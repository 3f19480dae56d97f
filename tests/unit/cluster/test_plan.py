import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.cluster.plan import make_plan
from unet_dist.cluster.rank_table import read_rank_table
from unet_dist.cluster.topology import from_rank_table, parts_of_batch, simulated
from unet_dist.errors import UserError
from unet_dist.runs import AttemptDir

TABLES = Path(__file__).parents[3] / "rank_tables"
AVX512 = frozenset({"avx2", "avx512f"})


def test_one_process_per_card_with_the_environment_of_a_rank_table_start(tmp_path: Path) -> None:
    topology = from_rank_table(read_rank_table(TABLES / "1x8.json"), None)
    plan = make_plan(topology, AttemptDir(tmp_path), {}, comm="mindspore", environment={})
    assert [process.ranks for process in plan.processes] == [(rank,) for rank in range(8)]
    assert plan.processes[3].env == {
        "PYTHONUNBUFFERED": "1",
        "GLOG_v": "3",
        "RANK_TABLE_FILE": str(TABLES / "1x8.json"),
        "RANK_ID": "3",
        "RANK_SIZE": "8",
        "DEVICE_ID": "3",
        "HCCL_CONNECT_TIMEOUT": "600",
        "MS_ASCEND_CHECK_OVERFLOW_MODE": "INFNAN_MODE",
    }
    worker = (sys.executable, "-m", "unet_dist.train.worker", str(tmp_path / "plan.json"))
    assert all(process.argv == worker for process in plan.processes)


def test_simulated_ranks_start_under_one_mpirun(tmp_path: Path) -> None:
    plan = make_plan(simulated(4, [0, 1]), AttemptDir(tmp_path), {}, comm="mpi", environment={})
    [mpirun] = plan.processes
    assert mpirun.ranks == (0, 1, 2, 3)
    assert Path(mpirun.argv[0]).name == "mpirun"
    assert mpirun.argv[1:3] == ("-n", "4")
    assert mpirun.env["OMPI_MCA_mpi_yield_when_idle"] == "1"
    assert "ONEDNN_MAX_CPU_ISA" not in mpirun.env


def test_mindspore_collectives_on_the_cpu_need_a_scheduler(tmp_path: Path) -> None:
    plan = make_plan(
        simulated(2, [0, 1]),
        AttemptDir(tmp_path),
        {},
        comm="mindspore",
        scheduler_port=1234,
        environment={},
    )
    assert [process.name for process in plan.processes] == [
        "scheduler",
        "rank_000",
        "rank_001",
    ]
    assert plan.processes[0].env["MS_ROLE"] == "MS_SCHED"
    assert plan.processes[2].env["MS_NODE_ID"] == "1"
    assert plan.processes[2].env["MS_SCHED_PORT"] == "1234"


def test_onednn_is_held_back_only_on_avx512_and_only_if_the_user_did_not_choose(
    tmp_path: Path,
) -> None:
    def isa(environment: dict[str, str]) -> str | None:
        plan = make_plan(
            simulated(1, [0]),
            AttemptDir(tmp_path),
            {},
            comm="mpi",
            cpu_flags=AVX512,
            environment=environment,
        )
        return plan.processes[0].env.get("ONEDNN_MAX_CPU_ISA")

    assert isa({}) == "AVX2"
    assert isa({"ONEDNN_MAX_CPU_ISA": "AVX"}) is None


@given(st.integers(1, 40), st.integers(1, 16))
def test_simulated_ranks_share_the_cores_evenly(ranks: int, cores: int) -> None:
    slots = simulated(ranks, list(range(cores))).slots
    counts = [sum(core in slot.cores for slot in slots) for core in range(cores)]
    assert all(slot.cores for slot in slots)
    assert max(counts) - min(counts) <= 1
    assert [slot.rank for slot in slots] == list(range(ranks))


def test_ranks_that_do_not_divide_the_batch_are_told_which_would() -> None:
    assert parts_of_batch(12, 3, 2) == 2
    with pytest.raises(UserError, match="ranks that fit: 1, 2, 3, 4, 6, 12"):
        parts_of_batch(12, 1, 5)

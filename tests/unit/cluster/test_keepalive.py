"""What mpirun is told, so that it misses a host whose cable was cut."""

from pathlib import Path

import pytest

from unet_dist.cluster.limits import Limits
from unet_dist.cluster.plan import Command, LaunchPlan, make_plan
from unet_dist.cluster.topology import Host, simulated
from unet_dist.runs import AttemptDir

KEEPALIVE = "PRTE_MCA_oob_tcp_keepalive_"


def plan_of(host_s: float, environment: dict[str, str] | None = None) -> LaunchPlan:
    return make_plan(
        simulated(2, [0], hosts=[Host("a", 1), Host("b", 1)]),
        AttemptDir(Path("attempts/0")),
        Command(argv=("true",)),
        comm="mpi",
        limits=Limits(chosen={"host": host_s}),
        environment=environment or {},
    )


def keepalive_of(host_s: float, *, environment: dict[str, str] | None = None) -> dict[str, str]:
    plan = plan_of(host_s, environment)
    assert plan.starter is not None
    env = plan.starter.env.items()
    return {key.removeprefix(KEEPALIVE): v for key, v in env if key.startswith(KEEPALIVE)}


@pytest.mark.parametrize("host_s", [4, 5, 30, 31, 600])
def test_silence_and_unanswered_probes_add_up_to_the_limit_of_a_host(host_s: float) -> None:
    given = {name: int(value) for name, value in keepalive_of(host_s).items()}
    assert given["time"] + given["intvl"] * given["probes"] == host_s
    assert min(given.values()) >= 1


def test_a_host_that_is_never_missed_has_no_keepalive() -> None:
    assert keepalive_of(0) == {"time": "0"}
    assert plan_of(0).to_json()["host_s"] == 0


def test_a_setting_of_the_site_is_kept() -> None:
    given = keepalive_of(30, environment={f"{KEEPALIVE}time": "90"})
    assert given == {"intvl": "5", "probes": "3"}

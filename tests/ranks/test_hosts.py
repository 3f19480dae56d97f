"""Trainings over two hosts, which are two network namespaces, or two launchers, of this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import digests_of, processes_naming, steps_of, train, wait_for_step
from tests.ranks.test_launch_scripts import write_table
from unet_dist.cluster.guard import descendants
from unet_dist.cluster.host import free_port
from unet_dist.cluster.watchdog import GUARDS_S, retransmissions, sockets_of, tcp_table
from unet_dist.heartbeat import read_beat
from unet_dist.runs import AttemptDir, RunDir, rank_name, read_json

Process = subprocess.Popen[str]

A, B = "10.99.0.1", "10.99.0.2"
HOST_S = 5
"""--hang-limit host in these tests."""


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> list[float]:
    """The losses of two ranks on one host."""
    run = tmp_path_factory.mktemp("runs") / "single"
    train(*tiny, "train.epochs=6", "--simulate", 2, "--run", run)
    return steps_of(run, "loss")


def start(*command: object, environment: dict[str, str] | None = None) -> Process:
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def ended(process: Process, *, code: int, within_s: float) -> str:
    """The output of a process that must end by itself."""
    try:
        output, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(process.communicate()[0]) from None
    assert process.returncode == code, output
    return output


def assert_stopped_at_one_step_with_a_checkpoint(run: Path) -> int:
    last: int = steps_of(run, "step")[-1]
    assert steps_of(run, "step", rank=1)[-1] == last
    assert last in digests_of(run)
    assert RunDir(run).read_status()["state"] == "stopped"
    return last


def assert_nothing_survives(run: Path) -> None:
    deadline = time.monotonic() + 5
    while processes_naming(run):
        assert time.monotonic() < deadline, processes_naming(run)
        time.sleep(0.1)


def kill_rank(attempt: AttemptDir, rank: int) -> None:
    [pid] = [start["pid"] for start in attempt.starts() if start["name"] == rank_name(rank)]
    os.kill(pid, signal.SIGKILL)


def kill_all_below(launcher: Process, and_at_once: Callable[[], object] = lambda: None) -> None:
    """As when its host loses power."""
    for pid in (launcher.pid, *descendants(launcher.pid)):
        with contextlib.suppress(ProcessLookupError):  # those below may have ended with it
            os.kill(pid, signal.SIGKILL)
    and_at_once()
    launcher.communicate()


def wait_for_training(attempt: AttemptDir) -> None:
    """Until rank 0 is seen in a step."""
    beats = attempt.heartbeat(0)
    wait_until(lambda: (beat := read_beat(beats)) is not None and beat.step > 0)


def wait_until(condition: Callable[[], bool], *, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# mpirun over two network namespaces


def why_no_namespaces() -> str:
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    for program in ("ip", "unshare"):
        if shutil.which(program) is None:
            return f"making network namespaces needs the program {program}"
    tried = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, text=True)
    return tried.stderr.strip()


@dataclass(frozen=True)
class TwoHosts:
    """Network namespaces with a cable between them, each with a host name of its own."""

    a: str
    b: str
    agent: Path

    def start(self, command: str, *arguments: object, on_b: int = 1, **environment: str) -> Process:
        """On host a; mpirun reaches host b by an agent in place of ssh."""
        program = [sys.executable, "-m", "unet_dist", command, "--simulate", 1 + on_b]
        spread = ["--hosts", f"{A}:1,{B}:{on_b}", *arguments]
        named = ["sh", "-c", 'hostname host-a; exec "$@"', "sh"]
        return start(
            *("ip", "netns", "exec", self.a, "unshare", "--uts", *named, *program, *spread),
            environment={"PRTE_MCA_plm_ssh_agent": str(self.agent), **environment},
        )

    def start_training(self, run: Path, *arguments: object) -> Process:
        return self.start("train", *arguments, "--run", run)

    def pids(self, host: str) -> list[int]:
        listed = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        cable = ["ip", "-n", self.a, "link", "set", "eth0"]
        subprocess.run([*cable, "down"], check=True)
        try:
            yield
        finally:
            subprocess.run([*cable, "up"], check=True)
            # A search for the other's address that began during the cut ends seconds after it, and
            # fails what connects meanwhile: "No route to host".
            for host in (self.a, self.b):
                subprocess.run(["ip", "-n", host, "neigh", "flush", "dev", "eth0"], check=True)

    def kill_all_of(self, host: str) -> None:
        for pid in self.pids(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    if reason := why_no_namespaces():
        pytest.skip(reason)
    a, b = f"unet-a-{os.getpid()}", f"unet-b-{os.getpid()}"
    agent = tmp_path_factory.mktemp("agent") / "agent"
    # mpirun runs AGENT HOST COMMAND..., like ssh, which hands no variables on.
    agent.write_text(
        "#!/bin/sh\nshift\nexec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "
        f'ip netns exec {b} unshare --uts sh -c "hostname host-b; $*"\n'
    )
    agent.chmod(0o755)
    made = TwoHosts(a, b, agent)
    try:
        for command in (
            *(f"netns add {name}" for name in (a, b)),
            f"link add eth0 netns {a} type veth peer name eth0 netns {b}",
            f"-n {a} addr add {A}/24 dev eth0",
            f"-n {b} addr add {B}/24 dev eth0",
            *(f"-n {name} link set {link} up" for name in (a, b) for link in ("lo", "eth0")),
        ):
            subprocess.run(["ip", *command.split()], check=True)
        yield made
    finally:
        for name in (a, b):
            made.kill_all_of(name)
            subprocess.run(["ip", "netns", "delete", name], check=False)


def test_two_hosts_train_like_one(
    hosts: TwoHosts, tmp_path: Path, tiny: list[str], single: list[float]
) -> None:
    run = tmp_path / "run"
    output = ended(hosts.start_training(run, *tiny, "train.epochs=6"), code=0, within_s=60)
    assert "2 ranks simulated over 2 hosts" in output
    assert steps_of(run, "loss") == single
    starts = {start["name"]: start["host"] for start in RunDir(run).attempt(0).starts()}
    assert starts == {"rank_000": "host-a", "rank_001": "host-b"}


def test_ctrl_c_reaches_the_ranks_on_both_hosts(
    hosts: TwoHosts, tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "run"
    process = hosts.start_training(run, *tiny, "train.epochs=500")
    wait_for_step(run)
    process.send_signal(signal.SIGINT)
    ended(process, code=130, within_s=20)
    assert_stopped_at_one_step_with_a_checkpoint(run)
    assert not hosts.pids(hosts.b)


def test_a_lost_host_ends_the_other_and_is_named(
    hosts: TwoHosts, tmp_path: Path, tiny: list[str]
) -> None:
    run = tmp_path / "run"
    process = hosts.start_training(run, *tiny, "train.epochs=500", "--max-restarts", 0)
    wait_for_step(run, 15)
    assert hosts.pids(hosts.b)
    hosts.kill_all_of(hosts.b)
    output = ended(process, code=1, within_s=10)
    assert f"host {B} (host-b) is lost" in output
    assert "rank 1 ran there" in output
    assert_nothing_survives(run)
    assert not hosts.pids(hosts.a)
    assert not hosts.pids(hosts.b)
    saved = max(digests_of(run))
    train(run, f"train.epochs={saved // 10 + 1}", "--simulate", 2, "--resume")
    assert steps_of(run, "step") == list(range(1, saved + 11))


def test_a_cut_cable_ends_the_ranks_on_both_sides(hosts: TwoHosts, tmp_path: Path) -> None:
    """Light processes in place of ranks; the daemon on host b cannot be told, and must notice."""
    run, attempt = tmp_path / "run", RunDir(tmp_path / "run").attempt(0)
    limit = ["--hang-limit", f"host={HOST_S}"]
    process = hosts.start("launch", *limit, "--run", run, "--", "sleep", "60")
    wait_until(lambda: len(attempt.starts()) == 2)
    with hosts.cut_off():
        output = ended(process, code=1, within_s=HOST_S + 15)
        assert f"host {B} (host-b) is lost" in output
        wait_until(lambda: not hosts.pids(hosts.b), within_s=15)
    assert_nothing_survives(run)


def test_a_daemon_that_has_sent_something_into_a_cut_cable_is_ended_too(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    """The kernel sends it again for 15 minutes, and meanwhile no keepalive. The watchdog outlives
    the guard that started it."""
    run, attempt = tmp_path / "run", RunDir(tmp_path / "run").attempt(0)
    limit = ["--hang-limit", f"host={HOST_S}"]
    process = hosts.start("launch", *limit, "--run", run, "--", "sleep", "300", on_b=2)
    wait_until(lambda: len(attempt.starts()) == 3)
    [guard] = [start["guard"] for start in attempt.starts() if start["name"] == rank_name(1)]
    with hosts.cut_off():
        os.kill(guard, signal.SIGKILL)  # the daemon tells that at once
        wait_until(lambda: any(map(sends_again, hosts.pids(hosts.b))), within_s=5)
        output = ended(process, code=1, within_s=HOST_S + 15)
        assert f"host {B} (host-b) is lost" in output
        wait_until(lambda: not hosts.pids(hosts.b), within_s=HOST_S + GUARDS_S + 5)
    assert_nothing_survives(run)


def sends_again(pid: int) -> bool:
    return bool(retransmissions(tcp_table(pid), sockets_of(pid)))


def test_settings_reach_host_b_and_a_killed_launcher_leaves_nothing_there(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    run, attempt = tmp_path / "run", RunDir(tmp_path / "run").attempt(0)
    tells = 'echo "$HCCL_SOCKET_IFNAME, $HCCL_IF_IP, $RANK_ID"; exec sleep 60'
    mine = {"HCCL_SOCKET_IFNAME": "eth7", "HCCL_IF_IP": A, "RANK_ID": "9"}
    process = hosts.start("launch", "--run", run, "--", "sh", "-c", tells, **mine)
    log = attempt.rank_log(1)
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    assert log.read_text() == "eth7, , \n"
    process.kill()  # ip netns exec and unshare became it
    process.communicate()
    wait_until(lambda: not hosts.pids(hosts.b), within_s=10)
    assert_nothing_survives(run)


# A launcher for each part


@dataclass(frozen=True)
class TwoParts:
    run: Path
    port: int

    def start(self, *arguments: object, resume: bool = False) -> list[Process]:
        return [self._start(index, *arguments, resume=resume) for index in (0, 1)]

    def _start(self, index: int, *arguments: object, resume: bool) -> Process:
        where = [self.run, "--resume"] if resume else ["--run", self.run]
        return start(
            *(sys.executable, "-m", "unet_dist", "train", *where, *arguments),
            *("--simulate", 2, "--comm", "mindspore", "--master", f"127.0.0.1:{self.port}"),
            *("--part", f"{index}/2", "--hang-limit", f"host={HOST_S}"),
        )


@pytest.fixture
def parts(tmp_path: Path) -> TwoParts:
    return TwoParts(tmp_path / "run", free_port())


def test_parts_restart_together_stop_together_and_train_like_one_host(
    parts: TwoParts, tiny: list[str], single: list[float]
) -> None:
    """Rank 1 is killed after the first checkpoint, then Ctrl-C at part 0, then one host goes on."""
    run = parts.run
    both = parts.start(*tiny, "train.epochs=6", "--max-restarts", 1)
    wait_for_step(run, 12)
    kill_rank(RunDir(run).attempt(0), 1)
    wait_for_training(RunDir(run).attempt(1))
    both[0].send_signal(signal.SIGINT)
    output = ended(both[0], code=130, within_s=20)
    ended(both[1], code=130, within_s=10)
    assert "rank 1 failed first: ended by SIGKILL" in output
    assert "restart 1 of 1 from step 10" in output
    assert_stopped_at_one_step_with_a_checkpoint(run)
    train(run, "--resume", "--simulate", 2)
    assert steps_of(run, "loss") == pytest.approx(single, abs=1e-5)


def test_ctrl_c_at_part_1_stops_both_and_a_lost_part_ends_the_other(
    parts: TwoParts, tiny: list[str]
) -> None:
    run = parts.run
    both = parts.start(*tiny, "train.epochs=5000")
    wait_for_step(run)
    both[1].send_signal(signal.SIGINT)
    for process in both:
        ended(process, code=130, within_s=20)
    step = assert_stopped_at_one_step_with_a_checkpoint(run)
    both = parts.start(resume=True)
    wait_for_step(run, step + 1)
    kill_all_below(both[1])
    output = ended(both[0], code=1, within_s=HOST_S + 15)
    assert f"the launcher of part 1 has not been heard of for {HOST_S} s" in output
    assert_nothing_survives(run)
    assert read_json(RunDir(run).attempt(1).ended)["failure"]["kind"] == "host"


def start_light_part(run: Path, index: int, *command: object) -> Process:
    launch = [sys.executable, "-m", "unet_dist", "launch", "--run", run]
    where = ["--rank-table", run.with_name("table.json"), "--part", f"{index}/2"]
    return start(*launch, *where, "--hang-limit", f"host={HOST_S}", "--", *command)


def start_light_parts(run: Path, *command: object) -> list[Process]:
    """A process on each card of two servers; both parts are seen to live."""
    attempt = RunDir(run).attempt(0)
    write_table(run.with_name("table.json"), "10.0.0.1", "10.0.0.2", cards=1)
    both = [start_light_part(run, index, *command) for index in (0, 1)]
    wait_until(lambda: {s["name"] for s in attempt.starts()} == {"rank_000", "rank_001"})
    time.sleep(2)
    return both


@pytest.mark.parametrize("lost", [0, 1])
def test_the_part_that_is_lost_is_named_and_not_the_rank_that_misses_its_peer(
    tmp_path: Path, lost: int
) -> None:
    run, gone = tmp_path / "run", tmp_path / "gone"
    fails = f"while [ ! -e {gone} ]; do sleep 0.1; done; echo connection reset; exit 3"
    both = start_light_parts(run, "sh", "-c", fails)
    kill_all_below(both[lost], and_at_once=gone.touch)
    output = ended(both[1 - lost], code=1, within_s=HOST_S + 15)
    assert (
        f"the job failed: the launcher of part {lost} has not been heard of for {HOST_S} s"
    ) in output
    assert f"a victim of this: rank {1 - lost}: ended with exit code 3" in output
    assert_nothing_survives(run)


def test_a_second_launcher_of_a_part_is_refused_and_one_in_its_place_hides_nothing(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    both = start_light_parts(run, "sleep", "60")
    output = ended(start_light_part(run, 1, "sleep", "60"), code=2, within_s=15)
    assert "another launcher of part 1 works in" in output
    kill_all_below(both[1])
    again = start_light_part(run, 1, "sleep", "60")
    output = ended(both[0], code=1, within_s=HOST_S + 15)
    assert f"the launcher of part 1 has not been heard of for {HOST_S} s" in output
    again.send_signal(signal.SIGTERM)
    ended(again, code=130, within_s=10)
    assert_nothing_survives(run)

"""The scripts of ``launch/``, with stand-ins for Slurm, ssh and the ranks.

No card is here: the ranks of a table are a shell script that says where it was started.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import processes_naming
from unet_dist.runs import AttemptDir, RunDir

REPOSITORY = Path(__file__).parents[2]
LAUNCH = REPOSITORY / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
RUN_BY_USERS = [script for script in SCRIPTS if script.name not in ("setup.sh", "activate.sh")]

PYTHON = """\
#!/bin/sh
# `python -m unet_dist` whose ranks run this file; it hands guards to the interpreter.
case "$*" in
*" -m unet_dist "*|"-m unet_dist "*)
  shift 2
  exec {python} -c "import sys; from unet_dist.cli import main; sys.executable = '$0'; \\
sys.argv[0] = 'unet-dist'; main()" "$@" ;;
*unet_dist.train.worker*)
  echo "rank $RANK_ID of $RANK_SIZE on card $DEVICE_ID with $RANK_TABLE_FILE"
  exec sleep "${{RANKS_SLEEP_S:-0}}" ;;
esac
exec {python} "$@"
"""
SSH = """\
#!/bin/bash
# ssh -x HOST COMMAND...
while [[ $1 == -* ]]; do shift; done
echo "$1" >> {log}
shift
exec bash -c "$*"
"""
SRUN = """\
#!/bin/bash
# All tasks of a job on this machine; ends with the worst exit code.
while [[ $1 == -* ]]; do shift; done
tasks=()
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i "$@" > {log}.$i 2>&1 & tasks+=($!)
done
trap 'kill -TERM "${{tasks[@]}}"' TERM
code=0
for task in "${{tasks[@]}}"; do
  while true; do
    wait "$task"; one=$?
    kill -0 "$task" 2> /dev/null || break
  done
  ((one > code)) && code=$one
done
exit "$code"
"""


@dataclass(frozen=True)
class StandIns:
    """Programs on PATH in place of real ones, and what a training needs."""

    folder: Path
    run: Path
    config: tuple[str, ...]
    """Configuration file, and settings of a small training."""

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", **more}

    def call(self, script: str, *arguments: object, **env: str) -> str:
        """The output of a script that must end well."""
        done = subprocess.run(
            [str(LAUNCH / script), *map(str, arguments)],
            capture_output=True, text=True, timeout=60, cwd=REPOSITORY, env=self.environment(env),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def together(self, *commands: list[object], envs: list[dict[str, str]]) -> list[str]:
        """The outputs of commands that run at the same time and must end well."""
        started = [
            subprocess.Popen(
                list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, cwd=REPOSITORY, env=self.environment(env),
            )
            for command, env in zip(commands, envs, strict=True)
        ]  # fmt: skip
        outputs = [process.communicate(timeout=60)[0] for process in started]
        assert [process.returncode for process in started] == [0] * len(started), outputs
        return outputs

    @property
    def attempt(self) -> AttemptDir:
        return RunDir(self.run).attempt(0)

    def assert_ranks(self, table: Path, cards: list[int]) -> None:
        """Each rank was started once, on its card."""
        for rank, card in enumerate(cards):
            log = self.attempt.rank_log(rank).read_text()
            assert log == f"rank {rank} of {len(cards)} on card {card} with {table}\n"


@pytest.fixture
def stand_ins(tmp_path: Path, tiny: list[str]) -> StandIns:
    folder = tmp_path / "bin"
    folder.mkdir()
    made = StandIns(folder, tmp_path / "run", tuple(tiny))
    for name, text in {"python": PYTHON, "ssh": SSH, "srun": SRUN}.items():
        (folder / name).write_text(text.format(python=sys.executable, log=made.log))
        (folder / name).chmod(0o755)
    return made


def write_table(path: Path, *servers: str, cards: int) -> Path:
    """A rank table of servers with the same number of cards."""
    server_list = [
        {
            "server_id": server,
            "device": [
                {
                    "device_id": str(card),
                    "device_ip": f"192.168.{index}.{card + 1}",
                    "rank_id": str(index * cards + card),
                }
                for card in range(cards)
            ],
        }
        for index, server in enumerate(servers)
    ]
    content = {"version": "1.0", "server_count": str(len(servers)), "server_list": server_list}
    path.write_text(json.dumps({**content, "status": "completed"}))
    return path


@pytest.mark.parametrize("script", RUN_BY_USERS, ids=lambda script: script.name)
def test_scripts_are_short_begin_with_an_example_and_end_in_one_exec(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert len(lines) <= 40
    assert os.access(script, os.X_OK)
    head = [line for line in lines[1:8] if line.startswith("#")]
    assert any(f"launch/{script.name}" in line for line in head)
    assert "set -euo pipefail" in lines
    assert lines[-1].startswith("exec ")
    assert sum(line.startswith("exec ") for line in lines) == 1
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    subprocess.run(
        ["shellcheck", "-s", "bash", "-x", *map(str, SCRIPTS)], check=True, cwd=REPOSITORY
    )


@pytest.mark.parametrize(
    "script", [s for s in RUN_BY_USERS if s.name != "quickstart.sh"], ids=lambda script: script.name
)
def test_without_arguments_the_example_is_shown(script: Path) -> None:
    done = subprocess.run([str(script)], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"launch/{script.name}" in done.stderr


def test_one_server_starts_a_rank_on_each_card(stand_ins: StandIns, tmp_path: Path) -> None:
    table = write_table(tmp_path / "1x4.json", "10.0.0.1", cards=4)
    config, *settings = stand_ins.config
    stand_ins.call("one_server.sh", config, table, *settings, "--run", stand_ins.run)
    stand_ins.assert_ranks(table, [0, 1, 2, 3])


def test_mpirun_reaches_the_cards_of_two_servers_by_ssh(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "2x2.json", "10.0.0.1", "10.0.0.2", cards=2)
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("node-a slots=2  # the table's first server\nnode-b slots=2\n")
    output = stand_ins.call(
        "cluster_mpirun.sh", hosts, *stand_ins.config, "--rank-table", table, "--run", stand_ins.run
    )
    assert "4 ranks on Ascend cards over 2 hosts" in output
    assert sorted(stand_ins.log.read_text().split()) == ["node-a", "node-b"]
    stand_ins.assert_ranks(table, [0, 1, 0, 1])


def test_mpirun_names_the_host_that_ssh_cannot_reach(stand_ins: StandIns, tmp_path: Path) -> None:
    (stand_ins.folder / "ssh").write_text(
        "#!/bin/sh\necho 'ssh: connect to host node-b port 22: Connection refused' >&2\nexit 255\n"
    )
    arguments = [*stand_ins.config, "--simulate", "2", "--run", str(stand_ins.run)]
    script = str(LAUNCH / "cluster_mpirun.sh")
    done = subprocess.run(
        [script, "localhost:1,node-b:1", *arguments, "--max-restarts", "0"],
        capture_output=True, text=True, timeout=60, env=stand_ins.environment({}),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "host node-b is lost" in done.stdout
    assert "Connection refused" in done.stdout


def test_each_server_finds_its_part_by_its_address_or_is_told(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    """The table's first server is named like this machine; the second is told by PART."""
    table = write_table(tmp_path / "2x2.json", os.uname().nodename, "10.9.9.9", cards=2)
    script = LAUNCH / "cluster_per_node.sh"
    command = [script, stand_ins.run, *stand_ins.config, "--rank-table", table]
    first, second = stand_ins.together(command, command, envs=[{}, {"PART": "1/2"}])
    assert "waiting for the launcher of part 0" not in first
    assert "waiting for the launcher of part 0" in second
    stand_ins.assert_ranks(table, [0, 1, 0, 1])


@pytest.mark.parametrize("tasks", [2, 4], ids=["one for each node", "one for each card"])
def test_slurm_tasks_start_their_parts(stand_ins: StandIns, tmp_path: Path, tasks: int) -> None:
    table = write_table(tmp_path / "2x2.json", "10.0.0.1", "10.0.0.2", cards=2)
    arguments = [stand_ins.run, *stand_ins.config, "--rank-table", table]
    stand_ins.call("slurm.sbatch", *arguments, SLURM_NTASKS=str(tasks))
    stand_ins.assert_ranks(table, [0, 1, 0, 1])
    for task in range(tasks):
        said = Path(f"{stand_ins.log}.{task}").read_text()
        assert f"{4 // tasks} rank" in said


def test_slurms_sigterm_before_the_time_limit_ends_all_tasks(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    """It comes to every task at once; that is one wish to stop, not several."""
    table = write_table(tmp_path / "2x1.json", "10.0.0.1", "10.0.0.2", cards=1)
    arguments = [str(stand_ins.run), *stand_ins.config, "--rank-table", str(table)]
    process = subprocess.Popen(
        [str(LAUNCH / "slurm.sbatch"), *arguments],
        cwd=REPOSITORY, env=stand_ins.environment({"SLURM_NTASKS": "2", "RANKS_SLEEP_S": "50"}),
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not all(stand_ins.attempt.rank_log(rank).exists() for rank in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    process.terminate()
    stop = stand_ins.attempt.stop_request
    deadline = time.monotonic() + 10
    while not stop.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert process.poll() is None  # the ranks may still write their checkpoint
    process.terminate()
    assert process.wait(20) == 130
    assert not processes_naming(stand_ins.run)


def test_slurm_asks_for_a_signal_before_the_end_and_for_a_requeue() -> None:
    directives = [
        line.split(maxsplit=1)[1]
        for line in (LAUNCH / "slurm.sbatch").read_text().splitlines()
        if line.startswith("#SBATCH")
    ]
    assert "--signal=TERM@120" in directives
    assert {"--requeue", "--open-mode=append"} <= set(directives)


def test_a_repeated_command_resumes_its_run(stand_ins: StandIns) -> None:
    command = [stand_ins.run, *stand_ins.config, "--simulate", 1, "--dry-run"]
    assert "resume=False" in stand_ins.call("cluster_per_node.sh", *command)
    stand_ins.run.mkdir()
    config = stand_ins.config[0]
    shutil.copy(config, stand_ins.run / "config.yaml")
    command = [stand_ins.run, config, "--simulate", 1, "--dry-run"]
    assert "resume=True" in stand_ins.call("cluster_per_node.sh", *command)


def test_modelarts_waits_for_its_rank_table_and_starts_its_part(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    """Template 2 in a folder that RANK_TABLE_FILE names, at first without a status."""
    folder = tmp_path / "config"
    folder.mkdir()
    table = folder / "jobstart_hccl.json"
    table.write_text('{"status": "initializing"}')
    command = [LAUNCH / "modelarts.sh", stand_ins.run, *stand_ins.config]
    envs = [
        {"RANK_TABLE_FILE": str(folder), "VC_TASK_INDEX": str(index), "MA_NUM_HOSTS": "2"}
        for index in (0, 1)
    ]
    instances = [
        {
            "devices": [{"device_id": "4", "device_ip": f"192.1.10.{254 - index}"}],
            "pod_name": f"job-trainjob-{index}",
            "server_id": f"192.168.0.{25 + index}",
        }
        for index in (0, 1)
    ]
    group = {"group_name": "job", "device_count": "2", "instance_count": "2"}
    content = {
        "group_count": "1",
        "group_list": [{**group, "instance_list": instances}],
        "status": "completed",
    }
    late = subprocess.Popen(
        ["sh", "-c", f"sleep 2; mv {folder / 'part'} {table}"], start_new_session=True
    )
    (folder / "part").write_text(json.dumps(content))
    stand_ins.together(command, command, envs=envs)
    assert late.wait() == 0
    stand_ins.assert_ranks(table, [4, 4])


def test_kubernetes_pods_start_the_part_of_their_index(stand_ins: StandIns, tmp_path: Path) -> None:
    """The container's command, on four pods of one card, without the line of PART."""
    manifest = LAUNCH / "kubernetes.yaml"
    assert len(manifest.read_text().splitlines()) <= 40
    job = yaml.safe_load(manifest.read_text())
    spec = job["spec"]
    [container] = spec["template"]["spec"]["containers"]
    env = {one["name"]: one["value"] for one in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(env["PARTS"])
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert set(mounted) == {one["name"] for one in spec["template"]["spec"]["volumes"]}
    assert env["TABLE"].startswith(mounted["rank-table"])
    assert env["RUN"].startswith(mounted["shared"])
    assert env.pop("PART") == ""
    assert spec["template"]["spec"]["hostNetwork"]
    table = write_table(tmp_path / "hccl.json", *(f"10.0.0.{i}" for i in range(1, 5)), cards=1)
    config, *settings = stand_ins.config
    [script] = container["args"]
    script = script.replace("configs/drive.yaml", config)
    script = script.replace("data.root=/shared/DRIVE", " ".join(settings))
    pods = [
        {**env, "RUN": str(stand_ins.run), "TABLE": str(table), "JOB_COMPLETION_INDEX": str(index)}
        for index in range(4)
    ]
    stand_ins.together(*([*container["command"], script] for _ in pods), envs=pods)
    stand_ins.assert_ranks(table, [0, 0, 0, 0])


def test_the_set_up_takes_no_arguments_of_the_script_that_sources_it(tmp_path: Path) -> None:
    """As launch/quickstart.sh train.epochs=3 does; pip is a stand-in that shows its arguments."""
    shutil.copytree(LAUNCH, tmp_path / "launch")
    (tmp_path / "pyproject.toml").write_text("")
    environment = tmp_path / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "activate").write_text(f"PATH={environment}:$PATH\n")
    (environment / "python").write_text('#!/bin/sh\necho "$*"\n')
    (environment / "python").chmod(0o755)
    for word, installed in (("user", "--editable .\n"), ("dev", "--editable .[dev]\n")):
        done = subprocess.run(
            ["bash", "-euc", f"set -- train.epochs=3; source launch/setup.sh {word}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(installed)


def test_scripts_find_the_environment_of_the_repository(tmp_path: Path) -> None:
    shutil.copytree(LAUNCH, tmp_path / "launch")
    environment = tmp_path / ".venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "activate").write_text(f"PATH={environment}:$PATH\n")
    (environment / "python").write_text('#!/bin/sh\necho "stand-in: $*"\n')
    (environment / "python").chmod(0o755)
    bare = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [tmp_path / "launch" / "one_server.sh", "c.yaml", "t.json"],
        capture_output=True,
        text=True,
        env=bare,
    )
    assert done.stdout == "stand-in: -m unet_dist train c.yaml --rank-table t.json\n", done.stderr

"""Real training in tests: small generated data and the command line as a user types it."""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unet_dist.data.synthetic import write_synthetic
from unet_dist.records import read_records
from unet_dist.runs import RunDir

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Modules and tests are a million objects that stay: looking for garbage among them takes a
    tenth of the time of the unit tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in ("ms", "ranks"):
            if f"tests/{mark}/" in item.path.as_posix():
                item.add_marker(mark)


def run_program(*arguments: object, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "unet_dist", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.fixture(scope="session")
def program() -> Program:
    return run_program


@pytest.fixture(scope="session")
def vessels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 generated vessel images of 64 x 64, and a configuration that trains on them fast."""
    folder = tmp_path_factory.mktemp("data") / "vessels"
    write_synthetic("vessels", folder, count=12, size=64, seed=0)
    return folder


@pytest.fixture(scope="session")
def tiny(vessels: Path) -> list[str]:
    """The arguments of a training of 10 steps over 4 images each."""
    return [
        str(vessels / "config.yaml"),
        "data.split.test=0.17",
        "data.split.val=0.2",
        "augment.crop=32",
        "augment.crops_per_image=5",
        "model.width=4",
        "model.depth=2",
        "train.epochs=1",
        "train.batch=4",
        "evaluate.tile=64",
    ]


def start_training(run: Path, *arguments: object) -> "subprocess.Popen[str]":
    """A training on two ranks that goes on beside the test; both streams in its stdout."""
    command = ["train", *arguments, "--simulate", 2, "--run", run]
    return subprocess.Popen(
        [sys.executable, "-m", "unet_dist", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(run: Path, step: int = 1, *, rank: int = 0) -> None:
    deadline = time.monotonic() + 120
    while max(steps_of(run, "step", rank=rank), default=0) < step:
        assert time.monotonic() < deadline, "the run did not get that far"
        time.sleep(0.02)


def steps_of(run: Path, key: str, *, rank: int = 0) -> list[Any]:
    records = read_records(RunDir(run).records(rank))
    return [record[key] for record in records if record["kind"] == "step"]


def digests_of(run: Path, *, rank: int = 0) -> dict[int, str]:
    """SHA-256 of weights, optimiser and average at each checkpoint."""
    records = read_records(RunDir(run).records(rank))
    return {r["step"]: r["sha256"] for r in records if r["kind"] == "checkpoint"}


def train(
    *arguments: object, code: int = 0, timeout: float = 240
) -> "subprocess.CompletedProcess[str]":
    done = run_program("train", *arguments, timeout=timeout)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def json_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def processes_naming(run: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(run).encode() in command:
            found.append(command.replace(b"\0", b" ").decode())
    return found

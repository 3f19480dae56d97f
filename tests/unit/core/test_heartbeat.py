import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_dist.heartbeat import SIZE, Beat, Heartbeat, read_beat
from unet_dist.rank_error import ENVIRONMENT


def test_collectives_are_counted_and_marked_while_they_last(tmp_path: Path) -> None:
    path = tmp_path / "beats" / "rank_000"
    heartbeat = Heartbeat(path)
    assert read_beat(path) == Beat(phase="start")
    heartbeat.beat("step", step=3, doing="computing")
    with heartbeat.waiting("all-reduce"):
        inside = read_beat(path)
    expected = Beat(phase="step", step=3, doing="all-reduce", collectives=1, waiting=True)
    assert inside == expected
    assert read_beat(path) == Beat(phase="step", step=3, doing="computing", collectives=1)


def test_a_collective_that_fails_stays_the_last_thing_told(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "b")
    with pytest.raises(OSError, match="link"), heartbeat.waiting("all-reduce"):
        raise OSError("link down")
    beat = read_beat(tmp_path / "b")
    assert beat is not None
    assert beat.waiting


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_any_words_fit_into_the_file(phase: str, doing: str) -> None:
    path = Path("/dev/shm") / "unet_dist_test_beat"
    heartbeat = Heartbeat(path)
    heartbeat.beat(phase, step=10**9, doing=doing)
    assert read_beat(path) is not None
    assert path.stat().st_size == SIZE
    path.unlink()


@given(st.binary(max_size=600))
def test_what_is_no_beat_is_none(content: bytes) -> None:
    path = Path("/dev/shm") / "unet_dist_test_no_beat"
    path.write_bytes(content)
    assert read_beat(path) is None
    path.unlink()


def run_as_rank(tmp_path: Path, code: str) -> tuple[int, str, dict[str, object]]:
    script = tmp_path / "script.py"
    script.write_text(code)
    error = tmp_path / "rank_000.error.json"
    done = subprocess.run(
        [sys.executable, "-m", "unet_dist.run_script", str(script), "--lr", "3"],
        capture_output=True,
        text=True,
        env={ENVIRONMENT: str(error)},
    )
    return done.returncode, done.stderr, json.loads(error.read_text()) if error.exists() else {}


def test_a_script_runs_as_if_it_were_started_by_itself(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("")
    code, errors, told = run_as_rank(
        tmp_path,
        "import sys, neighbour\nassert sys.argv[1:] == ['--lr', '3']\n"
        "assert __name__ == '__main__'\nsys.exit(0)",
    )
    assert (code, errors, told) == (0, "", {})


def test_an_error_of_a_script_is_written_down_and_ends_it_without_its_exit_handlers(
    tmp_path: Path,
) -> None:
    """An exit handler here stands for MPI's, which would wait for the other ranks."""
    code, errors, told = run_as_rank(
        tmp_path,
        "import atexit, time\natexit.register(time.sleep, 60)\n"
        "def f(): raise ValueError('lr')\nf()",
    )
    assert code == 1
    assert told["kind"] == "ValueError"
    assert told["message"] == "ValueError: lr"
    assert "in f" in errors
    assert "runpy" not in errors


def test_an_exit_code_of_a_script_is_kept(tmp_path: Path) -> None:
    code, _, told = run_as_rank(tmp_path, "import sys; sys.exit(3)")
    assert (code, told["message"]) == (3, "ended with exit code 3")

"""The cards of a rank table, where there is none: stand-ins, and what a user is told."""

from pathlib import Path

from tests.conftest import processes_naming, run_program, train
from unet_dist.runs import RunDir


def test_one_process_per_card_gets_its_environment_and_the_first_failure_is_named(
    tmp_path: Path,
) -> None:
    """No card here: a shell script takes the place of the ranks."""
    stand_in = tmp_path / "rank.sh"
    stand_in.write_text(
        "#!/bin/sh\n"
        'echo "$RANK_ID of $RANK_SIZE on card $DEVICE_ID with $RANK_TABLE_FILE: $*"\n'
        'if [ "$RANK_ID" = 1 ]; then sleep 1; echo EI0006 >&2; exit 3; fi\n'
        "exec sleep 60\n"
    )
    stand_in.chmod(0o755)
    table = Path(__file__).parents[2] / "rank_tables" / "1x4.json"
    run = tmp_path / "run"
    done = run_program("launch", "--rank-table", table, "--run", run, "--", stand_in, "-v")
    assert done.returncode == 1, done.stderr
    assert "rank 1 failed first: ended with exit code 3" in done.stdout
    assert "server 10.0.0.1, card 1" in done.stdout
    assert "EI0006: no connection to a peer" in done.stdout
    assert "ranks 0, 2-3: ended by the launcher" in done.stdout
    attempt = RunDir(run).attempt(0)
    for rank in range(4):
        log = attempt.rank_log(rank).read_text()
        assert log.startswith(f"{rank} of 4 on card {rank} with {table}: -v")
    assert not processes_naming(run)


def test_a_training_on_cards_that_are_not_there_says_so_and_is_not_repeated(
    tmp_path: Path, tiny: list[str]
) -> None:
    table = Path(__file__).parents[2] / "rank_tables" / "1x2.json"
    run = tmp_path / "run"
    done = train(*tiny, "--rank-table", table, "--run", run, code=1)
    assert "all 2 ranks failed alike" in done.stdout
    assert "Ascend" in done.stdout
    assert RunDir(run).next_attempt() == 1

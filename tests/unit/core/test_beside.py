"""Jobs beside each other, with functions in place of jobs."""

import threading
from collections.abc import Iterator

import pytest

from unet_dist.launching.beside import Schedule, TaskEnd, run_beside

WAIT_S = 10


def ends_of(tasks: list[str], places: int, work, **asked) -> list[TaskEnd[str, str]]:
    asked = {"stopped": lambda: False, "stop": lambda: None, **asked}
    return list(run_beside(iter(tasks), [f"place {n}" for n in range(places)], work, **asked))


def test_a_place_that_ends_is_the_next_to_be_taken() -> None:
    schedule = Schedule(tasks=iter("abcd"), free=[0, 1])
    assert [schedule.start() for _ in range(3)] == [("a", 0), ("b", 1), None]
    schedule.end("b", 1)
    assert schedule.start() == ("c", 1)
    schedule.end("a", 0)
    schedule.end("c", 1)
    assert schedule.start() == ("d", 1)
    assert schedule.start() is None


def test_as_many_work_at_once_as_there_are_places_and_no_more() -> None:
    both, most = threading.Barrier(2, timeout=WAIT_S), 0
    busy, lock = set[str](), threading.Lock()

    def work(task: str, place: str) -> str:
        nonlocal most
        with lock:
            assert place not in busy
            busy.add(place)
            most = max(most, len(busy))
        both.wait()
        with lock:
            busy.remove(place)
        return task.upper()

    ends = ends_of(list("abcd"), 2, work)
    assert sorted(end.result or "" for end in ends) == list("ABCD")
    assert most == 2


def test_a_task_that_raises_ends_alone() -> None:
    def work(task: str, place: str) -> str:
        if task == "b":
            raise ValueError("broken")
        return task

    ends = {end.task: end for end in ends_of(list("abc"), 1, work)}
    assert str(ends["b"].error) == "broken"
    assert ends["b"].result is None
    assert (ends["a"].result, ends["c"].result) == ("a", "c")


def test_once_stopped_no_task_is_started_and_those_that_run_are_awaited() -> None:
    done: list[str] = []
    ends = ends_of(list("abc"), 1, lambda t, p: done.append(t) or t, stopped=lambda: bool(done))
    assert [end.task for end in ends] == done == ["a"]


def test_a_task_is_not_taken_before_its_place_is_free() -> None:
    """So a search may decide on the next by the results of those before."""
    finished: list[str] = []

    def tasks() -> Iterator[str]:
        for number in range(3):
            assert len(finished) == number
            yield str(number)

    for end in run_beside(
        tasks(), ["here"], lambda t, p: t, stopped=lambda: False, stop=lambda: None
    ):
        finished.append(end.task)
    assert finished == ["0", "1", "2"]


def test_a_caller_that_gives_up_stops_those_that_run() -> None:
    asked = threading.Event()

    def work(task: str, place: str) -> str:
        if task == "long":
            assert asked.wait(WAIT_S)
        return task

    def give_up() -> None:
        tasks = iter(["short", "long"])
        for _ in run_beside(tasks, [0, 1], work, stopped=lambda: False, stop=asked.set):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert asked.is_set()

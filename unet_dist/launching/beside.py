"""Several jobs on disjoint places: which of them starts where, and a thread for each.

Folds, seeds and the trials of a search differ only in what their tasks are. A task is taken when
a place is free for it and not before, so that a search can decide by the results it has.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from unet_dist.cluster.children import POLL_S

Task = TypeVar("Task")
Place = TypeVar("Place")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class TaskEnd(Generic[Task, Result]):
    """A task that was started and is over."""

    task: Task
    result: Result | None
    error: Exception | None
    """What it raised in place of a result; the other tasks go on."""


@dataclass(kw_only=True)
class Schedule(Generic[Task, Place]):
    """Who works where. Pure: it starts nothing and reads no clock."""

    tasks: Iterator[Task]
    free: list[Place]
    """In the order in which they are taken."""
    running: list[tuple[Task, Place]] = field(default_factory=list)

    def start(self) -> tuple[Task, Place] | None:
        """The next task and its place; None if no place is free or no task is left."""
        if not self.free:
            return None
        for task in self.tasks:
            self.running.append((task, self.free.pop(0)))
            return self.running[-1]
        return None

    def end(self, task: Task, place: Place) -> None:
        """The place is the first to be taken again: what it has in its caches may serve."""
        self.running.remove((task, place))
        self.free.insert(0, place)


def run_beside(
    tasks: Iterator[Task],
    places: Sequence[Place],
    work: Callable[[Task, Place], Result],
    *,
    stopped: Callable[[], bool],
    stop: Callable[[], None],
) -> Iterator[TaskEnd[Task, Result]]:
    """Does all tasks, at most one at each place at a time, and yields each when it is over.

    To be called in the main thread, where signals are noticed. A task that raises ends alone.

    Args:
        work: does one task to its end, in a thread of its own.
        stopped: from then on no task is started; those that run are asked by other means.
        stop: asks those that run, if the caller gives up before all are done.
    """
    schedule = Schedule(tasks=tasks, free=list(places))
    futures: dict[Future[Result], tuple[Task, Place]] = {}
    with ThreadPoolExecutor(max_workers=len(places), thread_name_prefix="job") as pool:
        try:
            while True:
                while not stopped() and (started := schedule.start()) is not None:
                    futures[pool.submit(work, *started)] = started
                if not futures:
                    return
                # A timeout, since a signal is handled only between two waits.
                for future in wait(futures, POLL_S, FIRST_COMPLETED).done:
                    task, place = futures.pop(future)
                    schedule.end(task, place)
                    yield _ended(task, future)
        except BaseException:
            stop()
            raise


def _ended(task: Task, future: "Future[Result]") -> TaskEnd[Task, Result]:
    error = future.exception()
    if error is None:
        return TaskEnd(task=task, result=future.result(), error=None)
    if not isinstance(error, Exception):
        raise error
    return TaskEnd(task=task, result=None, error=error)

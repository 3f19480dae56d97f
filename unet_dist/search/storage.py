"""Optuna's storage: how it is opened, and how its errors are told."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy import create_engine
from sqlalchemy.exc import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from unet_dist.errors import UserError
from unet_dist.search.space import Parameter, Value
from unet_dist.search.spec import SearchSpec

OPEN_TRIES = 5
DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between tries of a database that does not answer."""
IDLE_MS = 10_000
"""After so long PostgreSQL ends a transaction whose controller says nothing; it is tried again."""
PASSING = (OperationalError, InternalError, InterfaceError, StorageInternalError)
"""Errors of a database that is away or locked, or that ended the connection: psycopg calls the end
of an idle transaction internal. Optuna's own calls raise the last one for all of them."""


@contextlib.contextmanager
def told(url: str) -> Iterator[None]:
    """Errors of the database as one message."""
    try:
        yield
    except (SQLAlchemyError, OptunaError, RuntimeError) as error:
        where = url_without_password(url)
        raise UserError(where, f"fails as a study's database: {_first_line(error)}") from error


def check_shared(url: str) -> None:
    """Raises UserError if controllers cannot share a study there."""
    if url.startswith("sqlite"):
        raise UserError(
            "--storage",
            f"{url} is a file, which only one controller may write to; leave --storage out for one "
            "controller, or give several a database such as postgresql+psycopg://user@host/name",
        )
    with told(url):
        engine = create_engine(url, **engine_of(url))
        engine.connect().close()
        engine.dispose()


class Patient:
    """A storage whose every call is tried again while the database is away or locked."""

    def __init__(self, storage: RDBStorage, url: str) -> None:
        self._storage = storage
        self._url = url

    def __getattr__(self, name: str) -> Any:
        return partial(self._tried, getattr(self._storage, name))

    def do(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Something with the storage that it has no method for."""
        return self._tried(work, self._storage, *arguments, **named)

    def _tried(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        for delay_s in DELAYS_S:
            try:
                return method(*arguments, **named)
            except PASSING:
                time.sleep(delay_s)
        with told(self._url):
            return method(*arguments, **named)


def opened(
    url: str, name: str, directions: Sequence[StudyDirection]
) -> tuple[RDBStorage, optuna.Study]:
    """Several controllers may make the tables of an empty database at once: then one of them fails,
    and finds them made when it tries again."""
    for left in reversed(range(OPEN_TRIES)):
        try:
            storage = RDBStorage(url, engine_kwargs=engine_of(url))
            return storage, optuna.create_study(
                storage=storage, study_name=name, directions=directions, load_if_exists=True
            )
        except (IntegrityError, InternalError, ProgrammingError):
            if not left:
                raise
            time.sleep(0.5)
    raise AssertionError


def directions_of(spec: SearchSpec) -> list[StudyDirection]:
    return [
        StudyDirection.MAXIMIZE if each.goal == "maximize" else StudyDirection.MINIMIZE
        for each in spec.objectives
    ]


def engine_of(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 30}}
    # A controller that is suspended within a transaction keeps its locks, and all others wait.
    idle = f"-c idle_in_transaction_session_timeout={IDLE_MS}"
    return {"pool_pre_ping": True, "connect_args": {"options": idle}}


def distribution_of(parameter: Parameter, choices: Sequence[Any]) -> BaseDistribution:
    """
    Args:
        choices: what stands for the choices, since Optuna takes no lists.
    """
    if parameter.choice:
        return CategoricalDistribution(tuple(choices))
    if parameter.integer:
        return IntDistribution(*parameter.integer, log=parameter.log)
    return FloatDistribution(*parameter.bounds, log=parameter.log)


def as_optuna(value: Value) -> Any:
    """Optuna takes no lists."""
    return str(list(value)) if isinstance(value, tuple) else value


def url_without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{tail}" if at else url


def _first_line(error: BaseException) -> str:
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__  # Optuna's own words are the same for everything
    return next(iter(str(error).splitlines()), type(error).__name__)

"""SQLite files that somebody else wrote, opened so that they can do no harm."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from unet_dist.errors import UserError
from unet_dist.profiling.texts import LONGEST, plain

LONGEST_VALUE = 1 << 24
INSTRUCTIONS = 1_000_000
"""Of SQLite's machine between two looks at how many there were."""
MOST_CALLS = 3_000
"""About a minute of work, over all queries of a file."""
READ = (
    "STRING_IDS", "STEP_TIME", "TASK", "TASK_PMU_INFO", "COMPUTE_TASK_INFO", "PYTORCH_API",
    "COMMUNICATION_OP", "COMMUNICATION_TASK_INFO", "ENUM_HCCL_LINK_TYPE", "MEMORY_RECORD",
    "OP_MEMORY", "RANK_DEVICE_MAP", "STEPTRACETIME", "COMMANALYZERMATRIX",
)  # fmt: skip
"""Tables that are asked, in capitals."""


class _Counter:
    """Ends a query that takes far more steps than there are rows: a damaged file may go round in
    circles."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls > MOST_CALLS


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """For reading alone; what the file itself defines is not run."""
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error as error:
        raise UserError(str(path), f"cannot be read: {error}") from error
    with contextlib.closing(db):
        try:
            db.execute("pragma trusted_schema=off")
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
            db.set_progress_handler(_Counter(), INSTRUCTIONS)
            db.text_factory = _text
            # A view may be an endless query under a table's name, and so may a virtual table.
            made = db.execute(
                "select name from sqlite_master where type = 'view' or sql like 'create virtual%'"
            )
            for (name,) in made:
                if str(name).upper() in READ:
                    raise UserError(str(path), f"has a view as {name}, which no profiler writes")
        except sqlite3.Error as error:
            raise UserError(str(path), f"is no SQLite file, or a damaged one: {error}") from error
        yield db


def _text(content: bytes) -> str:
    return plain(content[:LONGEST].decode("utf-8", "replace"))


def has_table(db: sqlite3.Connection, name: str) -> bool:
    found = db.execute("select 1 from sqlite_master where type = 'table' and name = ?", (name,))
    return found.fetchone() is not None

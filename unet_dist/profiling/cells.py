"""CSV files of profilers, whose columns come, go and change their names from version to version."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from unet_dist.errors import UserError
from unet_dist.profiling.tables import MOST_ROWS

LONGEST_CELL = 1 << 24
"""Call stacks are long; more than this is no cell."""
RENAMED: Mapping[str, tuple[str, ...]] = {
    "Block Num": ("Block Dim",),
    "Device_id": ("Device_ID", "Device Id"),
    "OP Type": ("Op Type",),
    "Op Name": ("op_name", "OP Name"),
}
"""Names of columns, and how other versions call them."""


class Row:
    """One row, by the newest names of the columns; empty where the file has no such column."""

    __slots__ = ("_cells", "_places")

    def __init__(self, cells: list[str], places: Mapping[str, int]) -> None:
        self._cells, self._places = cells, places

    def __getitem__(self, column: str) -> str:
        place = self._places.get(column)
        return self._cells[place].strip() if place is not None else ""


class Table:
    """The rows of a file as they are read, and what was wrong with some."""

    def __init__(self, lines: "Iterator[list[str]]") -> None:
        self.columns = [cell.strip().lstrip("\ufeff") for cell in next(lines, [])]
        self.places = {name: place for place, name in enumerate(self.columns)}
        for name, others in RENAMED.items():
            for other in others:
                if other in self.places:
                    self.places.setdefault(name, self.places[other])
        self.torn = 0
        """Rows with too few cells: the last one of a file that was cut off."""
        self.has_more = False
        """Whether there are more rows than are read."""
        self._lines = lines

    def rows(self) -> Iterator[Row]:
        for number, cells in enumerate(self._lines):
            if number == MOST_ROWS:
                self.has_more = True
                return
            if len(cells) >= len(self.columns):
                yield Row(cells, self.places)
            elif cells:
                self.torn += 1


@contextmanager
def open_table(path: Path, faults: list[str], *, key: str) -> Iterator[Table]:
    """Rows that could not be used are told in ``faults`` at the end.

    Args:
        key: a column without which no row tells anything.

    Raises:
        OSError: the file cannot be read.
        csv.Error: it is no table.
        UserError: it is empty, or has no such column.
    """
    csv.field_size_limit(LONGEST_CELL)
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        table = Table(csv.reader(_lines_of(file)))
        if key not in table.places:
            what = f"has no column {key}" if any(table.columns) else "is empty"
            raise UserError(str(path), f"{what}: it is damaged, or another file")
        yield table
    if table.has_more:
        faults.append(f"{path.name}: only the first {MOST_ROWS:,} rows are read")
    if table.torn:
        rows = "1 row is" if table.torn == 1 else f"{table.torn} rows are"
        faults.append(f"{path.name}: {rows} torn off or without a time")


def _lines_of(file: IO[str]) -> Iterator[str]:
    """Raises csv.Error for a line without an end, before it fills the memory."""
    while line := file.readline(LONGEST_CELL):
        if len(line) == LONGEST_CELL:
            raise csv.Error(f"a line has more than {LONGEST_CELL:,} characters")
        yield line.replace("\0", "")

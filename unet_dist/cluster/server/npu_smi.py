"""What npu-smi prints, as data. Pure: text in, rows out.

The layout differs between versions of the driver (a column ``Chip Phy-ID`` since about 25, bus ids
with or without a domain, one or two chips on a card), so a row that is not understood is passed
over, and no text makes a parser fail. Layouts that were seen: npu-smi 22 to 26 as published in
vllm-project/vllm-ascend#2534, #6063, #12980, 1Panel-dev/1Panel#9472, ollama/ollama#5315.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAP_COLUMNS = re.compile(
    r"NPU ID|Slot ID|Device ID|Chip ID|Chip Count|Chip Logic ID|Chip Phy-?ID|Chip Name"
)
BUS_ID = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)
VERSION = re.compile(r"\bVersion:\s*(\S+)")


@dataclass(frozen=True, kw_only=True)
class ChipIds:
    """One row of ``npu-smi info -m``: the numbers that one chip goes by."""

    npu_id: int
    """Of the board."""
    chip_id: int
    """On its board."""
    logical_id: int | None
    """Counted from 0 within this machine or container."""
    physical_id: int | None
    """None before the column existed."""
    model: str


@dataclass(frozen=True, kw_only=True)
class ChipState:
    """The two rows of one chip in ``npu-smi info``."""

    npu_id: int
    chip_id: int
    physical_id: int | None
    model: str
    health: str
    bus_id: str
    """``0000:c1:00.0``; empty if it was not understood."""


@dataclass(frozen=True, kw_only=True)
class Occupant:
    """A process that uses a chip."""

    npu_id: int
    chip_id: int
    pid: int
    name: str
    """May be empty: npu-smi does not see names of another container."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """``npu-smi info``."""

    version: str = ""
    chips: tuple[ChipState, ...] = ()
    occupants: tuple[Occupant, ...] = ()
    shows_processes: bool = False
    """Without a process table nothing can be said about who uses a card."""


@dataclass
class _Half:
    """The first row of a chip, until its second one comes."""

    npu_id: int | None = None
    model: str = ""
    health: str = ""
    chips: list[ChipState] = field(default_factory=list)


def parse_map(text: str) -> tuple[ChipIds, ...]:
    """``npu-smi info -m``; rows of the board's own controller (``Mcu``) have no ids and are left
    out.

    ::

        NPU ID   Chip ID   Chip Logic ID   Chip Phy-ID   Chip Name
        0        0         0               4             Ascend910
        0        1         -               -             Mcu
    """
    columns: list[str] = []
    found: dict[tuple[int, int], ChipIds] = {}
    for line in text.splitlines():
        names = MAP_COLUMNS.findall(line)
        if "NPU ID" in names and "Chip ID" in names:
            columns = [name.replace("PhyID", "Phy-ID") for name in names]
            continue
        fields = line.split(None, max(len(columns) - 1, 0))
        if not columns or len(fields) != len(columns):
            continue
        row = dict(zip(columns, fields, strict=True))
        npu, chip = _number(row["NPU ID"]), _number(row["Chip ID"])
        logical = _number(row.get("Chip Logic ID", ""))
        physical = _number(row.get("Chip Phy-ID", ""))
        if npu is not None and chip is not None and (logical, physical) != (None, None):
            found[npu, chip] = ChipIds(
                npu_id=npu,
                chip_id=chip,
                logical_id=logical,
                physical_id=physical,
                model=row.get("Chip Name", "").strip(),
            )
    return tuple(found.values())


def parse_info(text: str) -> Overview:
    """``npu-smi info``: two rows for each chip, and below them the processes.

    ::

        | NPU   Name      | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
        | Chip  Phy-ID    | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
        | 0     Ascend910 | OK            | 178.5       36                0    / 0             |
        | 0     0         | 0000:9D:00.0  | 0           0    / 0          3416 / 65536         |
        | NPU     Chip    | Process id    | Process name             | Process memory(MB)      |
        | 0       0       | 48988         | python                   | 13330                   |
    """
    version = VERSION.search(text)
    half = _Half()
    occupants: list[Occupant] = []
    numbers_chips = shows_processes = False
    for cells in _rows(text):
        heading = " ".join(cells)
        if "Process id" in heading:
            shows_processes = True
        elif "Bus-Id" in heading:
            numbers_chips = len(cells[0].split()) > 1
        elif shows_processes:
            occupants += _occupant(cells)
        else:
            _take_row(half, cells, numbers_chips=numbers_chips)
    return Overview(
        version=version[1] if version else "",
        chips=tuple({(c.npu_id, c.chip_id): c for c in half.chips}.values()),
        occupants=tuple(occupants),
        shows_processes=shows_processes,
    )


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.strip().startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) > 1:
                yield cells


def _take_row(half: _Half, cells: list[str], *, numbers_chips: bool) -> None:
    """Adds a chip to ``half.chips`` once its second row is there."""
    words = cells[0].split()
    first = _number(words[0]) if words else None
    if first is None:
        half.npu_id = None
    elif half.npu_id is not None:
        bus = BUS_ID.fullmatch(cells[1])
        half.chips.append(
            ChipState(
                npu_id=half.npu_id,
                chip_id=first,
                physical_id=_number(words[1]) if numbers_chips and len(words) > 1 else None,
                model=half.model,
                health=half.health,
                bus_id=_with_domain(bus[0]) if bus else "",
            )
        )
        half.npu_id = None
    elif len(words) > 1:
        half.npu_id, half.model, half.health = first, " ".join(words[1:]), cells[1]


def _occupant(cells: list[str]) -> list[Occupant]:
    """None for a row that says that there is no process."""
    numbers = [_number(word) for word in (cells[0].split() + cells[1].split())[:3]]
    if len(numbers) < 3 or len(cells) < 3:
        return []
    npu, chip, pid = numbers
    if npu is None or chip is None or pid is None:
        return []
    return [Occupant(npu_id=npu, chip_id=chip, pid=pid, name=cells[2])]


def _with_domain(bus_id: str) -> str:
    """As /sys/bus/pci/devices spells it."""
    whole = bus_id.lower() if bus_id.count(":") == 2 else f"0000:{bus_id.lower()}"
    domain, _, rest = whole.partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def _number(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 9 else None

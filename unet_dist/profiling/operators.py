"""What the device's time was spent on: by type of kernel, by shape, by place in the network."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.profiling.intervals import Intervals, common, gaps, merged, total_ns, without
from unet_dist.profiling.roofline import CHIPS, Chip, least_seconds
from unet_dist.profiling.tables import NO_STEP, Kernels

USUAL = CHIPS["910B"]

COMMUNICATION = ("HCCL", "COMMUNICATION")
"""Cores of rows that are no computing."""
LAYOUT = re.compile(r"TransData|Transpose|TensorMove|Cast|Format|AsStrided|ViewCopy", re.IGNORECASE)
"""Types that change how a tensor lies in memory, or its number format, and compute nothing."""
CUBE = re.compile(r"AI_?CORE|MIX_AIC|AIC", re.IGNORECASE)
VECTOR = re.compile(r"VECTOR|MIX_AIV|AIV", re.IGNORECASE)
FLOAT32 = ("FLOAT", "FLOAT32", "DT_FLOAT")
TINY_NS = 10_000
"""A kernel shorter than this costs the host about as long to launch as the device to run."""
BUSY = 0.8
"""Share of a kernel's time in a pipe from which that pipe bounds it: msprof's rule for the cube."""
SCOPE = re.compile(
    r"(?:^|[/.])(?P<part>encoder|enc|down|decoder|dec|upsampling|up|bottom|bottleneck|bridge|stem|"
    r"attention|head|pool)s?(?:-(?:CellList|SequentialCell|ModuleList|Sequential)|_(?:block|stage|level|layer))?"
    r"(?:[_./-]*(?P<level>\d+))?(?=[-_./]|$)",
    re.IGNORECASE,
)
"""A level as MindSpore names it (``encoder-CellList/2-ConvBlock/``), or as people do (``down_2/``,
``encoder.2/``)."""
PARTS: Mapping[str, str] = {
    "enc": "encoder", "down": "encoder", "dec": "decoder", "up": "decoder", "upsampling": "decoder",
    "bottleneck": "bottom", "bridge": "bottom",
}  # fmt: skip
LEVELS = ("encoder", "decoder", "attention")
SECOND_PASS = re.compile(r"[/.]refine[-/.]")
"""Of a network that looks at its own first answer."""
ELSEWHERE = "elsewhere"


@dataclass(frozen=True, kw_only=True)
class OperatorGroup:
    """Kernels that have something in common."""

    name: str
    core: str
    count: int
    total_ns: int
    longest_ns: int
    share: float
    """Of the time of all kernels."""
    bound: str
    """cube, vector, memory, scalar, none (waiting for each other), or unknown without counters."""
    flop: float
    """Of those whose shapes tell it, NaN if none do; so too the next ones."""
    moved_bytes: float
    roof: str
    """compute, memory, or unknown: what takes longer at the nominal peaks of the chip."""
    roof_share: float
    """Of the time that they took, what they need at those peaks."""

    def of_one_step(self, steps: int) -> "OperatorGroup":
        """Of the mean step."""
        return replace(
            self,
            count=round(self.count / steps),
            total_ns=round(self.total_ns / steps),
            flop=self.flop / steps,
            moved_bytes=self.moved_bytes / steps,
        )


@dataclass(frozen=True, kw_only=True)
class Launches:
    """How the host feeds the device."""

    kernels: int
    tiny: int
    """Shorter than ``TINY_NS``."""
    tiny_ns: int
    gaps_ns: int
    """Between kernels, nothing being computed: the host had not launched the next one."""
    sending_ns: int
    """Of these, while data moves between ranks and the next kernel does not wait for it."""
    largest_gap_ns: int
    largest_gap_before: str
    """The kernel that came late."""

    def of_one_step(self, steps: int) -> "Launches":
        """Of the mean step."""
        return replace(
            self,
            kernels=round(self.kernels / steps),
            tiny=round(self.tiny / steps),
            tiny_ns=round(self.tiny_ns / steps),
            gaps_ns=round(self.gaps_ns / steps),
            sending_ns=round(self.sending_ns / steps),
        )


def computing_rows(kernels: Kernels) -> NDArray[np.intp]:
    """Rows that are no collectives."""
    communication = np.array([text in COMMUNICATION for text in kernels.texts], np.bool_)
    hcom = np.array([text.startswith("hcom_") for text in kernels.texts], np.bool_)
    return np.flatnonzero(~(communication[kernels.core] | hcom[kernels.type]))


def by_type(kernels: Kernels, chip: Chip = USUAL) -> list[OperatorGroup]:
    """The longest in all first."""
    rows = computing_rows(kernels)
    return _grouped(kernels, rows, kernels.type[rows], kernels.texts.__getitem__, chip)


def by_shape(kernels: Kernels, chip: Chip = USUAL) -> list[OperatorGroup]:
    rows, texts = computing_rows(kernels), kernels.texts

    def name_of(code: int) -> str:
        kind, shapes = divmod(code, len(texts))
        return f"{texts[kind]} {texts[shapes]}".strip()

    codes = kernels.type[rows].astype(np.int64) * len(texts) + kernels.shapes[rows]
    return _grouped(kernels, rows, codes, name_of, chip)


def by_scope(kernels: Kernels, chip: Chip = USUAL) -> list[OperatorGroup]:
    """By the level of the encoder or decoder that the framework's names tell, forward and backward
    apart; kernels whose names tell none are together."""
    rows = computing_rows(kernels)
    known = np.unique(kernels.name[rows]).tolist()
    scopes = {code: scope_of(kernels.texts[code]) for code in known}
    order = sorted(set(scopes.values()))
    number_of = np.zeros(len(kernels.texts), np.int32)
    number_of[known] = [order.index(scopes[code]) for code in known]
    return _grouped(kernels, rows, number_of[kernels.name[rows]], order.__getitem__, chip)


def scope_of(name: str) -> str:
    """``backward decoder 2`` of ``Gradients/Default/net/up_2/gradConv2D/...``."""
    found = SCOPE.search(name)
    if found is None:
        return ELSEWHERE
    part = found["part"].lower()
    part = PARTS.get(part, part)
    level = f" {found['level']}" if found["level"] and part in LEVELS else ""
    second = "second pass, " if SECOND_PASS.search(name) else ""
    backward = "backward " if re.search(r"grad", name, re.IGNORECASE) else ""
    return f"{second}{backward}{part}{level}"


def layout_ns(kernels: Kernels) -> int:
    """Time of kernels that only move or convert."""
    rows = computing_rows(kernels)
    moves = np.array([LAYOUT.search(text) is not None for text in kernels.texts], np.bool_)
    return total_ns(kernels.time_ns[rows[moves[kernels.type[rows]]]])


def float32_ns(kernels: Kernels) -> int:
    """Time of kernels of the cube unit whose inputs are float32."""
    rows = computing_rows(kernels)
    single = np.array([text.split(";")[0] in FLOAT32 for text in kernels.texts], np.bool_)
    cube = np.array([CUBE.search(t) is not None and not VECTOR.search(t) for t in kernels.texts])
    chosen = rows[single[kernels.dtypes[rows]] & cube[kernels.core[rows]]]
    return total_ns(kernels.time_ns[chosen])


def launches_of(kernels: Kernels, communicating: Intervals, transferring: Intervals) -> Launches:
    """Over the steps of the profile; what lies between two steps is no gap."""
    rows = computing_rows(kernels)
    lengths = (kernels.time_ns[rows, 1] - kernels.time_ns[rows, 0]).astype(np.int64)
    tiny = lengths < TINY_NS
    idle = [
        gaps(merged(times), int(times[0, 0]), int(times[:, 1].max()))
        for _, inside in rows_by(kernels.step[rows])
        if len(times := kernels.time_ns[rows[inside]])
    ]
    nothing = np.concatenate([np.empty((0, 2), np.int64), *idle])
    # A kernel that begins while data still moves has not waited for it.
    unneeded = common(nothing[_inside(transferring, nothing[:, 1])], transferring)
    free = without(nothing, without(communicating, unneeded))
    waits = free[:, 1] - free[:, 0]
    before = ""
    if len(waits):
        place = np.searchsorted(kernels.time_ns[rows, 0], free[int(waits.argmax()), 1])
        before = kernels.texts[kernels.name[rows[min(int(place), len(rows) - 1)]]]
    return Launches(
        kernels=len(rows),
        tiny=int(tiny.sum()),
        tiny_ns=int(lengths[tiny].sum()),
        gaps_ns=int(waits.sum()),
        sending_ns=total_ns(common(free, communicating)),
        largest_gap_ns=int(waits.max(initial=0)),
        largest_gap_before=before,
    )


def _inside(intervals: Intervals, moments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each moment lies within one of a merged set, its ends apart."""
    if not len(intervals):
        return np.zeros(len(moments), np.bool_)
    place = np.searchsorted(intervals[:, 0], moments, side="left") - 1
    return np.asarray((place >= 0) & (moments < intervals[np.maximum(place, 0), 1]))


def counter_mean(kernels: Kernels, name: str, rows: NDArray[np.intp] | None = None) -> float:
    """Of a hardware counter, weighted by how long the kernels take; NaN without any."""
    if name not in kernels.counters:
        return float("nan")
    rows = computing_rows(kernels) if rows is None else rows
    values = kernels.counters[name][rows]
    lengths = (kernels.time_ns[rows, 1] - kernels.time_ns[rows, 0]).astype(np.float64)
    known = np.isfinite(values)
    if not known.any() or not lengths[known].sum():
        return float("nan")
    return float((values[known] * lengths[known]).sum() / lengths[known].sum())


def cube_utilisation(kernels: Kernels) -> float:
    """Percent, of the kernels that use the cube; NaN if no counter tells."""
    values = kernels.counters.get("cube_utilization(%)")
    if values is None:
        return float("nan")
    rows = computing_rows(kernels)
    used = rows[np.nan_to_num(values[rows]) > 0]
    return counter_mean(kernels, "cube_utilization(%)", used) if len(used) else float("nan")


def num_steps(kernels: Kernels) -> int:
    return max(1, int((np.unique(kernels.step) != NO_STEP).sum()))


def _grouped(
    kernels: Kernels,
    rows: NDArray[np.intp],
    codes: NDArray[np.integer],
    name_of: Callable[[int], str],
    chip: Chip,
) -> list[OperatorGroup]:
    """
    Args:
        codes: of the group of each row.
    """
    lengths = kernels.time_ns[rows, 1] - kernels.time_ns[rows, 0]
    whole = max(1, int(lengths.sum()))
    least = least_seconds(kernels, chip)
    groups = []
    for code, inside in rows_by(codes):
        members = rows[inside]
        total = int(lengths[inside].sum())
        groups.append(
            OperatorGroup(
                name=name_of(code),
                core=kernels.texts[_most_frequent(kernels.core[members])],
                count=len(inside),
                total_ns=total,
                longest_ns=int(lengths[inside].max()),
                share=total / whole,
                bound=_bound(kernels, members),
                **_roof(least.of(members), lengths[inside]),
            )
        )
    return sorted(groups, key=lambda group: (-group.total_ns, group.name))


def rows_by(codes: NDArray[np.integer]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each code, with the places where it stands, in order."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    limits = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(codes)]
    for begin, end in pairwise(limits):
        if end > begin:
            yield int(ordered[begin]), order[begin:end]


def _roof(least: NDArray[np.float64], lengths: NDArray[np.int64]) -> dict[str, Any]:
    """Args:
    least: as ``LeastSeconds.of`` gives it, of the same kernels.
    """
    known = np.isfinite(least).all(axis=1)
    if not known.any():
        return {
            "flop": math.nan, "moved_bytes": math.nan, "roof": "unknown", "roof_share": math.nan,
        }  # fmt: skip
    flop, moved, arithmetic_s, memory_s = (float(column) for column in least[known].sum(axis=0))
    needed_s = float(least[known][:, 2:].max(axis=1).sum())
    return {
        "flop": flop,
        "moved_bytes": moved,
        "roof": "memory" if memory_s > arithmetic_s else "compute",
        "roof_share": needed_s * 1e9 / max(1, int(lengths[known].sum())),
    }


def _most_frequent(codes: NDArray[np.integer]) -> int:
    return int(np.bincount(codes).argmax())


def _bound(kernels: Kernels, rows: NDArray[np.intp]) -> str:
    """Which pipe of the core is busy nearly all the time, by msprof's rules."""
    ratio = {
        name: counter_mean(kernels, name, rows)
        for name in (
            "aic_mac_ratio", "aic_mte2_ratio", "aiv_vec_ratio", "aiv_mte2_ratio",
            "aiv_mte3_ratio", "aic_scalar_ratio", "aiv_scalar_ratio",
        )
    }  # fmt: skip
    if not any(np.isfinite(value) for value in ratio.values()):
        return "unknown"
    value = {name: 0.0 if np.isnan(one) else one for name, one in ratio.items()}
    pipes = {
        "cube": value["aic_mac_ratio"],
        "vector": value["aiv_vec_ratio"],
        "memory": max(value["aic_mte2_ratio"], value["aiv_mte2_ratio"] + value["aiv_mte3_ratio"]),
        "scalar": max(value["aic_scalar_ratio"], value["aiv_scalar_ratio"]),
    }
    name, most = max(pipes.items(), key=lambda item: item[1])
    return name if most >= BUSY else "none"

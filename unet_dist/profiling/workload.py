"""A step to be predicted on other numbers of cards: as it was measured, or from shapes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.errors import UserError
from unet_dist.profiling.analysis import Analysis
from unet_dist.profiling.model_costs import costs_of
from unet_dist.profiling.scaling import LinkModel, Topology, Workload, fitted_link
from unet_dist.profiling.tables import RankProfile
from unet_dist.records import read_records
from unet_dist.runs import RunDir

CUBE_SHARE = 0.3
"""Of a card's peak that a U-Net reaches, unless it was measured. The real sample of a small network
on a 910B used its cube unit to 15 % of the time."""
FIXED_SHARE = 0.1
"""Of a measured step's computing that does not depend on the number of images: the optimiser, and
the ends of kernels. An assumption: one profile cannot tell it."""

ALL_REDUCE = re.compile(r"all_?reduce", re.IGNORECASE)
FEWEST = 6
"""All-reduces that a link is fitted from."""
LARGEST_TO_SMALLEST = 2.0
"""Of their sizes: less of a difference tells no bandwidth."""


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """What is known of a profiled step besides its profile."""

    images: int
    """Of a card."""
    config: Config


@dataclass(frozen=True, kw_only=True)
class KnownStep:
    """A step to be predicted, and the links to predict it with."""

    workload: Workload
    images: int
    """Of a card."""
    topology: Topology
    links: str = "nominal links"


def run_of(folder: Path) -> Profiled | None:
    """Of a profile within a run folder; None outside of one."""
    for place in (folder, *folder.resolve().parents):
        run = RunDir(place)
        if run.config.is_file() and run.records(0).is_file():
            starts = [r for r in read_records(run.records(0)) if r["kind"] == "start"]
            if starts:
                return Profiled(
                    images=int(starts[-1]["images_per_rank"]), config=load_config(run.config)
                )
    return None


def measured(analysis: Analysis, known: Profiled) -> Workload:
    """Raises UserError if the profile tells nothing of a step."""
    parts = analysis.parts
    if not parts:
        raise UserError("DIR", "the profile tells nothing of a step")
    costs = costs_of(known.config)
    computing = parts["computing"] / 1e9
    sent = parts["transfer"] + parts["overlapped"]
    rest = ("data", "preparing", "free", "unattributed")
    return Workload(
        fixed_s=FIXED_SHARE * computing,
        image_s=(1 - FIXED_SHARE) * computing / known.images,
        other_s=sum(parts[name] for name in rest) / 1e9,
        gradient_bytes=costs.gradient_bytes,
        hidden=parts["overlapped"] / sent if sent else 0.0,
        state_bytes=costs.state_bytes,
        image_bytes=costs.activation_bytes,
        halo_bytes=costs.halo_bytes,
        exchanges=costs.exchanges,
        rows=costs.rows,
    )


def from_shapes(config: Config, *, peak_tflops: float, share: float = CUBE_SHARE) -> Workload:
    """Of a configuration that was never run."""
    costs = costs_of(config)
    return Workload(
        fixed_s=0.0,
        image_s=costs.step_flop / (peak_tflops * 1e12 * share),
        other_s=0.0,
        gradient_bytes=costs.gradient_bytes,
        hidden=0.0,
        state_bytes=costs.state_bytes,
        image_bytes=costs.activation_bytes,
        halo_bytes=costs.halo_bytes,
        exchanges=costs.exchanges,
        rows=costs.rows,
    )


@dataclass(frozen=True, kw_only=True)
class FittedLink:
    link: LinkModel
    collectives: int
    """That it was fitted from."""


def link_between(profiles: Sequence[RankProfile]) -> FittedLink | None:
    """From the all-reduces of a profile, if it tells their transfers and they differ in size; a
    ring of n ranks sends 2 (n - 1) messages one after the other."""
    ranks = max(len(profiles), *(profile.world for profile in profiles))
    calls = [
        (float(one.sent_bytes), one.transfer_ns / 1e9)
        for profile in profiles
        for one in profile.collectives
        if ALL_REDUCE.search(one.name) and one.sent_bytes and one.transfer_ns
    ]
    sizes = [size for size, _ in calls]
    if ranks < 2 or len(calls) < FEWEST or max(sizes) < LARGEST_TO_SMALLEST * min(sizes):
        return None
    whole = fitted_link(sizes, [seconds for _, seconds in calls])
    alpha = whole.alpha_s / (2 * (ranks - 1))
    return FittedLink(link=replace(whole, alpha_s=alpha), collectives=len(calls))


def with_link(topology: Topology, found: FittedLink | None, ranks: int) -> tuple[Topology, str]:
    """With the measured link where the ranks had theirs, and how that is told."""
    if found is None:
        return topology, "nominal links"
    place = "inside" if ranks <= topology.group else "between"
    link = found.link
    told = (
        f"links {place} groups as measured over {found.collectives} collectives "
        f"({link.alpha_s * 1e6:.1f} us, {link.bytes_per_s / 1e9:.1f} GB/s), others nominal"
    )
    changed = (
        replace(topology, inside=link) if place == "inside" else replace(topology, between=link)
    )
    return changed, told

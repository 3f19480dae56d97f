"""A step to be predicted on other numbers of cards: as it was measured, or from shapes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.errors import UserError
from unet_dist.profiling.analysis import Analysis
from unet_dist.profiling.model_costs import BYTES_PER_PARAMETER, ModelCosts, costs_of
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
    simulated: bool = False
    """Whether its computing is that of simulated ranks."""
    cards: int = 0
    """That it was measured on; 0 of shapes alone."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """As measured, nanoseconds by ``steps.PARTS`` and ``step``."""
    source: str = ""
    """What is assumed of it."""


def amp_of(folder: Path) -> str:
    """Of the run that the profile lies in; empty: in none."""
    known = run_of(folder)
    return known.config.train.amp if known else ""


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
    return _with_costs(_timed(analysis.parts, known.images), costs_of(known.config))


def measured_alone(
    analysis: Analysis, profiles: Sequence[RankProfile], images: int, ranks: int
) -> Workload:
    """Of a profile whose configuration nobody knows: its collectives tell the gradients' size, and
    its peak the activations'.

    Raises:
        UserError: it tells nothing of a step, or of what its ranks send.
    """
    work = _timed(analysis.parts, images)
    profile = next(one for one in profiles if one.rank == analysis.typical)
    sent = sum(one.sent_bytes or 0 for one in profile.collectives if ALL_REDUCE.search(one.name))
    if ranks < 2 or not sent:
        raise UserError(
            "DIR", "the profile tells nothing of what its ranks send, so other numbers of cards "
            "cannot be predicted: name RUN/profile, or a configuration",
        )  # fmt: skip
    # What each rank of a ring sends of an all-reduce.
    gradients = sent / max(1, len(profile.steps)) * ranks / (2 * (ranks - 1))
    state = BYTES_PER_PARAMETER / 4 * gradients
    memory = next(one.memory for one in analysis.ranks if one.rank == analysis.typical)
    peak = memory.peak_allocated_mb * 1e6 if memory else 0.0
    return replace(
        work,
        gradient_bytes=gradients,
        state_bytes=state,
        image_bytes=max(0.0, peak - state) / images,
    )


def ranks_of(profiles: Sequence[RankProfile]) -> int:
    """Of the whole job, also those without a profile."""
    named = [1 + end for p in profiles for one in p.transfers for end in (one.source, one.target)]
    return max(len(profiles), *(p.world for p in profiles), *named)


def _timed(parts: Mapping[str, float], images: int) -> Workload:
    if not parts:
        raise UserError("DIR", "the profile tells nothing of a step")
    computing = parts["computing"] / 1e9
    sent = parts["transfer"] + parts["overlapped"]
    rest = ("data", "preparing", "free", "unattributed")
    return Workload(
        fixed_s=FIXED_SHARE * computing,
        image_s=(1 - FIXED_SHARE) * computing / images,
        other_s=sum(parts[name] for name in rest) / 1e9,
        hidden=parts["overlapped"] / sent if sent else 0.0,
    )


def from_shapes(config: Config, *, peak_tflops: float, share: float = CUBE_SHARE) -> Workload:
    """Of a configuration that was never run."""
    costs = costs_of(config)
    image_s = costs.step_flop / (peak_tflops * 1e12 * share)
    return _with_costs(Workload(image_s=image_s), costs)


def _with_costs(work: Workload, costs: ModelCosts) -> Workload:
    """With the sizes that shapes tell."""
    return replace(
        work,
        gradient_bytes=costs.gradient_bytes,
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
    ranks = ranks_of(profiles)
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


def known_step(
    analysis: Analysis,
    profiles: Sequence[RankProfile],
    topology: Topology,
    known: Profiled | int,
) -> KnownStep:
    """
    Args:
        profiles: with their collectives divided into transfer and waiting.
        known: of the run, or, of a profile without one, images of its step over all cards.

    Raises:
        UserError: the profile tells too little, or its cards cannot have had so many images.
    """
    ranks = ranks_of(profiles)
    found, links = with_link(topology, link_between(profiles), ranks)
    source = ""
    if isinstance(known, Profiled):
        images, workload = known.images, measured(analysis, known)
    else:
        images, rest = divmod(known, ranks)
        if rest:
            raise UserError("--batch", f"{known} images do not divide over the profile's {ranks} "
                            "cards")  # fmt: skip
        workload = measured_alone(analysis, profiles, images, ranks)
        source = (
            f"{images} images a card as --batch says; {workload.gradient_bytes / 1e6:.1f} MB of "
            "gradients as the collectives sent them over a ring, and memory by the profile's peak, "
            "with AdamW's state."
        )
    return KnownStep(
        workload=workload,
        images=images,
        topology=found,
        links=links,
        simulated=analysis.simulated,
        cards=ranks,
        parts=analysis.parts,
        source=source,
    )


def step_of_shapes(config: Config, topology: Topology, *, peak_tflops: float) -> KnownStep:
    return KnownStep(
        workload=from_shapes(config, peak_tflops=peak_tflops),
        images=max(1, config.train.batch),
        topology=topology,
        source=f"A lower bound, from shapes alone: arithmetic at {CUBE_SHARE:.0%} of "
        f"{peak_tflops:g} TFLOP/s, and the bytes of the gradients. The host's launches of kernels, "
        "memory traffic, and waiting for input come on top: profile a step to know them.",
    )

"""How long a step would take on other numbers of cards, and how it is best divided.

The alpha-beta model: a message of S bytes takes alpha + S / beta. An all-reduce of n cards over
links of one kind takes (Thakur et al., IJHPCA 2005)

    ring                2 (n - 1) alpha + 2 (n - 1) / n * S / beta
    halving, doubling   2 ceil(log2 n) alpha + 2 (n - 1) / n * S / beta
    hierarchical        reduce-scatter and gather within a group over its fast links, an all-reduce
                        of 1 / group of the data between groups over the slow ones

and the fastest one is taken, as HCCL does. What the profile measured replaces the nominal figures.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from unet_dist.profiling.model_costs import BACKWARD

WORTH = 0.01
"""Of a step: what saves less is not worth another way to divide it."""

Algorithm = Literal["none", "ring", "halving-doubling", "hierarchical"]


@dataclass(frozen=True, kw_only=True)
class LinkModel:
    alpha_s: float
    """Of a message, whatever its size."""
    bytes_per_s: float

    def time_s(self, size: float, *, messages: float, share: float) -> float:
        """Of ``messages`` one after the other that carry ``share`` of the bytes in all."""
        sent = 0.0 if math.isinf(self.bytes_per_s) else share * size / self.bytes_per_s
        return messages * self.alpha_s + sent


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Cards in groups with fast links inside, and slower ones between."""

    name: str
    group: int
    inside: LinkModel
    between: LinkModel


TOPOLOGIES: Mapping[str, Topology] = {
    # Nominal bandwidths of msprof-analyze's tables; alphas are assumptions until they are measured.
    "910A": Topology(
        name="910A, rings of four over HCCS, RoCE between servers",
        group=4,
        inside=LinkModel(alpha_s=10e-6, bytes_per_s=18e9),
        between=LinkModel(alpha_s=25e-6, bytes_per_s=12.5e9),
    ),
    "910B": Topology(
        name="910B, 8 cards a server over HCCS, RoCE between servers",
        group=8,
        inside=LinkModel(alpha_s=10e-6, bytes_per_s=28e9),
        between=LinkModel(alpha_s=25e-6, bytes_per_s=25e9),
    ),
    "pcie": Topology(
        name="8 cards a server over PCIe, RoCE between servers",
        group=8,
        inside=LinkModel(alpha_s=15e-6, bytes_per_s=20e9),
        between=LinkModel(alpha_s=25e-6, bytes_per_s=12.5e9),
    ),
    "superpod": Topology(
        name="384 cards with HCCS throughout, RoCE between pods",
        group=384,
        inside=LinkModel(alpha_s=12e-6, bytes_per_s=28e9),
        between=LinkModel(alpha_s=25e-6, bytes_per_s=25e9),
    ),
}


def all_reduce_s(size: float, cards: int, topology: Topology) -> tuple[float, Algorithm]:
    """Seconds of the fastest algorithm, and which one that is."""
    if cards <= 1 or size <= 0:
        return 0.0, "none"
    inside = min(cards, topology.group)
    groups = math.ceil(cards / topology.group)
    slowest = topology.inside if groups == 1 else topology.between
    times: dict[Algorithm, float] = {
        "ring": _ring(size, cards, slowest),
        "halving-doubling": _halving(size, cards, slowest),
    }
    if groups > 1:
        within = _ring(size, inside, topology.inside)  # a reduce-scatter, and a gather at the end
        part = size / inside
        across = min(
            _ring(part, groups, topology.between), _halving(part, groups, topology.between)
        )
        times["hierarchical"] = within + across
    algorithm = min(times, key=lambda name: times[name])
    return times[algorithm], algorithm


def _ring(size: float, cards: int, link: LinkModel) -> float:
    steps = 2 * (cards - 1)
    return link.time_s(size, messages=steps, share=steps / cards)


def _halving(size: float, cards: int, link: LinkModel) -> float:
    steps = 2 * math.ceil(math.log2(cards))
    # A number of cards that is no power of 2 first folds the surplus into the others.
    folded = 0 if cards & (cards - 1) == 0 else 2
    return link.time_s(size, messages=steps + folded, share=2 * (cards - 1) / cards + folded)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A step as it was measured, or as shapes tell it."""

    fixed_s: float = 0.0
    """Of computing, whatever the number of images."""
    image_s: float
    """Of computing, for each image."""
    other_s: float = 0.0
    """Exposed and the same on each card: waiting for input, the host."""
    gradient_bytes: float = 0.0
    hidden: float = 0.0
    """Share of the all-reduce that computing hides, 0..1."""
    state_bytes: float = 0.0
    """Of weights, gradients and the optimiser on each card."""
    image_bytes: float = 0.0
    """Of activations for each image."""
    halo_bytes: float = 0.0
    """See ``model_costs``; so too the next ones."""
    exchanges: int = 0
    rows: int = 1


@dataclass(frozen=True, kw_only=True)
class Split:
    """How a step is divided."""

    cards: int
    images: int
    """Of each card, or of the cards that share them, in each part of the accumulation."""
    accumulation: int = 1
    sharded: bool = False
    """Whether the optimiser's state is divided over the cards (parallel optimizer)."""
    strips: int = 1
    """Into which each image is cut, a card each."""
    buckets: int = 1
    """Parts of the gradients, each sent while the next one is computed."""

    @property
    def batch(self) -> int:
        return self.cards // self.strips * self.images * self.accumulation


@dataclass(frozen=True, kw_only=True)
class Prediction:
    split: Split
    step_s: float
    computing_s: float
    communication_s: float
    """Exposed."""
    exchange_s: float
    """Of rows between cards that share images."""
    memory_bytes: float
    images_per_s: float
    efficiency: float
    """Images a second of a card, as a share of those of one card with the same split."""
    algorithm: Algorithm


def predict(workload: Workload, split: Split, topology: Topology) -> Prediction:
    part = workload.fixed_s + split.images * workload.image_s / split.strips
    computing = split.accumulation * part
    exposed, algorithm = _exposed(workload, split, topology, computing, part)
    exchange = split.accumulation * exchange_s(workload, split, topology)
    step = computing + exposed + exchange + workload.other_s
    state = workload.state_bytes / (split.cards if split.sharded else 1)
    kept = workload.image_bytes / split.strips + _neighbours(split) / 2 * workload.halo_bytes / 2
    alone = computing + workload.other_s
    return Prediction(
        split=split,
        step_s=step,
        computing_s=computing,
        communication_s=exposed,
        exchange_s=exchange,
        memory_bytes=state + split.images * kept,
        images_per_s=split.batch / step,
        efficiency=alone / step,
        algorithm=algorithm,
    )


def _exposed(
    workload: Workload, split: Split, topology: Topology, computing: float, last: float
) -> tuple[float, Algorithm]:
    """Args:
    last: seconds of the last part of the accumulation, whose backward pass hides parts.
    """
    whole, algorithm = all_reduce_s(workload.gradient_bytes, split.cards, topology)
    if split.buckets == 1:
        return whole - min(workload.hidden * whole, computing), algorithm
    backward = last * BACKWARD / (1 + BACKWARD)
    sent, algorithm = _in_buckets(
        workload.gradient_bytes, split.cards, topology, backward, split.buckets
    )
    return sent, algorithm


def exchange_s(workload: Workload, split: Split, topology: Topology) -> float:
    """Of the rows at the edges of strips, and of the sums of norms over an image: each convolution
    waits for both, forward and backward."""
    if split.strips == 1 or not workload.halo_bytes:
        return 0.0
    link = topology.inside if split.strips <= topology.group else topology.between
    neighbours = _neighbours(split)
    rows = link.time_s(
        split.images * workload.halo_bytes,
        messages=neighbours * workload.exchanges,
        share=neighbours / 2,
    )
    # A norm sums two numbers of each channel: latency alone.
    sums = workload.exchanges * 2 * math.ceil(math.log2(split.strips))
    return rows + sums * link.alpha_s


def _neighbours(split: Split) -> int:
    return min(2, split.strips - 1)


def splits_of(cards: int, batch: int, most_images: int, *, rows: int = 1) -> list[Split]:
    """The ways to give each card, or all that share images, the same number of images of a batch.

    Args:
        rows: into which an image can be cut; strips are of equal height.
    """
    found = []
    for strips in range(1, min(cards, rows) + 1):
        each, rest = divmod(batch, cards // strips)
        if cards % strips or rows % strips or rest or not each:
            continue
        for accumulation in range(1, each + 1):
            images, left = divmod(each, accumulation)
            if not left and images <= most_images:
                found += [
                    Split(
                        cards=cards,
                        images=images,
                        accumulation=accumulation,
                        sharded=sharded,
                        strips=strips,
                    )
                    for sharded in (False, True)
                ]
    return found


def best_split(
    workload: Workload, cards: int, batch: int, topology: Topology, *, memory_bytes: float
) -> Prediction | None:
    """The fastest that fits into the memory of a card; what is no faster by ``WORTH`` is done in
    the simpler way. None if none fits."""
    fitting = [
        found
        for split in splits_of(cards, batch, most_images=batch, rows=workload.rows)
        for found in _with_buckets(workload, split, topology)
        if found.memory_bytes <= memory_bytes
    ]
    if not fitting:
        return None
    fastest = min(one.step_s for one in fitting)
    return min(
        (one for one in fitting if one.step_s <= (1 + WORTH) * fastest),
        key=lambda one: (
            one.split.strips,
            one.split.sharded,
            one.split.buckets,
            one.split.accumulation,
            one.step_s,
        ),
    )


def _with_buckets(workload: Workload, split: Split, topology: Topology) -> list[Prediction]:
    """The gradients as one, and in as many parts as are best."""
    whole = predict(workload, split, topology)
    last = whole.computing_s / split.accumulation
    backward = last * BACKWARD / (1 + BACKWARD)
    number, _ = best_buckets(workload.gradient_bytes, split.cards, topology, backward_s=backward)
    if number == 1:
        return [whole]
    return [whole, predict(workload, replace(split, buckets=number), topology)]


def fitted_link(sizes: Sequence[float], seconds: Sequence[float]) -> LinkModel:
    """Alpha and beta of measured transfers, by the median of slopes, which outliers do not turn.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len(set(sizes)) < 2:
        raise ValueError("transfers of one size alone tell no bandwidth")
    from scipy import stats

    fit = stats.theilslopes(seconds, sizes, method="joint")
    slope = max(float(fit.slope), 0.0)
    alpha = max(float(fit.intercept), 0.0)
    return LinkModel(alpha_s=alpha, bytes_per_s=math.inf if slope == 0 else 1 / slope)


def best_buckets(
    size: float, cards: int, topology: Topology, *, backward_s: float, most: int = 64
) -> tuple[int, float]:
    """Into how many parts the gradients are best divided, and what of sending them stays exposed.

    Each part is sent while the next one is computed, evenly over the backward pass; the last one
    is exposed in any case, and every part pays its own latency.
    """
    found = [
        (_in_buckets(size, cards, topology, backward_s, number)[0], number)
        for number in range(1, most + 1)
    ]
    exposed, number = min(found)
    return number, exposed


def _in_buckets(
    size: float, cards: int, topology: Topology, backward_s: float, number: int
) -> tuple[float, Algorithm]:
    part, algorithm = all_reduce_s(size / number, cards, topology)
    hidden = backward_s * (number - 1) / number
    return max(part, number * part - hidden), algorithm

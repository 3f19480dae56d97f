"""Whether two profiles are of the same work: if not, their times tell nothing of a change."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from unet_dist.config_file import known_keys, value_of
from unet_dist.profiling.analysis import Analysis
from unet_dist.profiling.workload import Profiled, run_of

OF_WORK = ("model.", "augment.", "loss.", "data.classes", "data.in_channels")
"""Keys of a configuration that change what a step computes; those of ``train`` are below."""
OF_TRAIN = ("batch", "accumulation", "amp", "ema", "prefetch")
SHOWN = 4
"""Types of kernels whose shapes are told, and keys."""
LEAST_SHARE = 0.02
"""Of the kernels' time, from which a type's shapes are looked at."""


def unlike(path_a: Path, a: Analysis, path_b: Path, b: Analysis) -> list[str]:
    """A line for each difference; none if the profiles, and the runs they lie in, tell of none."""
    lines = [*_machines(a, b), *_settings(run_of(path_a), run_of(path_b))]
    # Another batch or crop is told once; the shapes follow from it.
    return lines or list(_shapes(a, b))


def _machines(a: Analysis, b: Analysis) -> Iterator[str]:
    if a.simulated != b.simulated:
        names = ("simulated ranks" if one.simulated else "cards" for one in (a, b))
        yield "A is of {}, B of {}".format(*names)
    ranks = [", ".join(str(rank.rank) for rank in one.ranks) for one in (a, b)]
    if ranks[0] != ranks[1]:
        yield f"A is of rank {ranks[0]}, B of rank {ranks[1]}"


def _settings(a: Profiled | None, b: Profiled | None) -> Iterator[str]:
    if a is None or b is None:
        return
    if a.images != b.images:
        yield f"images of a rank at once: A has {a.images}, B has {b.images}"
    train = [f"train.{name}" for name in OF_TRAIN]
    keys = [key for key, _ in known_keys() if key.startswith(OF_WORK) or key in train]
    found = [
        f"{key}: A has {value_of(a.config, key)}, B has {value_of(b.config, key)}"
        for key in keys
        if value_of(a.config, key) != value_of(b.config, key)
    ]
    yield from found[:SHOWN]
    if len(found) > SHOWN:
        yield f"and {len(found) - SHOWN} more settings"


def _shapes(a: Analysis, b: Analysis) -> Iterator[str]:
    one, other = _shapes_by_type(a), _shapes_by_type(b)
    differ = [kind for kind in one if kind in other and not one[kind] & other[kind]]
    for kind in differ[:SHOWN]:
        yield f"no {kind} of B has the shapes of one of A, such as {min(one[kind])}"


def _shapes_by_type(analysis: Analysis) -> Mapping[str, frozenset[str]]:
    """The longest types first; empty where the profile tells no shapes."""
    found: dict[str, set[str]] = {}
    for group in analysis.shapes:
        kind, _, shapes = group.name.partition(" ")
        if shapes and group.share >= LEAST_SHARE:
            found.setdefault(kind, set()).add(shapes)
    return {kind: frozenset(shapes) for kind, shapes in found.items()}

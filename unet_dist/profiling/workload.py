"""A step to be predicted on other numbers of cards: as it was measured, or from shapes."""

from dataclasses import dataclass
from pathlib import Path

from unet_dist.config import Config
from unet_dist.config_file import load_config
from unet_dist.errors import UserError
from unet_dist.profiling.analysis import Analysis
from unet_dist.profiling.model_costs import costs_of
from unet_dist.profiling.scaling import Workload
from unet_dist.records import read_records
from unet_dist.runs import RunDir

CUBE_SHARE = 0.3
"""Of a card's peak that a U-Net reaches, unless it was measured. The real sample of a small network
on a 910B used its cube unit to 15 % of the time."""
FIXED_SHARE = 0.1
"""Of a measured step's computing that does not depend on the number of images: the optimiser, and
the ends of kernels. An assumption: one profile cannot tell it."""


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """What is known of a profiled step besides its profile."""

    images: int
    """Of a card."""
    config: Config


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
    )

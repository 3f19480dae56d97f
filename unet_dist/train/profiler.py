"""MindSpore's profiler, as far as it is used here."""

from pathlib import Path
from typing import Any, Protocol

from unet_dist.profiling.capture import Window


class Profiler(Protocol):
    """Follows a window: nothing is kept of the steps of its warm-up."""

    def start(self) -> None: ...

    def step(self) -> None:
        """Between two steps."""

    def stop(self) -> None:
        """In place of ``step`` after the last one, or earlier; writes what was recorded."""


def mindspore_profiler(folder: Path, window: Window, stacks: bool) -> Profiler:
    """Its errors are logged and not raised, so that only the files tell whether it worked."""
    from mindspore import profiler

    from unet_dist.model.target import on_cpu

    activities = [profiler.ProfilerActivity.CPU]
    settings: dict[str, Any] = {}
    if not on_cpu():
        activities.append(profiler.ProfilerActivity.NPU)
        settings = {
            "with_stack": stacks,
            "profile_memory": True,
            "record_shapes": True,
            "experimental_config": profiler._ExperimentalConfig(
                profiler_level=profiler.ProfilerLevel.Level1,
                aic_metrics=profiler.AicoreMetrics.PipeUtilization,
            ),
        }
    made: Profiler = profiler.profile(
        activities=activities,
        start_profile=False,
        # MindSpore sets itself up at the begin of the warm-up and records from its end on. On cards
        # the schedule also marks the steps, which it counts from the begin of the warm-up, from 0.
        schedule=profiler.schedule(wait=0, warmup=window.warmup, active=window.length, repeat=1),
        on_trace_ready=profiler.tensorboard_trace_handler(str(folder), worker_name="mindspore"),
        **settings,
    )
    return made

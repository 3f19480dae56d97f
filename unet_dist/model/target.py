"""Which device the graphs of this process run on."""

import mindspore as ms


def on_cpu() -> bool:
    return bool(ms.get_context("device_target") == "CPU")

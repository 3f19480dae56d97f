"""Choosing a device and starting MindSpore on it, once per rank."""

import contextlib
import io
import warnings

from unet_dist.errors import UserError


def start_mindspore(target: str, device_id: int = 0) -> None:
    """Graph mode on ``CPU`` or ``Ascend``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    if target == "Ascend":
        try:
            ms.set_device("Ascend", device_id)
        except RuntimeError as error:
            if "Unsupported device target Ascend" not in str(error):
                raise
            raise UserError(
                "this server",
                "MindSpore finds no Ascend software here: install driver and CANN, and source "
                "/usr/local/Ascend/ascend-toolkit/set_env.sh before the launch; unet-dist doctor "
                "tells what is missing. Without cards, use --simulate",
            ) from error
        return
    ms.set_device("CPU")
    # MindSpore 2.10 looks for a module of NumPy 1 in its first eager operation, and that one
    # operation fails with NumPy 2; later ones work.
    one = ms.Tensor([1.0], ms.float32)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # pages that advise to downgrade NumPy
            one * one
    except SystemError as error:
        if not isinstance(error.__cause__, ImportError):
            raise

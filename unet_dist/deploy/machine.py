"""What a process must be given before it computes here."""

import importlib.util
import os

from unet_dist.cluster.host import cpu_flags
from unet_dist.errors import UserError


def need_packages(*names: str) -> None:
    """
    Raises:
        UserError: the extra ``deploy`` is not installed.
    """
    missing = [n for n in ("onnx", "onnxruntime", *names) if importlib.util.find_spec(n) is None]
    if missing:
        raise UserError(" and ".join(missing), "not installed: pip install 'unet-dist[deploy]'")


def start_native() -> None:
    """Starts MindSpore on the CPU of this process, held back as ``cluster.plan`` does for ranks:
    its convolutions are 30 times slower with AVX-512."""
    if any(flag.startswith("avx512") for flag in cpu_flags()):
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("GLOG_v", "3")
    from unet_dist.train.device import start_mindspore

    start_mindspore("CPU")

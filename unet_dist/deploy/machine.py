"""What a process must be given before it computes here."""

import importlib.util
import os

from unet_dist.cluster.host import cpu_flags
from unet_dist.errors import UserError

ISA = "ONEDNN_MAX_CPU_ISA"


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
    os.environ.setdefault("GLOG_v", "3")
    chosen = ISA in os.environ
    if any(flag.startswith("avx512") for flag in cpu_flags()):
        os.environ.setdefault(ISA, "AVX2")
    from unet_dist.train.device import start_mindspore

    start_mindspore("CPU")
    _first_convolution()
    if not chosen:
        # OpenVINO has a oneDNN of its own, which is to have all that the CPU can. Each of them
        # reads the variable once.
        os.environ.pop(ISA, None)


def _first_convolution() -> None:
    import mindspore as ms
    from mindspore import nn

    nn.Conv2d(1, 1, 3)(ms.Tensor([[[[1.0]]]], ms.float32)).asnumpy()

"""MindSpore's own process for CPU collectives: ``python -m unet_dist.train.scheduler``.

It brings the workers together and returns when all of them have left. Until then they need it: a
SIGTERM to every process of a job must not end it while they write their checkpoint.
"""

import signal

from unet_dist.train.device import start_mindspore

if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    start_mindspore("CPU")
    from mindspore import communication

    communication.init()

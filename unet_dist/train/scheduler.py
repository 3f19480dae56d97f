"""MindSpore's own process for CPU collectives: ``python -m unet_dist.train.scheduler``.

It brings the workers together and returns when all of them have left.
"""

from unet_dist.train.device import start_mindspore

if __name__ == "__main__":
    start_mindspore("CPU")
    from mindspore import communication

    communication.init()

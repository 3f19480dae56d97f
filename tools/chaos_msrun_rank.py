"""A rank for msrun in ``tools/chaos.py``: an all-reduce in a loop, and one fault.

msrun ... tools/chaos_msrun_rank.py FOLDER VICTIM FAULT
"""

import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
from chaos_rank import FAULT_STEP, LIFE_S, STEP_S, commit
from mindspore import Tensor, ops, set_context
from mindspore.communication import get_rank, init


def main() -> None:
    folder, victim, fault = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if fault == "ignore-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_context(device_target="CPU")
    init()
    all_reduce, ones = ops.AllReduce(), Tensor(np.ones(4, np.float32))
    ends, step = time.monotonic() + LIFE_S, 0
    while time.monotonic() < ends:
        step += 1
        time.sleep(STEP_S)
        if get_rank() == victim and step == FAULT_STEP:
            commit(fault, folder)
        all_reduce(ones).asnumpy()


if __name__ == "__main__":
    main()

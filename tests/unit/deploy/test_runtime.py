import subprocess
import sys

INTERRUPTED = """
import os, signal
import numpy as np
from onnx import TensorProto, helper
from unet_dist.deploy.model_file import INPUT
from unet_dist.deploy.runtime import OpenVinoSession

def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4])

relu = helper.make_node("Relu", [INPUT], ["y"])
model = helper.make_model(
    helper.make_graph([relu], "g", [value(INPUT)], [value("y")]),
    opset_imports=[helper.make_opsetid("", 17)],
    ir_version=8,
).SerializeToString()
image = np.ones((1, 1, 4, 4), np.float32)
older = OpenVinoSession(model, threads=1)
older.run(image)
newer = OpenVinoSession(model, threads=1)
newer.run(image)
del older
newer = None
# What was freed is used again by others.
waste = [np.full(size, 255, np.uint8) for size in range(1000, 30000, 100)]
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_ctrl_c_after_sessions_were_closed_is_a_keyboard_interrupt():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr

"""Runs a Python script as a rank: ``python -m unet_dist.run_script [-m] SCRIPT ARGS...``

An error ends the rank at once and is written down, where Python's own way out would wait in MPI
or MindSpore for the other ranks; on a hang its stacks can be asked for by SIGUSR1.
"""

import faulthandler
import os
import runpy
import signal
import sys
from pathlib import Path
from types import TracebackType

from unet_dist.rank_error import end_by_error


def main() -> None:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    as_module = sys.argv[1] == "-m"
    del sys.argv[: 2 if as_module else 1]
    target = sys.argv[0]
    try:
        if as_module:
            sys.path[0] = os.getcwd()
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(target).resolve().parent)
            runpy.run_path(target, run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if code:
            end_by_error(
                leaving, message=f"ended with exit code {code}", user_error=False, code=code
            )
    except BaseException as error:  # noqa: BLE001 - told to the supervisor, which tells the user
        message = f"{type(error).__name__}: {error}"
        error.__traceback__ = _of_the_script(error.__traceback__)
        end_by_error(error, message=message, user_error=False, code=1)


def _of_the_script(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this file and of runpy, which say nothing."""
    while trace is not None and trace.tb_next is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and "runpy" not in file:
            break
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    main()

"""What a rank writes down of the error that ends it, for whoever watches the ranks.

Standard library only: it serves scripts of the user's own as well as this program's ranks.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

ENVIRONMENT = "UNET_DIST_ERROR_FILE"
"""Set for each rank: its file."""


def _write(target: Path, text: str) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        part.rename(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def end_by_error(error: BaseException, *, message: str, user_error: bool, code: int) -> None:
    """Writes the error and its traceback, and ends this process at once.

    Not sys.exit: leaving MPI or MindSpore in good order would wait for the other ranks, and they
    wait for this one. The same if the disk is too full to write the error.
    """
    report = {
        "time": time.time(),
        "kind": type(error).__name__,
        "message": message,
        "user_error": user_error,
    }
    try:
        if isinstance(error, SystemExit):  # like Python: its code says all, a text is shown
            sys.stderr.write(f"{error.code}\n" if isinstance(error.code, str) else "")
        else:
            traceback.print_exception(error)
        target = os.environ.get(ENVIRONMENT)
        if target:
            _write(Path(target), json.dumps(report))
    finally:
        os._exit(code)

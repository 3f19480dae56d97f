"""Stand-ins for the vendor's programs: executables on PATH that print what real ones printed."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from unet_dist.cli import main

StandIn = Callable[[str, str], Path]


@dataclass(frozen=True)
class Ended:
    """As subprocess.run returns it."""

    returncode: int
    stdout: str
    stderr: str


Program = Callable[..., Ended]

# Cards 4 to 7 of a server of eight 910A, numbered from 0 in a container.
MAP = """\
\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Name
\t4                              0                              0                              Ascend 910A
\t4                              1                              -                              Mcu
\t5                              0                              1                              Ascend 910A
\t5                              1                              -                              Mcu
\t6                              0                              2                              Ascend 910A
\t7                              0                              3                              Ascend 910A
"""  # noqa: E501
ROW = """\
| {npu}     910A            | OK            | 67.8        45                0    / 0             |
| 0                         | 0000:{bus}:00.0  | 12          2006 / 15039      1024 / 32768      |
+===========================+===============+====================================================+
"""
BUSES = {4: "61", 5: "C1", 6: "01", 7: "41"}
INFO = (
    """\
+------------------------------------------------------------------------------------------------+
| npu-smi 23.0.rc1                 Version: 23.0.rc1                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
    + "".join(ROW.format(npu=npu, bus=bus) for npu, bus in BUSES.items())
    + """\
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 5       0                 | 55115         | python                   | 30784                   |
+===========================+===============+====================================================+
| No running processes found in NPU 4                                                            |
+===========================+===============+====================================================+
"""
)
# A3: two chips on each board, and a column for the physical number.
INFO_TWO_CHIPS = """\
| npu-smi 25.5.1                   Version: 25.5.1                                               |
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 0     Ascend910           | OK            | 178.5       36                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3416 / 65536         |
| 0     Ascend910           | Warning       | -           36                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          3195 / 65536         |
"""
MAP_TWO_CHIPS = """\
    NPU ID     Chip ID     Chip Logic ID     Chip Phy-ID     Chip Name
    0          0           0                 6               Ascend910
    0          1           1                 7               Ascend910
    0          2           -                 -               Mcu
"""


def npu_smi(info: str = INFO, chips: str = MAP) -> str:
    """A script that answers ``npu-smi info`` and ``npu-smi info -m``."""
    return (
        'if [ "$*" = "info -m" ]; then cat <<"END"\n' + chips + "END\n"
        'elif [ "$*" = "info" ]; then cat <<"END"\n' + info + "END\n"
        "else exit 1; fi\n"
    )


HCCN_TOOL = r"""
case "$*" in
  *"-inet6 -g") exit 1 ;;
  *"-ip -g") echo "ipaddr:${NET:-192.168.10}.$((10 + $2))"; echo "netmask:255.255.255.0" ;;
  *"-link -g") echo "link status: UP" ;;
  *"-net_health -g") echo "net health status: Success" ;;
  *"-tls -g") echo "dev_id:$2, tls switch[0](0:disable, 1:enable), tls alarm time threshold[60]days" ;;
  *) exit 1 ;;
esac
"""  # noqa: E501


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Writes an executable that comes first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where files of the system are looked for: empty, so that this machine's don't count."""
    path = tmp_path / "root"
    path.mkdir()
    return path


def put(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def run_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    """The command line within the test's process, which saves the start of Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, **environment: str) -> Ended:
        words = [str(argument) for argument in arguments]
        code = 0
        with monkeypatch.context() as changed:
            changed.setattr(sys, "argv", ["unet-dist", *words])
            for name, value in environment.items():
                changed.setenv(name, value)
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Ended(returncode=code, stdout=printed.out, stderr=printed.err)

    return run

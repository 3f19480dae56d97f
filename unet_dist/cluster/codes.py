"""What the error codes of HCCL and MindSpore mean, in one line each.

Codes after CANN's own list (hcomm: docs/en/error_codes, one page a code); MindSpore's by the text
of its messages, seen in 2.10 on the CPU.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Meaning:
    code: str
    text: str
    repeats: bool
    """Whether starting again would only meet it again."""


_HCCL = {
    # code: (repeats, meaning and what to do)
    "EI0001": (True, "an environment variable of HCCL has a value that it refuses"),
    "EI0002": (
        False,
        "a collective waited too long for another rank: one is late, dead, or has another number "
        "of steps; look at the first failure, or raise HCCL_EXEC_TIMEOUT",
    ),
    "EI0003": (True, "a collective got an argument that it refuses, such as RANK_ID"),
    "EI0004": (
        True,
        "the rank table cannot be read or was not completed: unet-dist rank-table check",
    ),
    "EI0005": (
        True,
        "ranks were given different rank tables or arguments: copy one table to all servers",
    ),
    "EI0006": (
        False,
        "no connection to a peer within HCCL_CONNECT_TIMEOUT: a rank did not start, or the card's "
        "network port is down (hccn_tool -i ID -link -g)",
    ),
    "EI0007": (False, "HCCL could not get memory, streams or ports on the card"),
    "EI0008": (True, "the servers run different versions of HCCL: install one CANN on all"),
    "EI0009": (False, "HCCL could not set up the connection between two cards"),
    "EI0010": (False, "direct access between two cards of this server failed"),
    "EI0011": (False, "the card's memory is exhausted: a smaller train.batch, or more cards"),
    "EI0012": (False, "a copy between cards failed (SDMA): look at the card's health"),
    "EI0013": (False, "a network transfer failed (RoCE): look at the links of both cards"),
    "EI0014": (True, "a value of the rank table is refused: unet-dist rank-table check FILE"),
    "EI0015": (False, "ranks are missing: those named were not started or cannot be reached"),
    "EI0016": (True, "the TLS switch differs between servers: hccn_tool -i ID -tls -g on each"),
    "EI0017": (True, "a key of the rank table is missing or not a string"),
    "EI0018": (False, "a transfer over UB failed: look at the links of both cards"),
    "EI0019": (False, "a port of this host is taken: another job runs, or set HCCL_IF_BASE_PORT"),
    "EI0020": (False, "a port of the card is taken: another job uses this card"),
    "EJ0001": (
        False,
        "the card's communication process did not start; the job before is still leaving: wait "
        "10 s",
    ),
}

_MESSAGES = (
    # pattern, code shown, repeats, meaning
    (
        r"(?:Ring ReduceScatter|Ring AllGather).*wait receiving .* failed",
        "MCCL",
        False,
        "a CPU collective waited longer than MS_CPU_COMM_OP_TIMEOUT for another rank",
    ),
    (
        r"Worker process .* is the first one timed out|is timed out\. It may exit with exception",
        "MindSpore cluster",
        False,
        "MindSpore's scheduler lost a worker; the one it names is often a victim",
    ),
    (
        r"Device memory not enough|Failed to alloc memory pool|507899|out of memory",
        "device memory",
        False,
        "the memory of the card or the host is exhausted: a smaller train.batch",
    ),
)

_CODE = re.compile(r"\b(E[IJ]\d{4})\b")
"""The families of HCCL; other words of this shape are names of files more often than codes."""


def explain(lines: Iterable[str]) -> list[Meaning]:
    """The codes found in a log, in order of first appearance, each once."""
    found: dict[str, Meaning] = {}
    for line in lines:
        for code in _CODE.findall(line):
            if code in found:
                continue
            repeats, text = _HCCL.get(
                code, (False, "not in this program's list; look it up in CANN's error codes")
            )
            found[code] = Meaning(code=code, text=text, repeats=repeats)
        for pattern, code, repeats, text in _MESSAGES:
            if code not in found and re.search(pattern, line):
                found[code] = Meaning(code=code, text=text, repeats=repeats)
    return list(found.values())

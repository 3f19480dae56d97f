"""What can be wrong with a rank table: the rules, where each comes from, and a violation of one."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["ERROR", "UNSUPPORTED", "WARN"]
SEVERITIES: tuple[Severity, ...] = ("ERROR", "UNSUPPORTED", "WARN")
"""HCCL refuses it; the documents forbid it though HCCL accepts it; it is slow or a trap."""

SHOWN_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class Rule:
    title: str
    source: str
    """Where HCCL or its documents say so; paths are those of the public repositories."""


RULES: Mapping[str, Rule] = {
    "R1": Rule(
        title="the file exists, and its path has at most 4095 characters",
        source="hcomm: param_check.cc",
    ),
    "R2": Rule(
        title="the path ends in .json, and has no earlier '.json' in it",
        source="hcomm: topoinfo_ranktableParser.cc CheckFilePath",
    ),
    "R3": Rule(
        title="the file is valid JSON; HCCL does not read a half-written one again",
        source="hcomm: topoinfo_ranktableParser.cc ReadFile",
    ),
    "R4": Rule(
        title="status is completed; HCCL waits 1800 s for it without a word",
        source="hcomm: topoinfo_ranktableParser.cc LoadFile",
    ),
    "R5": Rule(
        title="values are JSON strings in 1.x, and whole numbers in 2.0",
        source="hcomm: topoinfo_ranktableParser.cc GetJsonProperty; hccl: rank_table_config_a5.md",
    ),
    "R6": Rule(
        title="the keys that HCCL needs are there",
        source="hcomm: topoinfo_ranktableParser.cc RefreshStatus, GetJsonArrayMemberProperty",
    ),
    "R7": Rule(
        title="the version is known, and is the one of the chip",
        source="hcomm: config.cc CfgGetClusterInfo; hccl: cluster_info_config/",
    ),
    "R8": Rule(
        title="the counts are those of the lists",
        source="hcomm: topoinfo_ranktableConcise.cc GetServerList, "
        "topoinfo_ranktableStandard.cc GetInstanceList, rank_table_info.cc Check",
    ),
    "R9": Rule(
        title="server_id and pod_name are not empty, not too long, and unique",
        source="hcomm: topoinfo_ranktableConcise.cc GetSingleServer",
    ),
    "R10": Rule(
        title="each server has cards, with numbers that the chip has, each once",
        source="hcomm: topoinfo_ranktableConcise.cc GetSingleDevice, config.cc CheckDeviceId",
    ),
    "R11": Rule(
        title="addresses are valid, unique, of one family, and as many for each rank",
        source="hcomm: topoinfo_ranktableConcise.cc GetSingleDeviceIp, config.cc CheckRankIpFamily",
    ),
    "R12": Rule(
        title="the ranks are 0 to N-1, each once",
        source="hcomm: config.cc CheckRankListInfo",
    ),
    "R13": Rule(
        title="RANK_ID is a rank of the table; from N on HCCL may crash while it writes the error",
        source="hcomm: topoinfo_ranktableConcise.cc ParserClusterInfo",
    ),
    "R14": Rule(
        title="the cards of the table are physical cards of the server",
        source="hcomm: topoinfo_ranktableConcise.cc ParserClusterInfo",
    ),
    "R15": Rule(
        title="the chip can work with this number and choice of cards",
        source="hcomm: topoinfo_parse.cc CheckServerInnerRankInfo, config.cc CheckDeviceNumValid; "
        "hccl: constraints.md",
    ),
    "R16": Rule(
        title="ports are 1 to 65535; those below 1024 are the system's",
        source="hcomm: topoinfo_ranktableConcise.cc GetSingleDevicePort; "
        "hccl: rank_table_config_a3.md",
    ),
    "R17": Rule(
        title="super_pod_list holds each server once, and super_device_id is unique in a pod",
        source="hcomm: topoinfo_ranktableConcise.cc GetSuperPodList, CheckSuperPodInfo",
    ),
    "R18": Rule(
        title="every rank holds the same table",
        source="hcomm: param_check.cc HcomCalcCRC, rank_consistentcy_checker.cc",
    ),
    "R19": Rule(
        title="device_ip is the address that the card really has",
        source="hcomm: docs/en/error_codes/EI0014",
    ),
    "R20": Rule(
        title="ranks of different servers are not mixed, and follow the order of server_id",
        source="hccl: rank_table_config_910.md; mindspore docs: rank_table.md",
    ),
    "R21": Rule(
        title="the network layers of 2.0 are complete and in order",
        source="hcomm: new_rank_info.cc DeserializeLevelList, rank_table_info.cc CheckAndInsert; "
        "hccl: rank_table_config_a5.md",
    ),
    "R22": Rule(
        title="on a 910A, cards i and i+4 share a subnet, and cards of one ring do not",
        source="practice: addresses of Atlas 800 training servers in the MindSpore model zoo",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One violation of one rule at one place of the file."""

    path: str
    """JSON path; ``$`` is the file as a whole."""
    rule: str
    severity: Severity = "ERROR"
    code: str = "EI0014"
    """What HCCL would have reported; empty if it takes the table."""
    message: str
    fix: str

    def __post_init__(self) -> None:
        assert self.rule in RULES
        if self.severity != "ERROR":
            object.__setattr__(self, "code", "")

    def __str__(self) -> str:
        code = f", {self.code}" if self.code else ""
        return f"{self.path}: {self.message}; {self.fix} ({self.rule}{code})"

    def to_json(self) -> dict[str, str]:
        return {**asdict(self), "source": RULES[self.rule].source}


def errors_of(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "ERROR"]


def plain(name: str) -> str:
    """A name of the file as it is, but short, and without what would move a terminal's cursor."""
    short = name if len(name) <= SHOWN_LENGTH else f"{name[:SHOWN_LENGTH]}..."
    return short if short.isprintable() else json.dumps(short)


def shown(value: Any) -> str:
    """A value of the file, short enough for a message and safe for a terminal."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."

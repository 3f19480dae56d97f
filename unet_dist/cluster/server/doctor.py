"""Checks a server before a job: which there are, and asking the server for what they judge.

It has run against stand-ins of the vendor's programs only, never on an Ascend server. It reads;
it never changes a setting or ends a process.
"""

import functools
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unet_dist.cluster.host import cpu_flags
from unet_dist.cluster.server import doctor_cards, doctor_host
from unet_dist.cluster.server.discover import (
    host_addresses,
    known_device_ids,
    see_addresses,
    see_cards,
)
from unet_dist.cluster.server.finding import Check, Finding, fail, ok, run_checks, skip, warn
from unet_dist.cluster.server.hccn import parse_health, parse_link, parse_tls
from unet_dist.cluster.server.make_table import chip_of_models, problems_of_table
from unet_dist.cluster.server.tools import ask_at_once
from unet_dist.cluster.tables.check import Checked
from unet_dist.cluster.tables.model import RankTable
from unet_dist.cluster.tables.problems import Problem, errors_of
from unet_dist.cluster.tables.read import check_file
from unet_dist.errors import UserError

WHOLE_S = 4.6
"""From the start of this process; what is left to 5 s is for printing and for ending."""
PROGRAM_S = 3.0
PROGRAM_AT_LEAST_S = 1.0
SLOWER_THAN_A_PROGRAM_S = 0.3
"""A check may take so much longer than the programs that it asks."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What the doctor is asked about."""

    rank_table: Path | None = None
    server_id: str = ""
    run: Path | None = None
    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def examine(asked: Examination, *, used_s: float = 0.0) -> list[Finding]:
    """All findings, in what is left of 5 s, whatever hangs.

    Args:
        used_s: how long the program has been running.
    """
    left_s = WHOLE_S - SLOWER_THAN_A_PROGRAM_S - used_s
    program_s = max(PROGRAM_AT_LEAST_S, min(PROGRAM_S, left_s))
    checks = all_checks(asked, program_s)
    return run_checks(checks, limit_s=program_s + SLOWER_THAN_A_PROGRAM_S)


def all_checks(asked: Examination, program_s: float) -> dict[str, Check]:
    """Args:
    program_s: time limit of a program that is asked.
    """
    root, environment = asked.root, asked.environment
    table = functools.cache(lambda: _checked(asked))
    names = functools.cache(lambda: _names(asked))

    def wanted() -> tuple[int, ...] | None:
        return doctor_cards.wanted_cards(_table_in(table()), names())

    def known_table() -> RankTable | None:
        """The table, if it is known which of its servers this is."""
        return None if wanted() is None else _table_in(table())

    def devices() -> tuple[int, ...]:
        return wanted() or known_device_ids(root)

    def on_cards(name: str, check: Callable[[Sequence[int]], list[Finding]]) -> Check:
        return lambda: check(devices()) if devices() else skip(name, why_none())

    def why_none() -> str:
        if wanted() is None:
            return "this server is not in the table"
        table_there = "no --rank-table" if table() is None else "no table that can be used"
        return f"no card is known: no /dev/davinci*, nothing in /etc/hccn.conf, {table_there}"

    return {
        "driver": lambda: doctor_cards.check_driver(root),
        "CANN": lambda: doctor_cards.check_cann(root, environment),
        "cards": lambda: _what_npu_smi_shows(wanted() or (), _table_in(table()), root, program_s),
        "visible": lambda: doctor_cards.judge_visible(environment),
        "addresses": on_cards(
            "addresses", lambda cards: _addresses(cards, known_table(), names(), root, program_s)
        ),
        "links": on_cards("links", lambda cards: _links(cards, table(), root, program_s)),
        "TLS": on_cards("TLS", lambda cards: _tls(cards, root, program_s)),
        "table": lambda: judge_table(table(), wanted()),
        "time limits": lambda: doctor_host.judge_time_limits(environment),
        "ulimit": doctor_host.check_limits,
        "disk": lambda: doctor_host.check_disk(asked.run),
        "memory": lambda: doctor_host.check_memory(root),
        "shared memory": lambda: doctor_host.check_shared_memory(root),
        "ports": lambda: doctor_host.check_ports(
            root, environment, uses_cards=asked.rank_table is not None or bool(devices())
        ),
        "versions": doctor_host.check_versions,
        "CPU": lambda: doctor_host.judge_cpu(cpu_flags(), environment),
        "mpirun": lambda: doctor_host.check_mpirun(program_s),
    }


def _names(asked: Examination) -> tuple[str, ...]:
    """What this server may be called in the table."""
    if asked.server_id:
        return (asked.server_id,)
    return (*host_addresses(asked.root), socket.gethostname())


def _checked(asked: Examination) -> Checked | None:
    """The rank table and its problems, one of which is that it cannot be read."""
    if asked.rank_table is None:
        return None
    try:
        return check_file(asked.rank_table)
    except UserError as error:
        message = f"{error.where}: {'; '.join(error.faults)}"
        fix = "name a rank table of this server"
        unreadable = Problem(path="$", rule="R1", code="EI0004", message=message, fix=fix)
        return Checked(dialect=None, problems=(unreadable,))


def _table_in(checked: Checked | None) -> RankTable | None:
    return checked.table if checked else None


def judge_table(checked: Checked | None, wanted: Sequence[int] | None) -> list[Finding]:
    """Args:
    wanted: the table's cards of this server; None if it is not known which server this is.
    """
    if checked is None:
        return skip("table", "no --rank-table")
    refused = errors_of(checked.problems)
    problems = refused or checked.problems
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        judge = fail if refused else warn
        place = "" if problems[0].path == "$" else f"{problems[0].path}: "
        return judge("table", f"{place}{problems[0].message}{more}", problems[0].fix)
    assert checked.table is not None
    if wanted is None:
        names = ", ".join(server.server_id for server in checked.table.servers)
        return fail(
            "table",
            f"this server is none of {names}",
            "say which one it is by --server-id, or use another table",
        )
    size = f"ranks: {checked.table.world}, servers: {len(checked.table.servers)}"
    return ok(
        "table",
        f"{size}, fingerprint {checked.fingerprint} (the same on every server); "
        "not checked for a chip here: see chip",
    )


def _what_npu_smi_shows(
    wanted: Sequence[int], table: RankTable | None, root: Path, limit_s: float
) -> list[Finding]:
    seen = see_cards(root, timeout_s=limit_s)
    return [
        *doctor_cards.judge_cards(seen, wanted),
        *doctor_cards.judge_processes(seen, wanted),
        *(judge_chip(table, [card.model for card in seen.cards]) if table else []),
    ]


def judge_chip(table: RankTable, models: Sequence[str]) -> list[Finding]:
    """The table by the rules of the chip that is here, such as the rings of a 910A."""
    chip = chip_of_models(models)
    if chip is None:
        found = f"{', '.join(dict.fromkeys(models))} is not known" if models else "no card found"
        return skip(
            "chip",
            f"{found}, so it is not known which chip's rules apply",
            "unet-dist rank-table check FILE --chip CHIP",
        )
    problems = problems_of_table(table, chip)
    if not problems:
        return ok("chip", f"the table keeps the rules of {chip}")
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    judge = warn if all(problem.severity == "WARN" for problem in problems) else fail
    return judge("chip", f"{first.message}{more}", first.fix)


def _addresses(
    devices: Sequence[int],
    table: RankTable | None,
    names: Sequence[str],
    root: Path,
    limit_s: float,
) -> list[Finding]:
    addresses = see_addresses(devices, root, timeout_s=limit_s / 2)  # IPv6 after IPv4
    return doctor_cards.judge_card_addresses(addresses, table, names)


def _links(
    devices: Sequence[int], checked: Checked | None, root: Path, limit_s: float
) -> list[Finding]:
    questions = [
        ("hccn_tool", "-i", str(device), subject, "-g")
        for subject in ("-link", "-net_health")
        for device in devices
    ]
    answers = ask_at_once(questions, root=root, timeout_s=limit_s)
    states = {
        device: (parse_link(link.text), parse_health(health.text), link.fault)
        for device, link, health in zip(
            devices, answers[: len(devices)], answers[len(devices) :], strict=True
        )
    }
    table = _table_in(checked)
    return doctor_cards.judge_links(states, several=table is not None and len(table.servers) > 1)


def _tls(devices: Sequence[int], root: Path, limit_s: float) -> list[Finding]:
    questions = [("hccn_tool", "-i", str(device), "-tls", "-g") for device in devices]
    answers = ask_at_once(questions, root=root, timeout_s=limit_s)
    return doctor_cards.judge_tls(
        {d: (parse_tls(a.text), a.fault) for d, a in zip(devices, answers, strict=True)}
    )

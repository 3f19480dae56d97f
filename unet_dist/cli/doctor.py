"""``unet-dist doctor``: is this server ready for a job?"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from unet_dist.cli.shared import Json, answer, console_for
from unet_dist.cluster.server.doctor import Examination, examine
from unet_dist.cluster.server.doctor_host import seconds_since_start
from unet_dist.cluster.server.finding import VERDICTS, Finding
from unet_dist.errors import EXIT_DONE, EXIT_JOB_FAILED

FACT_WIDTH = 90
CARD_CHECKS = ("cards", "processes", "addresses", "links", "TLS")
"""Those that look at cards themselves, and not at files beside them."""


def doctor(
    rank_table: Annotated[
        Path | None, typer.Option(help="HCCL rank table to compare the server with.")
    ] = None,
    server_id: Annotated[str, typer.Option(help="This server's server_id in the table.")] = "",
    run: Annotated[Path | None, typer.Option(help="Run folder whose disk is looked at.")] = None,
    as_json: Json = False,
) -> None:
    """Check this server before a job, in at most 5 seconds; nothing is changed.

    Exits with 1 if a check is FAIL. SKIP is what could not be seen here, and never counts as OK;
    where no card could be looked at, "healthy" of --json is null.

    \b
    Examples:
      unet-dist doctor
      unet-dist doctor --rank-table cluster.json --run runs/chase --json
    """
    console = console_for(as_json)
    asked = Examination(rank_table=rank_table, server_id=server_id, run=run)
    findings = examine(asked, used_s=seconds_since_start())
    counts = Counter(finding.verdict for finding in findings)
    report = {
        "healthy": is_healthy(findings),
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "findings": [finding.to_json() for finding in findings],
    }
    answer(console, as_json, describe(findings), report)
    raise typer.Exit(EXIT_JOB_FAILED if counts["FAIL"] else EXIT_DONE)


def is_healthy(findings: Sequence[Finding]) -> bool | None:
    """None if nothing failed, but nothing about cards could be checked either."""
    if any(finding.verdict == "FAIL" for finding in findings):
        return False
    on_cards = [finding.verdict for finding in findings if finding.check in CARD_CHECKS]
    return None if all(verdict == "SKIP" for verdict in on_cards) else True


def describe(findings: Sequence[Finding]) -> str:
    """Verdict, check and fact in columns; below a fact, what to do about it."""
    width = max(len(finding.check) for finding in findings)
    indent = " " * (width + 8)
    lines = []
    for finding in findings:
        head = f"{finding.verdict:<4}  {finding.check:<{width}}  "
        texts = [finding.fact, f"-> {finding.fix}"] if finding.fix else [finding.fact]
        body = [line for text in texts for line in textwrap.wrap(text, FACT_WIDTH) or [""]]
        lines += [head + body[0], *(indent + line for line in body[1:])]
    counts = Counter(finding.verdict for finding in findings)
    total = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    unknown = is_healthy(findings) is None
    lines.append(total + (": nothing about cards could be checked here" if unknown else ""))
    return "\n".join(lines)

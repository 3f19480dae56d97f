"""The rules of each chip: which cards work together, and what they need."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from unet_dist.cluster.tables.draft import Draft, ServerDraft, instance_path
from unet_dist.cluster.tables.fields import MISSING, is_meant, misspelling_of
from unet_dist.cluster.tables.model import CHIPS_OF, Chip
from unet_dist.cluster.tables.problems import SEVERITIES, Problem, Severity, shown
from unet_dist.cluster.tables.rules import ip_version
from unet_dist.errors import counted

RINGS = ((0, 1, 2, 3), (4, 5, 6, 7))
"""Cards of a 910A server that are joined directly."""
# hcomm: topoinfo_parse.cc HCCL_AISERVER_VAILD_4P_RANKS; the documents allow the rings only.
FOUR_CARDS_910A = (
    *RINGS,
    (0, 1, 4, 5),
    (0, 2, 4, 6),
    (0, 3, 4, 7),
    (1, 2, 5, 6),
    (1, 3, 5, 7),
    (2, 3, 6, 7),
)
COUNTS_910A = (1, 2, 4, 8)
# 910B: 16 are in an A2 box of two modules; other servers have 8. 910C: 8 cards of two dies.
LAST_DEVICE: Mapping[Chip, int] = {"910A": 7, "910B": 15, "910C": 15, "950": 64}
MOST_SERVERS: Mapping[Chip, int] = {"910A": 512, "910B": 1152}
CHIP_RULES: Mapping[Chip, str] = {
    "910A": "number and choice of cards (R15), device_ip of every card (R11), subnets (R22), "
    "card numbers up to 7 (R10)",
    "910B": "equal servers of at most 8 cards (R15), device_ip with several servers (R11)",
    "910C": "equal servers (R15), device_ip with several servers (R11)",
    "950": "card numbers up to 64 (R10)",
}


def chip_problems(draft: Draft, chip: Chip | None) -> list[Problem]:
    """The violations for this chip; without one, those that every chip of the dialect has."""
    if chip is not None:
        return list(_problems_of(draft, chip))
    found = {
        each: {(problem.path, problem.rule): problem for problem in _problems_of(draft, each)}
        for each in CHIPS_OF[draft.dialect]
    }
    shared = set.intersection(*(set(problems) for problems in found.values()))
    first = next(iter(found.values()))
    return [
        _mildest({each: problems[place] for each, problems in found.items()})
        for place in first
        if place in shared
    ]


def unchecked_chip_rules(draft: Draft, chip: Chip | None) -> list[str]:
    """What would be checked in addition if the chip were named."""
    possible = CHIPS_OF[draft.dialect]
    if chip is not None or len(possible) == 1:
        return []
    return [f"{each}: {CHIP_RULES[each]}" for each in possible]


def _mildest(by_chip: Mapping[Chip, Problem]) -> Problem:
    """What holds whichever chip it is; a chip that is stricter is named."""
    mildest = max(by_chip.values(), key=lambda problem: SEVERITIES.index(problem.severity))
    stricter = [chip for chip, p in by_chip.items() if p.severity != mildest.severity]
    if not stricter:
        return mildest
    hint = f"; with {', '.join(stricter)} it is worse, see --chip"
    return replace(mildest, message=mildest.message + hint)


def _problems_of(draft: Draft, chip: Chip) -> Iterator[Problem]:
    yield from _dialect(draft, chip)
    yield from _card_numbers(draft, chip)
    yield from _needed_addresses(draft, chip)
    yield from _sizes(draft, chip)
    if chip == "910A":
        for server in draft.servers:
            yield from _cards_910a(server)
            yield from _subnets_910a(server)


def _dialect(draft: Draft, chip: Chip) -> Iterator[Problem]:
    chips = CHIPS_OF[draft.dialect]
    if chip in chips:
        return
    # 950 has a parser of its own, which takes 2.0 only, and the older one does not know 2.0.
    refused = chip == "950" or draft.dialect == "2.0"
    fitting = [dialect for dialect in CHIPS_OF if chip in CHIPS_OF[dialect]]
    yield Problem(
        path="version" if "version" in draft.tree else "$",
        rule="R7",
        severity="ERROR" if refused else "UNSUPPORTED",
        message=f"dialect {draft.dialect} is for {', '.join(chips)}, not for {chip}",
        fix=f"unet-dist rank-table convert --to {fitting[0]}"
        if not refused
        else f"write a table of dialect {fitting[0]}",
    )


def _card_numbers(draft: Draft, chip: Chip) -> Iterator[Problem]:
    last = LAST_DEVICE[chip]
    if draft.dialect == "template2":
        last = 7  # topoinfo_ranktableStandard.cc GetCloudDevList
    for _, card in draft.cards():
        if card.device_id is not None and card.device_id > last:
            yield Problem(
                path=f"{card.path}.device_id",
                rule="R10",
                message=f"device_id is {card.device_id}, but a server with {chip} has cards 0 to "
                f"{last}",
                fix="ls /dev/davinci* shows the numbers of the cards",
            )


def _needed_addresses(draft: Draft, chip: Chip) -> Iterator[Problem]:
    needed = ADDRESS_NEEDED[chip](draft)
    if not needed:
        return
    for server, card in draft.cards():
        if card.ips or ("device_ip" in card.raw and not isinstance(card.raw["device_ip"], str)):
            continue
        absent = "device_ip" not in card.raw
        typed = misspelling_of("device_ip", card.raw) if absent else None
        refused = _is_refused_without(draft, chip, absent, host=bool(server.raw.get("host_ip")))
        yield Problem(
            path=f"{card.path}.device_ip",
            rule="R11",
            severity="ERROR" if refused else "UNSUPPORTED",
            code=MISSING if draft.dialect in ("template2", "lab") else "EI0014",
            message=f"device_ip is {'missing' if absent else 'empty'}, but {chip} {needed}"
            + is_meant("device_ip", typed),
            fix=f'rename {shown(typed)} to "device_ip"'
            if typed
            else "hccn_tool -i ID -ip -g tells the address of a card",
        )


def _is_refused_without(draft: Draft, chip: Chip, absent: bool, *, host: bool) -> bool:
    """Whether HCCL itself refuses a card without device_ip, and not its documents only.

    Args:
        absent: the key is not there, rather than empty.
        host: the server has a host_ip.
    """
    if draft.dialect in ("template2", "lab"):
        instances = {instance_path(card) for _, card in draft.cards()}
        return absent and (draft.dialect == "lab" or len(instances) > 1)
    several = len(draft.servers) > 1
    return several and (chip == "910B" or (chip == "910A" and absent and not host))


def _several_servers(draft: Draft) -> str:
    return "needs it with several servers" if len(draft.servers) > 1 else ""


def _several_super_pods(draft: Draft) -> str:
    pods = draft.tree.get("super_pod_list")
    if draft.dialect == "1.2" and isinstance(pods, list):
        return "needs it with several super pods" if len(pods) > 1 else ""
    return _several_servers(draft)


ADDRESS_NEEDED: Mapping[Chip, Callable[[Draft], str]] = {
    "910A": lambda draft: "needs it always",
    "910B": _several_servers,
    "910C": _several_super_pods,
    "950": lambda draft: "",
}


def _sizes(draft: Draft, chip: Chip) -> Iterator[Problem]:
    """How many servers, and how many cards each of them has."""
    if chip == "950" or not draft.servers:
        return
    number = len(draft.servers)
    most = MOST_SERVERS.get(chip, number)
    if number > most:
        wrong = f"{number} servers, but the documents of {chip} go up to {most}"
        yield _set_problem("$", wrong, "WARN", "start fewer servers")
    elif chip == "910A" and number & (number - 1):
        wrong = f"{number} servers; with 910A a power of two is fastest"
        yield _set_problem("$", wrong, "WARN", "take 1, 2, 4, 8, ... servers")
    first = len(draft.servers[0].cards)
    for server in draft.servers:
        cards = len(server.cards)
        if cards == 0:
            continue  # told as R10
        has = f"server {server.name} has {counted(cards, 'card')}"
        if chip == "910A" and cards not in COUNTS_910A:
            wrong = f"{has}, but 910A works with 1, 2, 4 or 8"
            yield _set_problem(server.path, wrong, "ERROR", "use 1, 2, 4 or 8 cards")
        elif chip == "910B" and number > 1 and cards > 8:
            wrong = f"{has}, but with several servers 910B has 1-8"
            yield _set_problem(server.path, wrong, "UNSUPPORTED", "use up to 8 cards of each")
        elif cards != first:
            wrong = f"{has}, but {draft.servers[0].name} has {first}"
            severity: Severity = "ERROR" if chip == "910A" else "WARN"
            yield _set_problem(server.path, wrong, severity, "use equally many cards of each")


def _cards_910a(server: ServerDraft) -> Iterator[Problem]:
    """The choice of 2 or 4 cards."""
    cards = tuple(server.device_ids)
    count = len(server.cards)
    if len(set(cards)) < count or count not in (2, 4):
        return
    in_ring = any(set(cards) <= set(ring) for ring in RINGS)
    chosen = f"server {server.name} has cards {', '.join(map(str, cards))}"
    fix = "take the cards of one ring, 0-3 or 4-7"
    if count == 4 and cards not in FOUR_CARDS_910A:
        wrong = f"{chosen}; of 910A no such four work together"
        yield _set_problem(server.path, wrong, "ERROR", fix)
    elif not in_ring:
        wrong = f"{chosen}, of two rings; the documents of 910A forbid it, though HCCL starts"
        yield _set_problem(server.path, wrong, "UNSUPPORTED", fix)


def _set_problem(path: str, message: str, severity: Severity, fix: str) -> Problem:
    return Problem(path=path, rule="R15", severity=severity, message=message, fix=fix)


def _subnets_910a(server: ServerDraft) -> Iterator[Problem]:
    """A hint: the file has no netmask, so /24 is taken, and IPv4 only."""
    if len(set(server.device_ids)) < len(server.cards):
        return
    nets = {
        card.device_id: ipaddress.ip_interface(f"{card.ips[0]}/24").network
        for card in server.cards
        if card.device_id is not None and len(card.ips) == 1 and ip_version(card.ips[0]) == 4
    }
    apart = [(card, card + 4) for card in RINGS[0] if _differ(nets, card, card + 4)]
    shared = [
        (a, b)
        for ring in RINGS
        for a in ring
        for b in ring
        if a < b and a in nets and nets[a] == nets.get(b)
    ]
    for pairs, what in ((apart, "do not share a subnet"), (shared, "share a subnet")):
        if pairs:
            a, b = pairs[0]
            yield Problem(
                path=server.path,
                rule="R22",
                severity="WARN",
                message=f"cards {a} and {b} of server {server.name} {what} ({shown(str(nets[a]))} "
                f"and {shown(str(nets[b]))}, taken as /24)",
                fix="give cards i and i+4 one subnet, and cards of one ring different ones",
            )
            return


def _differ(nets: Mapping[int, object], a: int, b: int) -> bool:
    return a in nets and b in nets and nets[a] != nets[b]

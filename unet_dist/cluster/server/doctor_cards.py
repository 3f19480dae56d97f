"""Checks of cards, driver and links. Judges are pure; what they judge is asked in ``doctor.py``."""

import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_dist.cluster.server.device_list import format_device_list
from unet_dist.cluster.server.discover import RUNTIME_VISIBLE, CardAddress, CardsSeen
from unet_dist.cluster.server.finding import Finding, fail, ok, skip, warn
from unet_dist.cluster.server.part import judge_addresses
from unet_dist.cluster.server.tools import ASCEND, read_file
from unet_dist.cluster.tables.here import problems_here, server_here
from unet_dist.cluster.tables.model import RankTable

VERSION_LINE = re.compile(r"^\s*(?:package_)?version\s*=\s*\[?([\w.+-]+)", re.IGNORECASE | re.M)
CANN_HOMES = ("ascend-toolkit/latest", "cann", "nnae/latest")
CANN_FILES = ("ascend_toolkit_install.info", "ascend_nnae_install.info")
CANN_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")


def parse_version(text: str | None) -> str:
    """``Version=24.1.rc2`` or ``version=8.1.RC1`` of the vendor's files; empty if there is none."""
    match = VERSION_LINE.search(text or "")
    return match[1] if match else ""


def check_driver(root: Path) -> list[Finding]:
    folder = root / ASCEND
    driver = parse_version(read_file(folder / "driver/version.info"))
    firmware = parse_version(read_file(folder / "firmware/version.info"))
    if not driver:
        return skip("driver", f"/{ASCEND}/driver/version.info is not here")
    return ok("driver", f"driver {driver}, firmware {firmware or 'not seen'}")


def check_cann(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    set_homes = [Path(environment[name]) for name in CANN_VARIABLES if environment.get(name)]
    homes = [*set_homes, *(root / ASCEND / home for home in CANN_HOMES)]
    folders = [home / f"{platform.machine()}-linux" for home in homes]
    places = [place / file for place in (*folders, *homes) for file in CANN_FILES]
    version = next(filter(None, (parse_version(read_file(place)) for place in places)), "")
    if version and set_homes:
        return ok("CANN", f"CANN {version}")
    if version:
        return warn(
            "CANN",
            f"CANN {version}, but its environment is not set",
            f"source /{ASCEND}/ascend-toolkit/set_env.sh, or the set_env.sh of its folder",
        )
    if parse_version(read_file(root / ASCEND / "driver/version.info")):
        return fail(
            "CANN",
            f"there is a driver, but no CANN below /{ASCEND} or in ASCEND_HOME_PATH",
            "install the CANN toolkit and kernels that fit the driver, and source set_env.sh",
        )
    return skip("CANN", f"no CANN below /{ASCEND}, and no driver that would need one")


def judge_cards(seen: CardsSeen, wanted: Sequence[int]) -> list[Finding]:
    """Args:
    wanted: the cards that the rank table wants of this server.
    """
    if seen.missing:
        return skip("cards", "npu-smi is not on this machine")
    if not seen.cards:
        return warn(
            "cards",
            "; ".join(seen.unseen),
            "run npu-smi info; one that hangs points to the driver: see dmesg",
        )
    present = {card.device_id: card for card in seen.cards}
    absent = [device for device in wanted if device not in present]
    if absent:
        return fail(
            "cards",
            f"the table wants card {format_device_list(absent)}, but there are "
            f"{format_device_list(present)}",
            "use the table of this server, or map these cards into the container",
        )
    sick = [card for card in seen.cards if card.health not in ("", "OK")]
    if sick:
        states = ", ".join(f"{card.device_id} {card.health}" for card in sick)
        judge = warn if {card.health for card in sick} == {"Warning"} else fail
        return judge("cards", f"health: {states}", "npu-smi info -t health -i ID tells the codes")
    models = ", ".join(
        f"{n} x {model}" for model, n in Counter(c.model for c in seen.cards).items()
    )
    ids = ", ".join(
        f"{card.device_id}={card.logical_id}"
        for card in seen.cards
        if card.logical_id not in (None, card.device_id)
    )
    fact = f"{models}, cards {format_device_list(present)}"
    return ok("cards", fact + (f"; physical=logical: {ids}" if ids else ""))


def judge_processes(seen: CardsSeen, wanted: Sequence[int]) -> list[Finding]:
    """Never ends a process: it may be another user's, or be seen under another container's pid."""
    if seen.missing:
        return skip("processes", "npu-smi is not on this machine")
    if seen.overview is None or not seen.overview.shows_processes:
        return skip("processes", "; ".join(seen.unseen) or "npu-smi info shows no process table")
    users: dict[int, list[str]] = {}
    for occupant in seen.overview.occupants:
        card = seen.by_place(occupant.npu_id, occupant.chip_id)
        device = card.device_id if card else occupant.npu_id
        users.setdefault(device, []).append(f"{occupant.name or 'without a name'} {occupant.pid}")
    if not users:
        return ok("processes", "no process uses a card")
    fact = "; ".join(f"card {device}: {', '.join(users[device])}" for device in sorted(users))
    judge = fail if set(users) & set(wanted) else warn
    return judge("processes", fact, "wait for them, or ask their owner: ps -o user,args -p PID")


def judge_card_addresses(
    addresses: Mapping[int, CardAddress], table: RankTable | None, names: Sequence[str]
) -> list[Finding]:
    """Args:
    names: addresses and host name of this server.
    """
    ips = {device: address.ip for device, address in addresses.items()}
    if not any(ips.values()):
        return skip("addresses", next(iter(addresses.values())).fault)
    faults, notes = judge_addresses(addresses)
    shared = [ip for ip, count in Counter(filter(None, ips.values())).items() if count > 1]
    faults += [f"several cards have {ip}" for ip in shared]
    if table is not None:
        faults += [problem.message for problem in problems_here(table, ips, names)]
    if faults:
        fix = "correct the table: unet-dist rank-table make, or the card: hccn_tool -i ID -ip -s"
        return fail("addresses", "; ".join(faults), fix)
    listed = ", ".join(f"{device} {ip or 'none'}" for device, ip in ips.items())
    if notes:
        return warn("addresses", "; ".join(notes), "run hccn_tool -i ID -ip -g as root")
    return ok("addresses", listed + (", as in the table" if table else ""))


def judge_links(states: Mapping[int, tuple[str, str, str]], several: bool) -> list[Finding]:
    """Args:
    states: of each card ``(link, net health, why they are not known)``.
    several: the job spans servers; within one, cards of 910B talk without these links.
    """
    known = {device: state for device, state in states.items() if state[0] or state[1]}
    if not known:
        return skip("links", next(iter(states.values()))[2] or "hccn_tool does not tell the state")
    bad = [
        f"card {device} link {link or 'unknown'}, net health {health or 'unknown'}"
        for device, (link, health, _) in states.items()
        if link != "UP" or not (health or "Success").startswith("Success")
    ]
    if bad:
        fix = "look at cable, optical module and switch port: hccn_tool -i ID -optical -g"
        return (fail if several else warn)("links", "; ".join(bad), fix)
    healthy = all(health for _, health, _ in states.values())
    unseen = "" if healthy else "; net health not seen"
    return ok("links", f"up on cards {format_device_list(states)}{unseen}")


def judge_tls(switches: Mapping[int, tuple[bool | None, str]]) -> list[Finding]:
    """Args:
    switches: of each card ``(on, why it is not known)``.
    """
    on = [device for device, (state, _) in switches.items() if state]
    off = [device for device, (state, _) in switches.items() if state is False]
    if not on and not off:
        return skip("TLS", next(iter(switches.values()))[1] or "hccn_tool does not tell the switch")
    if on and off:
        return fail(
            "TLS",
            f"on for cards {format_device_list(on)}, off for {format_device_list(off)}",
            "HCCL stops with EI0016; set all alike: hccn_tool -i ID -tls -s enable 1",
        )
    unseen = len(switches) - len(on) - len(off)
    state = f"{'on' if on else 'off'} for cards {format_device_list(on or off)}"
    if unseen:
        return warn("TLS", f"{state}; {unseen} not seen", "run hccn_tool -i ID -tls -g as root")
    return ok("TLS", f"{state}; it must be so on every server")


def judge_visible(environment: Mapping[str, str]) -> list[Finding]:
    text = environment.get(RUNTIME_VISIBLE, "")
    if not text:
        return ok("visible", f"{RUNTIME_VISIBLE} is not set")
    return warn(
        "visible",
        f"{RUNTIME_VISIBLE}={text} numbers cards anew, but rank tables have physical numbers",
        f"unset {RUNTIME_VISIBLE}; choose cards by rank-table make --devices",
    )


def wanted_cards(table: RankTable | None, names: Sequence[str]) -> tuple[int, ...] | None:
    """The cards that the table wants of this server; None if it is none of the table's."""
    if table is None:
        return ()
    server = server_here(table, {}, names)
    return None if server is None else tuple(device.device_id for device in server.devices)

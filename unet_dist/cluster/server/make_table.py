"""A rank table from the parts of its servers. Pure."""

import ipaddress
import re
from collections.abc import Iterator, Sequence

from unet_dist.cluster.server.part import ServerPart
from unet_dist.cluster.tables.check import check_tree
from unet_dist.cluster.tables.model import Chip, Device, RankTable, Server
from unet_dist.cluster.tables.problems import Problem
from unet_dist.cluster.tables.write import tree_of
from unet_dist.errors import UserError

HEADING = "rank-table make"

CHIP_OF_MODEL: tuple[tuple[str, Chip], ...] = (
    # "910B" without a digit is a grade of the first generation, not the later 910B1 to 910B4
    # (names of SoC versions in MindSpore's ascend_res_manager).
    (r"910(A|B|ProA|ProB|PremiumA)", "910A"),
    (r"910B[1-9]\w*", "910B"),
    (r"910_93\d\d", "910C"),
    (r"950\w*", "950"),
)


def chip_of_models(models: Sequence[str]) -> Chip | None:
    """The chip by what npu-smi calls it; None if it is not sure, as for a plain ``Ascend910``."""
    chips = {
        chip
        for model in models
        for pattern, chip in CHIP_OF_MODEL
        if re.fullmatch(pattern, model.strip().removeprefix("Ascend").strip())
    }
    return chips.pop() if len(chips) == 1 else None


def table_of_parts(parts: Sequence[ServerPart]) -> RankTable:
    """Servers in the order of the parts, ranks counted through them by card.

    Raises:
        UserError: every fault of every server, and of the servers together.
    """
    several = len(parts) > 1
    faults = [
        f"{part.host}: {fault}" if several else fault for part in parts for fault in part.faults
    ]
    if several:
        faults += _faults_between(parts)
    if faults:
        raise UserError(HEADING, faults)
    servers = []
    rank = 0
    for part in parts:
        devices = []
        for device_id, ip in part.devices:
            devices.append(Device(device_id=device_id, rank=rank, ip=ip))
            rank += 1
        servers.append(Server(server_id=part.server_id, devices=tuple(devices)))
    return RankTable(dialect="1.0", servers=tuple(servers))


def problems_of_table(table: RankTable, chip: Chip | None) -> tuple[Problem, ...]:
    """By the rules of HCCL; without a chip, those that hold for every one."""
    return check_tree(tree_of(table), chip).problems


def _faults_between(parts: Sequence[ServerPart]) -> Iterator[str]:
    """Told here in terms of hosts, before a rule tells them in terms of JSON paths."""
    yield from _shared(parts)
    sound = [part for part in parts if part.devices]
    counts = {part.host: len(part.devices) for part in sound}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{host} {count}" for host, count in counts.items())
        yield f"all servers must give equally many cards, but they give: {listed}; use slots="
    families = {
        part.host: ipaddress.ip_address(ip).version
        for part in sound
        for _, ip in part.devices
        if ip
    }
    if len(set(families.values())) > 1:
        listed = ", ".join(f"{host} IPv{family}" for host, family in families.items())
        yield f"all cards must have addresses of one family, but they have: {listed}"
    for part in sound:
        bare = [str(device) for device, ip in part.devices if not ip]
        if bare:
            yield (
                f"{part.host}: card {', '.join(bare)} has no address, which several servers need; "
                "set it by hccn_tool -i ID -ip -s address ... netmask ..."
            )
        if part.server_id.startswith("127.") or part.server_id == "::1":
            yield (
                f"{part.host}: its server_id would be {part.server_id}, which every server has; "
                "name its address by server_id=ADDRESS in the hosts file"
            )
    chips = {part.host: chip_of_models(part.models) for part in sound}
    if len({chip for chip in chips.values() if chip}) > 1:
        listed = ", ".join(f"{host} {chip}" for host, chip in chips.items() if chip)
        yield f"all servers must have the same chip, but they have: {listed}"
    versions = {part.host: part.version for part in parts}
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{host} {version}" for host, version in versions.items())
        yield f"unet-dist has different versions: {listed}; install the same everywhere"


def _shared(parts: Sequence[ServerPart]) -> Iterator[str]:
    """What only one server or card may have."""
    owner: dict[tuple[str, str], str] = {}
    for part in parts:
        things = [("host name", part.hostname, part.host)]
        if part.server_id:
            things.append(("server_id", part.server_id, part.host))
        things += [("address", ip, f"{part.host} card {card}") for card, ip in part.devices if ip]
        for kind, value, place in things:
            first = owner.setdefault((kind, value), place)
            if first != place:
                yield f"{place}: {kind} {value} is that of {first} too"

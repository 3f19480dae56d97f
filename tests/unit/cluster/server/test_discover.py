import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cluster.server.conftest import (
    HCCN_TOOL,
    INFO,
    INFO_TWO_CHIPS,
    MAP,
    MAP_TWO_CHIPS,
    StandIn,
    npu_smi,
    put,
)
from unet_dist.cluster.server import tools
from unet_dist.cluster.server.discover import (
    Card,
    CardAddress,
    cores_near_cards,
    cores_of_bus,
    join_cards,
    known_device_ids,
    parse_core_list,
    parse_local_ipv4,
    parse_local_ipv6,
    see_addresses,
    see_cards,
    share_node_cores,
    visible_devices,
)
from unet_dist.cluster.server.hccn import (
    parse_conf,
    parse_health,
    parse_ip,
    parse_link,
    parse_tls,
    valid_address,
)
from unet_dist.cluster.server.npu_smi import parse_info, parse_map
from unet_dist.errors import UserError

CONF = """\
address_0=192.168.10.10
netmask_0=255.255.255.0
IPv6address_0=fd00::10
address_1 = 192.168.11.10
address_2=300.1.1.1
gateway_3=192.168.1.1
"""
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 127.0.0.1
        /32 host LOCAL
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
Local:
        |-- 10.0.0.7
           /32 host LOCAL
"""
PARSERS = [
    parse_map, parse_info, parse_conf, parse_ip, parse_link, parse_health, parse_tls,
    valid_address, parse_local_ipv4, parse_local_ipv6, parse_core_list,
]  # fmt: skip
PIECES = [
    "NPU ID", "Chip ID", "Chip Logic ID", "Chip Phy-ID", "|", "\n", " ", "-", "0", "7", "Mcu",
    "Bus-Id", "Process id", "0000:9D:00.0", "910B2", "OK", "Version:", "ipaddr:", "address_0=",
    "/32 host LOCAL", "tls switch[", "]", "link status:", "\u0664", "\x00", "99999999999",
]  # fmt: skip


def test_chips_of_the_map_without_the_controllers_of_the_boards() -> None:
    ids = parse_map(MAP)
    assert [(each.npu_id, each.logical_id, each.physical_id) for each in ids] == [
        (4, 0, None),
        (5, 1, None),
        (6, 2, None),
        (7, 3, None),
    ]
    assert ids[0].model == "Ascend 910A"
    assert [(e.chip_id, e.physical_id) for e in parse_map(MAP_TWO_CHIPS)] == [(0, 6), (1, 7)]


def test_states_and_processes_of_an_overview() -> None:
    overview = parse_info(INFO)
    assert overview.version == "23.0.rc1"
    assert [chip.bus_id for chip in overview.chips] == [
        "0000:61:00.0",
        "0000:c1:00.0",
        "0000:01:00.0",
        "0000:41:00.0",
    ]
    assert {(chip.model, chip.health) for chip in overview.chips} == {("910A", "OK")}
    [occupant] = overview.occupants
    assert (occupant.npu_id, occupant.pid, occupant.name) == (5, 55115, "python")


def test_a_board_of_two_chips() -> None:
    chips = parse_info(INFO_TWO_CHIPS).chips
    assert [(c.npu_id, c.chip_id, c.physical_id, c.health) for c in chips] == [
        (0, 0, 0, "OK"),
        (0, 1, 1, "Warning"),
    ]
    assert not parse_info(INFO_TWO_CHIPS).shows_processes


def test_a_process_without_a_name_is_seen() -> None:
    text = "| NPU Chip | Process id | Process name | Process memory(MB) |\n| 0 0 | 7 |  | 13 |\n"
    [occupant] = parse_info(text).occupants
    assert (occupant.pid, occupant.name) == (7, "")


@pytest.mark.parametrize("parser", PARSERS)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=60).map("".join)))
def test_no_text_makes_a_parser_fail(parser: object, text: str) -> None:
    assert callable(parser)
    parser(text)


@given(st.integers(0, len(INFO)), st.integers(0, len(INFO)))
def test_an_overview_cut_anywhere_invents_no_card(start: int, end: int) -> None:
    for chip in parse_info(INFO[:end]).chips:
        assert chip.npu_id in (4, 5, 6, 7)
        assert chip.bus_id in ("", *(whole.bus_id for whole in parse_info(INFO).chips))
    parse_info(INFO[start:])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((), [4, 5, 6, 7]),  # the boards' numbers, which a container keeps
        ((0, 1, 2, 3), [0, 1, 2, 3]),
        ((8, 9, 10, 11), [8, 9, 10, 11]),
        ((0, 1, 2, 3, 4, 5, 6, 7), [4, 5, 6, 7]),  # other cards than the visible ones
    ],
)
def test_physical_numbers_where_npu_smi_has_no_column_for_them(
    files: tuple[int, ...], expected: list[int]
) -> None:
    cards = join_cards(parse_map(MAP), parse_info(INFO).chips, files)
    assert [card.device_id for card in cards] == expected
    assert [card.logical_id for card in cards] == [0, 1, 2, 3]


def test_the_physical_number_of_npu_smi_goes_before_any_other() -> None:
    cards = join_cards(parse_map(MAP_TWO_CHIPS), parse_info(INFO_TWO_CHIPS).chips, (0, 1))
    assert [(c.device_id, c.logical_id, c.bus_id) for c in cards] == [
        (6, 0, "0000:9d:00.0"),
        (7, 1, "0000:9f:00.0"),
    ]


def test_cards_are_seen_through_the_program(stand_in: StandIn, root: Path) -> None:
    stand_in("npu-smi", npu_smi())
    seen = see_cards(root)
    assert [card.device_id for card in seen.cards] == [4, 5, 6, 7]
    assert seen.unseen == ()


def test_without_the_program_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = see_cards(root)
    assert seen.missing
    assert seen.unseen == ("npu-smi is not on this machine",)


def test_the_place_of_the_driver_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    put(root, {"usr/local/Ascend/driver/tools/hccn_tool": "#!/bin/sh\n"})
    tool = root / "usr/local/Ascend/driver/tools/hccn_tool"
    tool.chmod(0o755)
    assert tools.find_tool("hccn_tool", root) == str(tool)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("exec sleep 60", "gave no answer in 0.1 s"),
        ("sleep 60 & exec sleep 60", "gave no answer in 0.1 s"),
        ("exec 1>&- 2>&-; sleep 60", "gave no answer in 0.1 s"),
        ("trap '' TERM; while :; do sleep 1; done", "gave no answer in 0.1 s"),
        ("echo no driver; exit 3", "ended with 3 and said: no driver"),
        ("cat /dev/zero", "printed more than"),
    ],
)
def test_a_program_is_bounded_in_time_and_output(
    stand_in: StandIn, root: Path, monkeypatch: pytest.MonkeyPatch, script: str, fault: str
) -> None:
    monkeypatch.setattr(tools, "MOST_BYTES", 10_000)
    stand_in("npu-smi", script)
    start = time.monotonic()
    # A program that ends is not cut off on a slow machine.
    timeout_s = 0.1 if "no answer" in fault else 15.0
    answer = tools.ask("npu-smi", "info", root=root, timeout_s=timeout_s)
    assert time.monotonic() - start < 30
    assert fault in answer.fault
    assert not answer.missing


def test_what_a_program_started_in_a_session_of_its_own_ends_with_it(
    stand_in: StandIn, root: Path, tmp_path: Path
) -> None:
    stand_in("npu-smi", f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 60' & sleep 60\n")
    tools.ask("npu-smi", "info", root=root, timeout_s=1.0)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_is_no_program_is_told(stand_in: StandIn, root: Path) -> None:
    path = stand_in("npu-smi", "")
    path.write_bytes(b"\x7fELF broken")
    assert "cannot be started" in tools.ask("npu-smi", "info", root=root).fault


def test_addresses_come_from_the_tool_and_from_the_file(stand_in: StandIn, root: Path) -> None:
    stand_in("hccn_tool", 'if [ "$2" = 0 ]; then echo ipaddr:192.168.10.99; else exit 1; fi\n')
    put(root, {"etc/hccn.conf": CONF})
    found = see_addresses([0, 1, 2], root)
    assert found[0] == CardAddress(
        from_tool=("192.168.10.99",), from_conf=("192.168.10.10", "fd00::10")
    )
    assert found[0].ip == "192.168.10.99"
    assert (found[1].from_tool, found[1].ip) == ((), "192.168.11.10")
    assert "ended with 1" in found[1].fault
    assert found[2].ip == ""


def test_a_card_with_ipv6_only(stand_in: StandIn, root: Path) -> None:
    stand_in("hccn_tool", 'case "$*" in *inet6*) echo "IPv6 addr:fd00::7/64";; *) echo none;; esac')
    assert see_addresses([0], root)[0].from_tool == ("fd00::7",)


def test_all_cards_are_asked_side_by_side(stand_in: StandIn, root: Path) -> None:
    came = root / "came"
    came.mkdir()
    # Each waits until all eight have come: one after the other, the first has no answer.
    all_came = f"touch {came}/$$; until [ $(ls {came} | wc -l) -ge 8 ]; do sleep 0.02; done"
    stand_in("hccn_tool", f"{all_came}\n{HCCN_TOOL}")
    found = see_addresses(range(8), root, timeout_s=15.0)
    assert [found[card].ip for card in (0, 7)] == ["192.168.10.10", "192.168.10.17"]


def test_values_of_the_other_questions_to_hccn_tool() -> None:
    assert parse_link("link status: UP\n") == "UP"
    assert parse_health("net health status: Fault(link down)\n") == "Fault(link down)"
    assert parse_tls("dev_id:0, tls switch[1](0:disable, 1:enable), tls ...\n") is True
    assert parse_tls("dev_id:0, tls switch[0](0:disable, 1:enable)") is False
    assert parse_tls("device is busy") is None
    assert parse_ip("ipaddr:192.168.1.100\nnetmask:255.255.255.0\n") == ("192.168.1.100",)


def test_cards_are_known_from_files_where_the_driver_hangs(root: Path) -> None:
    assert known_device_ids(root) == ()
    put(root, {"etc/hccn.conf": CONF})
    assert known_device_ids(root) == (0, 1)
    put(root, {"dev/davinci4": "", "dev/davinci11": "", "dev/davinci_manager": ""})
    assert known_device_ids(root) == (4, 11)


def test_visible_cards_are_logical_and_come_back_physical() -> None:
    cards = join_cards(parse_map(MAP), (), ())
    assert visible_devices(cards, {}) is None
    assert visible_devices(cards, {"ASCEND_RT_VISIBLE_DEVICES": "0,2"}) == (4, 6)
    with pytest.raises(UserError, match="no card with the logical number 5"):
        visible_devices(cards, {"ASCEND_RT_VISIBLE_DEVICES": "5"})


def test_addresses_of_the_host_without_loopback_and_link_local() -> None:
    assert parse_local_ipv4(FIB_TRIE) == ("10.0.0.7",)
    table = (
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
        "fd000000000000000000000000000002 04 40 00 82     eth0\n"
        "00000000000000000000000000000001 01 80 10 80       lo\n"
    )
    assert parse_local_ipv6(table) == ("fd00::2",)


def test_cores_near_a_card_by_bus_or_by_node(root: Path) -> None:
    put(
        root,
        {
            "sys/bus/pci/devices/0000:c1:00.0/local_cpulist": "0-3,8\n",
            "sys/bus/pci/devices/0000:01:00.0/numa_node": "1\n",
            "sys/devices/system/node/node1/cpulist": "4-7\n",
            "sys/bus/pci/devices/0000:41:00.0/numa_node": "-1\n",
        },
    )
    assert cores_of_bus("0000:c1:00.0", root) == {0, 1, 2, 3, 8}
    assert cores_of_bus("0000:01:00.0", root) == {4, 5, 6, 7}
    assert cores_of_bus("0000:41:00.0", root) == frozenset()
    assert cores_of_bus("", root) == frozenset()


def test_cards_of_one_node_share_its_cores(stand_in: StandIn, root: Path) -> None:
    stand_in("npu-smi", npu_smi())
    node = {"61": "0-3", "C1": "0-3", "01": "4-7", "41": "4-7"}
    put(
        root,
        {
            f"sys/bus/pci/devices/0000:{bus.lower()}:00.0/local_cpulist": cores
            for bus, cores in node.items()
        },
    )
    shares = cores_near_cards([4, 5, 6], root=root, usable=range(7))
    assert shares == {4: (0, 1), 5: (2, 3), 6: (4, 5, 6)}
    assert cores_near_cards([4, 0], root=root, usable=range(7)) == {}
    assert cores_near_cards([4, 5], root=root, usable=[0, 4, 5]) == {}


@given(
    st.dictionaries(st.integers(0, 15), st.integers(0, 3), min_size=1),
    st.sets(st.integers(0, 63), min_size=1),
)
def test_shares_are_near_disjoint_even_and_usable(nodes: dict[int, int], usable: set[int]) -> None:
    cores = {node: frozenset(range(node * 16, node * 16 + 16)) for node in range(4)}
    shares = share_node_cores({card: cores[node] for card, node in nodes.items()}, sorted(usable))
    if not shares:
        assert any(len(cores[n] & usable) < list(nodes.values()).count(n) for n in nodes.values())
        return
    given_out = [core for share in shares.values() for core in share]
    assert len(given_out) == len(set(given_out))
    for node in set(nodes.values()):
        mine = [shares[card] for card in nodes if nodes[card] == node]
        assert max(map(len, mine)) - min(map(len, mine)) <= 1
        assert {core for share in mine for core in share} == cores[node] & usable


def test_a_card_is_found_by_its_place_on_the_boards() -> None:
    seen = join_cards(parse_map(MAP_TWO_CHIPS), (), ())
    assert isinstance(seen[0], Card)
    assert [(card.npu_id, card.chip_id) for card in seen] == [(0, 0), (0, 1)]

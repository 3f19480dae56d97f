import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.cluster.server.conftest import HCCN_TOOL, Program, StandIn, npu_smi
from unet_dist.cli import app
from unet_dist.cluster.server.discover import CardAddress, CardsSeen, join_cards
from unet_dist.cluster.server.make_table import chip_of_models, table_of_parts
from unet_dist.cluster.server.npu_smi import ChipIds
from unet_dist.cluster.server.part import (
    HostLine,
    ServerPart,
    choose_devices,
    choose_server_id,
    judge_addresses,
    parse_hosts,
)
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.errors import UserError

# Each host is this machine under another name, with cards of another subnet.
SSH = """\
host=$1; shift
case $host in down*) echo "ssh: connect to host $host: No route to host" >&2; exit 255 ;; esac
export NET=192.168.${host#node}
case $host in same*) name=same ;; *) name=$host ;; esac
exec unshare --user --map-root-user --uts sh -c 'hostname "$0"; eval "$1"' "$name" "$*"
"""


def may_rename_hosts() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--uts", "hostname", "another"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


several_hosts = pytest.mark.skipif(
    not may_rename_hosts(), reason="this machine gives no other host name to a process"
)


@pytest.fixture
def server(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with cards 4 to 7."""
    stand_in("npu-smi", npu_smi())
    stand_in("hccn_tool", HCCN_TOOL)
    monkeypatch.setenv("PRTE_MCA_plm_ssh_agent", str(stand_in("fake_ssh", SSH)))


def part(host: str, server_id: str, net: str, cards: int = 2, **changes: Any) -> ServerPart:
    devices = tuple((card, f"{net}.{card}") for card in range(cards))
    return ServerPart(
        **{"host": host, "hostname": host, "server_id": server_id, "devices": devices, **changes}
    )


def test_ranks_follow_the_order_of_the_hosts_and_are_never_interleaved() -> None:
    parts = (part("b", "10.0.0.9", "192.168.1"), part("a", "10.0.0.1", "192.168.2"))
    table = table_of_parts(parts)
    assert [(server.server_id, device.device_id) for server, device in table.by_rank()] == [
        ("10.0.0.9", 0),
        ("10.0.0.9", 1),
        ("10.0.0.1", 0),
        ("10.0.0.1", 1),
    ]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (part("b", "10.0.0.1", "192.168.2"), "b: server_id 10.0.0.1 is that of a too"),
        (part("b", "10.0.0.2", "192.168.1"), "b card 0: address 192.168.1.0 is that of a card 0"),
        (part("b", "10.0.0.2", "192.168.2", hostname="a"), "b: host name a is that of a too"),
        (part("b", "10.0.0.2", "192.168.2", cards=3), "they give: a 2, b 3"),
        (part("b", "127.0.1.1", "192.168.2"), "server_id would be 127.0.1.1"),
        (part("b", "10.0.0.2", "", devices=((0, "fd00::1"), (1, "fd00::2"))), "a IPv4, b IPv6"),
        (part("b", "10.0.0.2", "", devices=((0, ""), (1, "192.168.2.1"))), "card 0 has no address"),
        (part("b", "10.0.0.2", "192.168.2", faults=("no cards",)), "b: no cards"),
        (part("b", "10.0.0.2", "192.168.2", models=("910B2",)), "they have: a 910A, b 910B"),
        (part("b", "10.0.0.2", "192.168.2", version="0"), "unet-dist has different versions"),
    ],
)
def test_what_does_not_fit_together_is_told_by_host(second: ServerPart, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table_of_parts((part("a", "10.0.0.1", "192.168.1", models=("910A",)), second))


def test_the_faults_of_all_servers_come_together() -> None:
    parts = [
        part(name, f"10.0.0.{i}", f"192.168.{i}", faults=(f"fault of {name}",))
        for i, name in enumerate("abc")
    ]
    with pytest.raises(UserError) as raised:
        table_of_parts(parts)
    assert raised.value.faults == ("a: fault of a", "b: fault of b", "c: fault of c")


def test_a_part_survives_the_way_between_hosts() -> None:
    sent = part("a", "10.0.0.1", "192.168.1", models=("910A",), notes=("note",), faults=("f",))
    assert ServerPart.from_json(json.loads(json.dumps(sent.to_json()))) == sent


def test_a_hosts_file() -> None:
    text = "# cluster\nnode1\n\nnode2 slots=4   # half\n10.0.0.3 devices=0-3 server_id=10.1.0.3\n"
    assert parse_hosts(text) == (
        HostLine(name="node1"),
        HostLine(name="node2", slots=4),
        HostLine(name="10.0.0.3", devices=(0, 1, 2, 3), server_id="10.1.0.3"),
    )


def test_every_fault_of_a_hosts_file_is_told_at_once() -> None:
    text = "a slots=0\nb gpus=4\nc slots=2 devices=0\nd devices=x\ne\ne\n-oProxyCommand=x;y\n"
    with pytest.raises(UserError) as raised:
        parse_hosts(text, where="hosts.txt")
    assert [fault.partition(":")[0] for fault in raised.value.faults] == [
        "line 1", "line 2", "line 3", "line 4", "line 6", "line 7",
    ]  # fmt: skip


def cards_seen(*device_ids: int) -> CardsSeen:
    ids = [
        ChipIds(npu_id=d, chip_id=0, logical_id=i, physical_id=d, model="910B2")
        for i, d in enumerate(device_ids)
    ]
    return CardsSeen(cards=join_cards(ids, (), ()))


def test_which_cards_a_server_gives() -> None:
    here = HostLine(name="")
    seen = cards_seen(4, 5, 6, 7)
    assert choose_devices(here, seen, (), None) == (4, 5, 6, 7)
    assert choose_devices(here, seen, (), (5,)) == (5,)
    assert choose_devices(HostLine(name="", slots=2), seen, (), None) == (4, 5)
    assert choose_devices(HostLine(name="", devices=(6,)), seen, (), (5,)) == (6,)
    assert choose_devices(here, CardsSeen(), (0, 1), None) == (0, 1)
    assert choose_devices(HostLine(name="", devices=(3,)), CardsSeen(), (), None) == (3,)


@pytest.mark.parametrize(
    ("line", "seen", "message"),
    [
        (HostLine(name="", devices=(0, 4)), cards_seen(4, 5), "card 0 is not on this server"),
        (HostLine(name="", slots=3), cards_seen(4, 5), "3 cards are asked for, but there are 2"),
        (HostLine(name=""), CardsSeen(unseen=("npu-smi is silent",)), "npu-smi is silent"),
    ],
)
def test_cards_that_are_not_there_are_refused(
    line: HostLine, seen: CardsSeen, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        choose_devices(line, seen, (), None)


def test_the_hosts_file_chooses_the_network_of_the_server_id() -> None:
    assert choose_server_id("10.7.0.1", ["192.0.2.2", "10.7.0.1"]) == "10.7.0.1"
    assert choose_server_id("10.7.0.1", ["192.0.2.2"]) != "10.7.0.1"


def test_a_file_that_contradicts_the_card_is_a_fault_and_a_silent_tool_a_note() -> None:
    faults, notes = judge_addresses(
        {
            0: CardAddress(from_tool=("10.1.1.1",), from_conf=("10.1.1.1", "fd00::1")),
            1: CardAddress(from_tool=("10.1.1.2",), from_conf=("10.1.1.9",)),
            2: CardAddress(from_conf=("10.1.1.3",), fault="hccn_tool is not on this machine"),
        }
    )
    assert len(faults) == len(notes) == 1
    assert "card 1 has address 10.1.1.2, but /etc/hccn.conf says 10.1.1.9" in faults[0]
    assert "card 2: hccn_tool is not on this machine; 10.1.1.3 is from" in notes[0]


def test_cards_that_the_tool_is_silent_on_alike_share_a_note() -> None:
    absent = "hccn_tool is not on this machine"
    _, notes = judge_addresses({card: CardAddress(fault=absent) for card in range(8)})
    assert notes == [f"cards 0-7: {absent}; their addresses are left empty"]
    _, notes = judge_addresses(
        {card: CardAddress(from_conf=(f"10.1.1.{card}",), fault=absent) for card in (0, 1)}
    )
    assert notes == [f"cards 0-1: {absent}; 10.1.1.0, 10.1.1.1 are from /etc/hccn.conf"]


@pytest.mark.parametrize(
    ("models", "chip"),
    [
        (["910A"], "910A"),
        (["Ascend 910B"], "910A"),
        (["910ProB", "910A"], "910A"),
        (["910B2"], "910B"),
        (["Ascend910_9391"], "910C"),
        (["Ascend950PR"], "950"),
        (["Ascend910"], None),
        (["910A", "910B2"], None),
        ([], None),
    ],
)
def test_the_chip_behind_a_name(models: list[str], chip: str | None) -> None:
    assert chip_of_models(models) == chip


@pytest.mark.usefixtures("server")
def test_a_table_of_this_server(run_program: Program, tmp_path: Path) -> None:
    done = run_program(
        "rank-table", "make", "--server-id", "10.0.0.1", "-o", "new/t.json", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["ranks"], told["chip"], told["not_seen"]) == (4, "910A", [])
    tree = json.loads((tmp_path / "new/t.json").read_text())
    assert tree["server_list"] == [
        {
            "server_id": "10.0.0.1",
            "device": [
                {"device_id": str(card), "device_ip": f"192.168.10.{10 + card}", "rank_id": str(i)}
                for i, card in enumerate((4, 5, 6, 7))
            ],
        }
    ]


@pytest.mark.usefixtures("server")
def test_nothing_is_written_if_the_chip_refuses_the_table_or_the_file_is_there(
    run_program: Program, tmp_path: Path
) -> None:
    done = run_program("rank-table", "make", "--devices", "4-6", "-o", "t.json")
    assert done.returncode == 2
    assert "3 cards, but 910A works with 1, 2, 4 or 8" in done.stderr
    assert not (tmp_path / "t.json").exists()
    (tmp_path / "t.json").write_text("mine")
    done = run_program("rank-table", "make", "--devices", "[4,6)", "-o", "t.json")
    assert done.returncode == 2
    assert "pass --force" in done.stderr
    assert (tmp_path / "t.json").read_text() == "mine"


def test_a_table_of_an_unknown_chip_warns_of_what_a_910a_would_refuse(
    run_program: Program, tmp_path: Path
) -> None:
    make = ["rank-table", "make", "--devices", "0,1,9", "--server-id", "10.0.0.1"]
    done = run_program(*make, "-o", "t.json", PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (
        "910A would refuse this: server_list[0].device[2].device_id: device_id is 9" in done.stdout
    )
    assert "910A would refuse this: server_list[0]: server 10.0.0.1 has 3 cards" in done.stdout


@several_hosts
@pytest.mark.usefixtures("server")
def test_mpirun_gathers_the_tables_of_several_hosts(run_program: Program, tmp_path: Path) -> None:
    lines = [f"node{i} server_id=10.0.0.{i} devices=4-5" for i in (3, 1, 2)]
    (tmp_path / "hosts.txt").write_text("\n".join(lines))
    done = run_program("rank-table", "make", "--hosts", "hosts.txt", "-o", "t.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ranks"] == 6
    table = load_rank_table(tmp_path / "t.json", "910A")
    assert [server.server_id for server in table.servers] == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
    assert [(d.rank, d.device_id, d.ip) for _, d in table.by_rank()] == [
        (0, 4, "192.168.3.14"),
        (1, 5, "192.168.3.15"),
        (2, 4, "192.168.1.14"),
        (3, 5, "192.168.1.15"),
        (4, 4, "192.168.2.14"),
        (5, 5, "192.168.2.15"),
    ]


@several_hosts
@pytest.mark.usefixtures("server")
def test_every_host_that_fails_is_named(run_program: Program, tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_text("down1\nnode2 devices=0\ndown3\n")
    done = run_program("rank-table", "make", "--hosts", "hosts.txt", "-o", "t.json")
    assert done.returncode == 2
    assert "down1: cannot be asked through mpirun: ssh: connect to host down1" in done.stderr
    assert "node2: --devices: card 0 is not on this server; it has 4-7" in done.stderr
    assert "down3: cannot be asked" in done.stderr
    for host in ("down1", "down3"):
        said = done.stdout + done.stderr
        assert said.count(f"ssh: connect to host {host}: No route to host") == 1
    assert " / " not in done.stderr
    assert not (tmp_path / "t.json").exists()


@pytest.mark.usefixtures("server")
def test_a_table_is_compared_with_the_server_it_lies_on(run_program: Program) -> None:
    run_program("rank-table", "make", "-o", "t.json")
    assert run_program("rank-table", "check", "t.json", "--here").returncode == 0
    done = run_program("rank-table", "check", "t.json", "--here", "--json", NET="10.0.0")
    assert done.returncode == 1
    problems = json.loads(done.stdout)["problems"]
    assert [p["rule"] for p in problems if p["severity"] == "ERROR"] == ["R19"] * 4


def test_a_table_is_checked_even_if_no_card_can_be_compared(run_program: Program) -> None:
    table = Path(__file__).parents[4] / "rank_tables" / "1x8.json"
    done = run_program("rank-table", "check", table, "--here", PATH="/usr/bin:/bin")
    assert done.returncode == 0
    assert "no problem found" in done.stdout
    assert "not checked: --here: npu-smi is not on this machine" in done.stdout


def test_making_needs_no_mindspore_and_only_the_ranks_load_mpi() -> None:
    code = (
        "import sys, unet_dist.cli.rank_table_make; "
        "print([m for m in ('mindspore', 'mpi4py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_shows_examples() -> None:
    done = CliRunner().invoke(app, ["rank-table", "make", "--help"])
    assert done.exit_code == 0
    assert "unet-dist rank-table make --hosts hosts.txt --chip 910A -o cluster.json" in done.stdout

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unet_dist.cluster.rank_table import read_rank_table
from unet_dist.cluster.topology import from_rank_table
from unet_dist.errors import UserError

TABLES = Path(__file__).parents[3] / "rank_tables"
Table = dict[str, Any]


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.json")), ids=lambda path: path.name)
def test_every_shipped_table_is_valid_and_has_the_size_of_its_name(path: Path) -> None:
    servers, cards = map(int, path.stem.split("x"))
    table = read_rank_table(path)
    assert [len(server.devices) for server in table.servers] == [cards] * servers
    assert table.world == servers * cards


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(version="2.0"), 'only "1.0"'),
        (lambda t: t.update(status="initializing"), 'waits for "completed"'),
        (lambda t: t.update(server_count="3"), 'server_count is "3" but server_list has 2'),
        (lambda t: t.update(server_list=[]), "at least one server"),
        (lambda t: t["server_list"][1].update(server_id="10.0.0.1"), "already used by"),
        (lambda t: t["server_list"][1].update(device=[]), "device is empty"),
        (lambda t: _device(t).update(rank_id="0"), 'rank_id "0" is already used'),
        (lambda t: _device(t).update(rank_id="99"), "must be 0 to 15 without a gap"),
        (lambda t: _device(t).update(rank_id=3), "must be a JSON string"),
        (lambda t: _device(t).update(device_id="x"), "not a whole number"),
        (lambda t: _device(t).update(device_id="0"), "device_id .* is already used"),
        (lambda t: _device(t).update(device_ip="300.1.1.1"), "not an IP address"),
        (lambda t: _device(t).update(device_ip="192.168.100.10"), "device_ip .* already used"),
    ],
)
def test_each_violation_is_named(
    tmp_path: Path, change: Callable[[Table], object], message: str
) -> None:
    table = json.loads((TABLES / "2x8.json").read_text())
    change(table)
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table))
    with pytest.raises(UserError, match=message) as raised:
        read_rank_table(path)
    assert len(raised.value.faults) == 1


def _device(table: Table) -> Table:
    device: Table = table["server_list"][0]["device"][3]
    return device


def test_all_violations_are_told_at_once(tmp_path: Path) -> None:
    table = copy.deepcopy(json.loads((TABLES / "1x8.json").read_text()))
    table["server_list"][0]["device"][1]["rank_id"] = "0"
    table["server_list"][0]["device"][2]["device_ip"] = "x"
    table["status"] = "initializing"
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table))
    with pytest.raises(UserError) as raised:
        read_rank_table(path)
    assert len(raised.value.faults) == 3


def test_a_path_that_hccl_would_refuse_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "job.json.d"
    folder.mkdir()
    path = folder / "t.json"
    path.write_text((TABLES / "1x2.json").read_text())
    with pytest.raises(UserError, match="must be its end"):
        read_rank_table(path)


def test_a_server_starts_its_own_cards_only() -> None:
    topology = from_rank_table(read_rank_table(TABLES / "2x8.json"), "10.0.0.2")
    assert topology.world == 16
    assert [(slot.rank, slot.device_id) for slot in topology.slots] == [
        (rank, rank - 8) for rank in range(8, 16)
    ]


def test_with_several_servers_the_user_says_which_one_this_is() -> None:
    with pytest.raises(UserError, match=r"--server-id with one of: 10\.0\.0\.1, 10\.0\.0\.2"):
        from_rank_table(read_rank_table(TABLES / "2x8.json"), None)

"""Laws that hold for any table: what is read is written again, ranks stay where they are."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from table_samples import Tree, shipped

from unet_dist.cluster.tables.check import check_tree, fingerprint
from unet_dist.cluster.tables.compare import compare_tables
from unet_dist.cluster.tables.edit import (
    convert_table,
    merge_tables,
    parse_numbers,
    slice_table,
)
from unet_dist.cluster.tables.model import RankTable
from unet_dist.cluster.tables.read import parse
from unet_dist.cluster.tables.show import describe_table, table_facts
from unet_dist.cluster.tables.write import tree_of
from unet_dist.errors import UserError

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
unknown = st.dictionaries(
    st.sampled_from(["x_note", "numa_id", "dpu_ip", "eid"]), values, max_size=2
)
names = st.text("abcdefgh0123456789.-_", min_size=1, max_size=8)


def _address(server: int, card: int) -> str:
    return f"10.{server}.{card}.1"


@st.composite
def cards_of_servers(draw: st.DrawFn, last_card: int = 15) -> list[tuple[str, list[int]]]:
    """Names of servers, and the cards of each in any order."""
    servers = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    cards = st.lists(st.integers(0, last_card), min_size=1, max_size=4, unique=True)
    return [(server, draw(cards)) for server in servers]


@st.composite
def servers_trees(draw: st.DrawFn, version: str = "1.0") -> Tree:
    layout = draw(cards_of_servers())
    ranks = draw(st.permutations(range(sum(len(cards) for _, cards in layout))))
    left = list(ranks)
    servers = []
    for i, (name, cards) in enumerate(layout):
        devices = [
            {
                "device_id": str(card),
                "rank_id": str(left.pop()),
                **draw(st.sampled_from([{}, {"device_ip": ""}, {"device_ip": _address(i, card)}])),
                **({"super_device_id": str(16 * i + card)} if version == "1.2" else {}),
                **draw(unknown),
            }
            for card in cards
        ]
        servers.append({"server_id": name, "device": devices, **draw(unknown)})
    tree = {
        "version": version,
        "status": "completed",
        "server_count": str(len(servers)),
        "server_list": servers,
        **draw(unknown),
    }
    if version == "1.2":
        tree["super_pod_list"] = [
            {"super_pod_id": "p", "server_list": [{"server_id": s["server_id"]} for s in servers]}
        ]
    return tree


@st.composite
def groups_trees(draw: st.DrawFn) -> Tree:
    layout = draw(cards_of_servers(last_card=7))
    instances = []
    for i, (name, cards) in enumerate(layout):
        cut = draw(st.integers(0, len(cards) - 1))
        for part in filter(None, (cards[:cut], cards[cut:])):
            instances.append(
                {
                    "pod_name": f"pod{len(instances)}",
                    "server_id": name,
                    "devices": [
                        {"device_id": str(card), "device_ip": _address(i, card), **draw(unknown)}
                        for card in part
                    ],
                    **draw(unknown),
                }
            )
    group = {
        "group_name": draw(names),
        "instance_count": str(len(instances)),
        "device_count": str(sum(len(cards) for _, cards in layout)),
        "instance_list": instances,
        **draw(unknown),
    }
    return {"status": "completed", "group_count": "1", "group_list": [group], **draw(unknown)}


@st.composite
def ranks_trees(draw: st.DrawFn) -> Tree:
    layout = draw(cards_of_servers())
    ranks = []
    for i, (name, cards) in enumerate(layout):
        for card in cards:
            address = {"addr_type": "IPV4", "addr": _address(i, card), "ports": ["0/1"]}
            level = {"net_layer": 0, "net_instance_id": name, "rank_addr_list": [address]}
            ranks.append(
                {
                    "rank_id": len(ranks),
                    "local_id": card,
                    "device_id": card,
                    "level_list": [{**level, **draw(unknown)}],
                    **draw(unknown),
                }
            )
    head = {"version": "2.0", "status": "completed", "rank_count": len(ranks)}
    return {**head, "rank_list": ranks, **draw(unknown)}


any_tree = st.one_of(servers_trees(), servers_trees("1.2"), groups_trees(), ranks_trees())


def _table(tree: Tree) -> RankTable:
    checked = check_tree(tree)
    assert checked.table is not None, checked.problems
    return checked.table


def _places(table: RankTable) -> list[tuple[str, int, str]]:
    """Server, card and address of each rank."""
    return [(server.server_id, device.device_id, device.ip) for server, device in table.by_rank()]


@quick
@given(any_tree)
def test_what_is_read_is_written_again(tree: Tree) -> None:
    table = _table(tree)
    assert tree_of(table) == tree
    assert compare_tables(table, _table(tree_of(table))) == []


@quick
@given(st.lists(servers_trees(), min_size=2, max_size=4))
def test_merging_numbers_all_ranks_once_in_the_order_of_the_files(trees: list[Tree]) -> None:
    tables = []
    for number, tree in enumerate(trees):
        for i, server in enumerate(tree["server_list"]):
            server["server_id"] = f"{number}-{i}"
            for device in server["device"]:
                device["device_ip"] = f"10.{number}.{i}.{device['device_id']}"
        tables.append(_table(tree))
    merged = merge_tables([(f"{i}.json", table) for i, table in enumerate(tables)])
    assert _places(merged) == [place for table in tables for place in _places(table)]
    assert _places(_table(tree_of(merged))) == _places(merged)


@quick
@given(any_tree, st.data())
def test_slicing_keeps_the_order_of_the_ranks_and_numbers_them_anew(
    tree: Tree, data: st.DataObject
) -> None:
    table = _table(tree)
    kept = sorted(data.draw(st.sets(st.integers(0, table.world - 1), min_size=1)))
    part = slice_table(table, ranks=parse_numbers(",".join(map(str, kept)), "--ranks"))
    assert _places(part) == [_places(table)[rank] for rank in kept]
    assert _places(_table(tree_of(part))) == _places(part)


@quick
@given(any_tree)
def test_a_slice_of_everything_is_the_table(tree: Tree) -> None:
    table = _table(tree)
    names_of_all = [server.server_id for server in table.servers]
    assert slice_table(table, servers=names_of_all) == table


@quick
@given(servers_trees())
def test_template_2_and_back_keeps_every_rank_or_is_refused(tree: Tree) -> None:
    """It has no rank_id, so it can hold only tables that are numbered as HCCL numbers it."""
    table = _table(tree)
    if any(device.device_id > 7 for _, device in table.by_rank()):
        return  # no cards of a 910A
    places = [(server.server_id, device.device_id) for server, device in table.by_rank()]
    if places != sorted(places):
        with pytest.raises(UserError, match="would become rank"):
            convert_table(table, "template2")
        return
    pods = _table(tree_of(convert_table(table, "template2")))
    back = _table(tree_of(convert_table(pods, "1.0")))
    assert _places(pods) == _places(table)
    assert _places(back) == _places(table)


@quick
@given(groups_trees())
def test_version_1_0_and_back_keeps_the_pods(tree: Tree) -> None:
    table = _table(tree)
    back = convert_table(convert_table(table, "1.0"), "template2")
    assert _places(back) == _places(table)
    assert [d.pod["pod_name"] for _, d in back.by_rank()] == [
        d.pod["pod_name"] for _, d in table.by_rank()
    ]


def _use(content: bytes) -> None:
    """Everything that the commands do with a file's content."""
    tree, problems = parse(content)
    assert (tree is None) == bool(problems)
    if tree is None:
        return
    for chip in (None, "910A", "910B", "910C", "950"):
        checked = check_tree(tree, chip)  # type: ignore[arg-type]
    assert all(str(problem) and problem.to_json() for problem in checked.problems)
    table = checked.table
    if table is None:
        return
    assert describe_table(table)
    assert table_facts(table)["ranks"] == table.world
    assert compare_tables(table, table) == []
    steps: list[Callable[[], Any]] = [
        lambda: tree_of(table),
        lambda: convert_table(table, "1.0"),
        lambda: convert_table(table, "template2"),
        lambda: merge_tables([("a", table), ("b", table)]),
        lambda: slice_table(table, ranks=parse_numbers("0", "--ranks")),
    ]
    for step in steps:
        with contextlib.suppress(UserError):
            step()


@quick
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_crashes(content: bytes) -> None:
    _use(content)


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    rest = [tree]
    while rest:
        node = rest.pop()
        keys = (
            node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        )
        for key in keys:
            found.append((node, key))
            rest.append(node[key])
    return found


@settings(quick, max_examples=80)
@given(st.sampled_from(["1x4", "2x8", "template2_2x8", "superpod_4x8", "layers_2x4"]), st.data())
def test_no_damaged_table_crashes(name: str, data: st.DataObject) -> None:
    """Any value replaced by any other, or gone."""
    tree = shipped(name)
    tree["cluster_list"] = [{"cluster_id": "a", "server_list": [{"server_id": "10.0.0.1"}]}]
    for _ in range(data.draw(st.integers(1, 3))):
        nodes = _nodes(tree)
        node, key = nodes[data.draw(st.integers(0, len(nodes) - 1))]
        if isinstance(node, dict) and data.draw(st.booleans()):
            del node[key]
        else:
            node[key] = data.draw(values | st.sampled_from(["0", "1", "", "x", "10.0.0.1", [], {}]))
    _use(json.dumps(tree).encode())


def test_the_fingerprint_overlooks_the_order_of_keys_but_not_of_lists() -> None:
    tree = shipped("2x8")
    turned = dict(reversed(tree.items()))
    assert fingerprint(turned) == fingerprint(tree)
    turned["server_list"] = turned["server_list"][::-1]
    assert fingerprint(turned) != fingerprint(tree)


def test_a_table_without_optional_keys_gains_them() -> None:
    tree = shipped("superpod_4x8")
    del tree["server_count"]
    assert tree_of(_table(tree)) == shipped("superpod_4x8")
    assert replace(_table(tree)) == _table(shipped("superpod_4x8"))

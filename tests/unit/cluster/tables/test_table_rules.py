"""One broken table for each rule: exactly that rule speaks, once, and names place and values."""

from collections.abc import Callable
from typing import Any

import pytest
from table_samples import Tree, one_server, shipped

from unet_dist.cluster.tables.check import check_tree
from unet_dist.cluster.tables.problems import RULES
from unet_dist.cluster.tables.write import tree_of


def _server(tree: Tree, index: int) -> Tree:
    server: Tree = tree["server_list"][index]
    return server


def _device(tree: Tree) -> Tree:
    device: Tree = tree["server_list"][0]["device"][3]
    return device


def _instance(tree: Tree, index: int = 0) -> Tree:
    instance: Tree = tree["group_list"][0]["instance_list"][index]
    return instance


def _level(tree: Tree, rank: int = 0, layer: int = 0) -> Tree:
    level: Tree = tree["rank_list"][rank]["level_list"][layer]
    return level


def _mix_ranks(tree: Tree) -> None:
    """Rank 7 of the first server against rank 8 of the second."""
    first, second = _server(tree, 0)["device"][7], _server(tree, 1)["device"][0]
    first["rank_id"], second["rank_id"] = second["rank_id"], first["rank_id"]


def _as_lab(tree: Tree) -> None:
    tree.update(deploy_mode="lab", para_plane_nic_location="device")
    group = tree["group_list"][0]
    group.update(instance_count="16", device_num="16", server_num="2")
    group["instance_list"] = [
        {"server_id": instance["server_id"], "devices": [device], "rank_id": str(8 * i + j)}
        for i, instance in enumerate(group["instance_list"])
        for j, device in enumerate(instance["devices"])
    ]


def _broken_lab(tree: Tree) -> None:
    _as_lab(tree)
    _instance(tree, 3)["rank_id"] = "4"


Change = Callable[[Tree], Any]
# (table, chip, change, rule, severity, code, path, part of the message)
BROKEN: list[tuple[str, str, Change, str, str, str, str, str]] = [
    ("2x8", "910A", lambda t: t.update(status="initializing"),
     "R4", "ERROR", "EI0004", "status", '"initializing", not "completed"; HCCL would wait 1800 s'),
    ("layers_2x4", "950", lambda t: t.update(status="initializing"),
     "R4", "UNSUPPORTED", "", "status", "not usable"),
    ("2x8", "910A", lambda t: _device(t).update(rank_id=3),
     "R5", "ERROR", "EI0017", "server_list[0].device[3].rank_id", "rank_id is 3, which is not a"),
    ("2x8", "910A", lambda t: t.update(version=1.0),
     "R5", "ERROR", "EI0017", "version", "version is 1.0, which is not a JSON string"),
    ("2x8", "910A", lambda t: _server(t, 0).update(host_ip=None),
     "R5", "ERROR", "EI0017", "server_list[0].host_ip", "host_ip is null"),
    ("layers_2x4", "950", lambda t: t["rank_list"][2].update(device_id="2"),
     "R5", "ERROR", "EI0014", "rank_list[2].device_id", "a whole number without quotes"),
    ("2x8", "910A", lambda t: t.pop("status"),
     "R6", "ERROR", "EI0017", "status", "status is missing"),
    ("2x8", "910A", lambda t: _server(t, 0).pop("server_id"),
     "R6", "ERROR", "EI0017", "server_list[0].server_id", "server_id is missing"),
    ("template2_2x8", "910A", lambda t: t["group_list"][0].pop("group_name"),
     "R6", "ERROR", "EI0017", "group_list[0].group_name", "group_name is missing"),
    ("2x8", "910A", lambda t: t.update(version="1.1"),
     "R7", "UNSUPPORTED", "", "version", "hosts and cards together"),
    ("2x8", "910A", lambda t: t.update(version="3.0"),
     "R7", "ERROR", "EI0014", "version", 'version is "3.0"; HCCL knows 1.0, 1.2, 2.0'),
    ("2x8", "910A", lambda t: t.pop("version"),
     "R7", "ERROR", "EI0017", "version", "takes such a table for template 2"),
    ("2x8", "950", lambda t: None,
     "R7", "ERROR", "EI0014", "version", "dialect 1.0 is for 910A, 910B, 910C, not for 950"),
    ("template2_2x8", "910B", lambda t: None,
     "R7", "UNSUPPORTED", "", "$", "dialect template2 is for 910A, not for 910B"),
    ("2x8", "910A", lambda t: t.update(server_count="3"),
     "R8", "ERROR", "EI0014", "server_count", 'server_count is "3", but there are 2'),
    ("2x8", "910A", lambda t: t.update(server_list=[], server_count="0"),
     "R8", "ERROR", "EI0014", "server_list", "server_list is [], but must be a list"),
    ("template2_2x8", "910A", lambda t: t["group_list"][0].update(device_count="2"),
     "R8", "ERROR", "EI0014", "group_list[0].device_count", 'is "2", but there are 16'),
    ("layers_2x4", "950", lambda t: t.update(rank_count=4),
     "R8", "ERROR", "EI0014", "rank_count", "rank_count is 4, but rank_list has 8"),
    ("2x8", "910A", lambda t: _server(t, 1).update(server_id="10.0.0.1"),
     "R9", "ERROR", "EI0014", "server_list[1].server_id", "already used by server_list[0]"),
    ("1x8", "910A", lambda t: _server(t, 0).update(server_id=""),
     "R9", "ERROR", "EI0014", "server_list[0].server_id", "server_id is empty"),
    ("1x8", "910A", lambda t: _server(t, 0).update(server_id="s" * 65),
     "R9", "ERROR", "EI0014", "server_list[0].server_id", "has 65 bytes, but at most 64 fit"),
    ("template2_2x8", "910A", lambda t: _instance(t, 1).update(pod_name="10.0.0.1"),
     "R9", "ERROR", "EI0014", "group_list[0].instance_list[1].pod_name", "already used by"),
    ("2x8", "910A", lambda t: _device(t).update(device_id="0"),
     "R10", "ERROR", "EI0014", "server_list[0].device[3].device_id", 'device_id "0" is already'),
    ("2x8", "910A", lambda t: _device(t).update(device_id="x"),
     "R10", "ERROR", "EI0014", "server_list[0].device[3].device_id", 'is "x", which is not a whol'),
    ("2x8", "910A", lambda t: _device(t).update(device_id="8"),
     "R10", "ERROR", "EI0014", "server_list[0].device[3].device_id", "910A has cards 0 to 7"),
    ("2x8", "910C", lambda t: _device(t).update(device_id="16"),
     "R10", "ERROR", "EI0014", "server_list[0].device[3].device_id", "910C has cards 0 to 15"),
    ("1x8", "910A", lambda t: _server(t, 0).update(device=[]),
     "R10", "ERROR", "EI0014", "server_list[0].device", "device is [], but must be a list"),
    ("2x8", "910A", lambda t: _device(t).update(device_ip="300.1.1.1"),
     "R11", "ERROR", "EI0014", "server_list[0].device[3].device_ip", "not an IP address"),
    ("2x8", "910A", lambda t: _device(t).update(device_ip="192.168.103.13"),
     "R11", "ERROR", "EI0014", "server_list[1].device[7].device_ip",
     "already used by server_list[0].device[3]"),
    ("2x8", "910A", lambda t: _device(t).update(device_ip="192.168.103.10,192.168.103.99"),
     "R11", "ERROR", "EI0014", "", "addresses, but server_list[0].device[0] has 1"),
    ("2x8", "910A", lambda t: _device(t).update(device_ip="fd00::3"),
     "R11", "ERROR", "EI0001", "server_list[0].device[3].device_ip", "is IPv6, but that of"),
    ("2x8", "910A", lambda t: _device(t).update(device_ip=""),
     "R11", "UNSUPPORTED", "", "server_list[0].device[3].device_ip", "910A needs it always"),
    ("2x8", "910A", lambda t: _device(t).pop("device_ip"),
     "R11", "ERROR", "EI0014", "server_list[0].device[3].device_ip", "device_ip is missing"),
    ("2x8", "910B", lambda t: _device(t).update(device_ip=""),
     "R11", "ERROR", "EI0014", "server_list[0].device[3].device_ip", "with several servers"),
    ("template2_2x8", "910A", lambda t: _instance(t)["devices"][2].pop("device_ip"),
     "R11", "ERROR", "EI0017", "group_list[0].instance_list[0].devices[2].device_ip", "is missing"),
    ("superpod_4x8", "910C", lambda t: _device(t).update(device_ip=""),
     "R11", "UNSUPPORTED", "", "server_list[0].device[3].device_ip", "several super pods"),
    ("superpod_4x8", "910C", lambda t: _server(t, 0).update(host_ip="here"),
     "R11", "ERROR", "EI0014", "server_list[0].host_ip", 'host_ip "here" is not an IP'),
    ("layers_2x4", "950", lambda t: _level(t)["rank_addr_list"][0].update(addr="fd00::1"),
     "R11", "ERROR", "EI0014", "rank_list[0].level_list[0].rank_addr_list[0].addr", "type IPV4"),
    ("2x8", "910A", lambda t: _device(t).update(rank_id="0"),
     "R12", "ERROR", "EI0014", "server_list[0].device[3].rank_id",
     "rank_id 0 is already used by server_list[0].device[0]"),
    ("1x8", "910A", lambda t: _device(t).update(rank_id="99"),
     "R12", "ERROR", "EI0014", "server_list[0].device[3].rank_id", "is 99, but 8 cards must"),
    ("layers_2x4", "950", lambda t: t["rank_list"][5].update(rank_id=4),
     "R12", "ERROR", "EI0014", "rank_list[5].rank_id", "rank_id 4 is already used by rank_list[4]"),
    ("template2_2x8", "910A", _broken_lab,
     "R12", "ERROR", "EI0014", "group_list[0].instance_list[4].rank_id", "rank_id 4 is already"),
    ("2x8", "910A", lambda t: _device(t).update(device_port="0"),
     "R16", "ERROR", "HCCL_E_PARA", "server_list[0].device[3].device_port", 'is "0", but a port'),
    ("2x8", "910A", lambda t: _device(t).update(host_port="65536"),
     "R16", "ERROR", "HCCL_E_PARA", "server_list[0].device[3].host_port", "1 to 65535"),
    ("2x8", "910A", lambda t: _device(t).update(device_port="80"),
     "R16", "WARN", "", "server_list[0].device[3].device_port", "are the system's"),
    ("layers_2x4", "950", lambda t: t["rank_list"][1].update(device_port=70000),
     "R16", "ERROR", "EI0014", "rank_list[1].device_port", "device_port is 70000"),
    ("superpod_4x8", "910C", lambda t: t["super_pod_list"][0]["server_list"].pop(),
     "R17", "ERROR", "EI0014", "server_list[1]", "server 10.0.0.2 is in no super pod"),
    ("superpod_4x8", "910C",
     lambda t: t["super_pod_list"][0]["server_list"].append({"server_id": "elsewhere"}),
     "R17", "ERROR", "EI0014", "super_pod_list[0].server_list[2].server_id", "not in server_list"),
    ("superpod_4x8", "910C", lambda t: _device(t).update(super_device_id="4"),
     "R17", "ERROR", "EI0014", "server_list[0].device[4].super_device_id",
     "already used by server_list[0].device[3] in super pod 0"),
    ("superpod_4x8", "910C", lambda t: _device(t).pop("super_device_id"),
     "R17", "ERROR", "EI0014", "server_list[0].device[3].super_device_id", "super pod 0 needs it"),
    ("superpod_4x8", "910C", lambda t: t["super_pod_list"][1].update(super_pod_id=""),
     "R17", "ERROR", "EI0014", "super_pod_list[1].super_pod_id", "is empty"),
    ("superpod_4x8", "910C", lambda t: t["server_list"].append(t["server_list"].pop(1)),
     "R17", "UNSUPPORTED", "", "server_list[3]", "10.0.0.2 of super pod 0 stands apart"),
    ("2x8", "910A", _mix_ranks,
     "R20", "UNSUPPORTED", "", "server_list[1]", "ranks 7 to 15 of server 10.0.0.2 are mixed"),
    ("2x8", "910A", lambda t: _server(t, 0).update(server_id="10.0.0.30"),
     "R20", "WARN", "", "server_list[1]", "before it in dictionary order"),
    ("layers_2x4", "950", lambda t: _level(t).update(net_layer=1),
     "R21", "ERROR", "EI0014", "rank_list[0].level_list[1].net_layer", "must be above the one"),
    ("layers_2x4", "950", lambda t: _level(t).update(net_type="CLOS"),
     "R21", "UNSUPPORTED", "", "rank_list[0].level_list[0].net_type", "TOPO_FILE_DESC"),
    ("layers_2x4", "950", lambda t: _level(t, rank=1, layer=1).update(rank_addr_list=[]),
     "R21", "ERROR", "EI0014", "rank_list[1].level_list[1].rank_addr_list",
     'but rank_list[0].level_list[1] has 1'),
    ("layers_2x4", "950", lambda t: _level(t)["rank_addr_list"][0].update(ports=[]),
     "R21", "ERROR", "EI0014", "rank_list[0].level_list[0].rank_addr_list[0].ports", "ports is []"),
    ("1x8", "910A", lambda t: _device(t).update(device_ip="192.168.102.77"),
     "R22", "WARN", "", "server_list[0]", "cards 3 and 7 of server 10.0.0.1 do not share"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "chip", "change", "rule", "severity", "code", "path", "message"),
    BROKEN,
    ids=[f"{case[3]}-{case[0]}-{number}" for number, case in enumerate(BROKEN)],
)
def test_a_broken_table_breaks_exactly_one_rule(
    name: str,
    chip: Any,
    change: Change,
    rule: str,
    severity: str,
    code: str,
    path: str,
    message: str,
) -> None:
    tree = shipped(name)
    change(tree)
    problems = check_tree(tree, chip).problems
    assert [(p.rule, p.severity, p.code) for p in problems] == [(rule, severity, code)]
    assert path in problems[0].path
    assert message in problems[0].message
    assert problems[0].fix


def test_every_rule_of_a_file_has_a_broken_table() -> None:
    elsewhere = {"R1", "R2", "R3", "R13", "R14", "R15", "R18", "R19"}
    assert {case[3] for case in BROKEN} == set(RULES) - elsewhere


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"server_group_list": [], "version": "1.0"}, "global rank table of an inference service"),
        ({"version": "2.0", "peer_list": [], "edge_list": []}, "a topology file"),
        ({"version": "2.0", "rank_list": [], "replace_list": []}, "early draft of 2.0"),
        (
            {"version": "2.0", "rank_list": [{"level_list": [{"level": 0, "fabric_type": "X"}]}]},
            "early draft of 2.0",
        ),
    ],
)
def test_what_looks_like_a_rank_table_is_recognised_and_refused(tree: Tree, message: str) -> None:
    checked = check_tree(tree)
    assert checked.dialect is None
    assert [problem.rule for problem in checked.problems] == ["R7"]
    assert message in checked.problems[0].message


@pytest.mark.parametrize("tree", [[], "text", 3, True, {}])
def test_other_json_is_no_rank_table(tree: Any) -> None:
    checked = check_tree(tree)
    assert checked.dialect is None
    assert [(problem.rule, problem.code) for problem in checked.problems] == [("R6", "EI0017")]


def test_all_problems_are_told_at_once() -> None:
    tree = one_server([0, 1, 2, 3])
    devices = tree["server_list"][0]["device"]
    devices[1]["rank_id"] = "0"
    devices[2]["device_ip"] = "x"
    tree["status"] = "initializing"
    assert sorted(p.rule for p in check_tree(tree).problems) == ["R11", "R12", "R4"]


def test_the_lab_form_is_read() -> None:
    tree = shipped("template2_2x8")
    _as_lab(tree)
    checked = check_tree(tree)
    assert checked.dialect == "lab"
    assert checked.problems == ()
    assert checked.table is not None
    assert [device.rank for _, device in checked.table.by_rank()] == list(range(16))


def test_template_2_numbers_servers_in_dictionary_order() -> None:
    """HCCL keeps them in a map by server_id: "10" comes before "9", whatever the file's order."""
    tree = shipped("template2_2x8")
    for instance, name in zip(tree["group_list"][0]["instance_list"], ("9", "10"), strict=True):
        instance["server_id"] = name
    table = check_tree(tree).table
    assert table is not None
    assert [server.server_id for server, _ in table.by_rank()] == ["10"] * 8 + ["9"] * 8


def test_two_pods_may_share_a_server() -> None:
    tree = shipped("template2_2x8")
    _instance(tree, 1)["server_id"] = "10.0.0.1"
    _instance(tree, 1)["devices"] = _instance(tree, 0)["devices"][4:]
    _instance(tree, 0)["devices"] = _instance(tree, 0)["devices"][:4]
    tree["group_list"][0]["device_count"] = "8"
    checked = check_tree(tree)
    assert checked.problems == ()
    assert checked.table is not None
    assert [len(server.devices) for server in checked.table.servers] == [8]


def test_files_of_schedulers_are_clean() -> None:
    """The ascend-operator adds host_ip, container_ip and hardware_type; ModelArts adds pod_ip."""
    tree = shipped("2x8")
    tree["server_list"][0].update(host_ip="10.0.0.1", container_ip="10.1.0.1", hardware_type="x")
    tree["server_list"][1].update(host_ip="10.0.0.2", pod_ip="10.1.0.2", host_nic_ip="reserve")
    assert check_tree(tree).problems == ()


def test_a_table_across_clusters_keeps_all_its_keys() -> None:
    """MindSpore's extras: HCCL overlooks them, so they are only carried along."""
    tree = shipped("2x8")
    for number, server in enumerate(tree["server_list"]):
        server.update(server_ip=f"10.2.0.{number}", pod_ip="10.3.0.1", host_nic_ip="reserve")
        for device in server["device"]:
            device.update(dpu_ip=f"10.4.{number}.{device['device_id']}", numa_id="0", eid="")
    tree["cluster_list"] = [
        {
            "cluster_id": f"cluster_{number}",
            "network_type": "ROCE",
            "az_id": "az_0",
            "region_id": "region_0",
            "server_list": [{"server_id": f"10.0.0.{number + 1}"}],
        }
        for number in range(2)
    ]
    checked = check_tree(tree)
    assert checked.problems == ()
    assert checked.table is not None
    assert tree_of(checked.table) == tree


@pytest.mark.parametrize(
    ("key", "typed"), [("device_ip", "devce_ip"), ("rank_id", "rankid"), ("device_id", "device-id")]
)
def test_a_misspelt_key_is_named_where_a_needed_one_is_missing(key: str, typed: str) -> None:
    tree = shipped("1x8")
    device = _device(tree)
    device[typed] = device.pop(key)
    [problem] = [p for p in check_tree(tree, "910A").problems if p.path.endswith(f"].{key}")]
    assert f'unknown key "{typed}": is {key} meant?' in problem.message
    assert problem.fix == f'rename "{typed}" to "{key}"'


def test_a_misspelt_version_is_named() -> None:
    tree = shipped("1x8")
    tree["ver\x1bsion"] = tree.pop("version")
    [problem] = check_tree(tree).problems
    assert problem.fix == 'rename "ver\\u001bsion" to "version"'  # no cursor is moved by it


def test_a_known_key_is_not_taken_for_a_misspelling() -> None:
    tree = shipped("1x8")
    del _device(tree)["device_ip"]  # device_id looks like it
    [problem] = [p for p in check_tree(tree, "910A").problems if p.rule == "R11"]
    assert "unknown key" not in problem.message


def test_one_card_is_not_called_cards() -> None:
    tree = one_server([0])
    tree["server_list"][0]["device"][0]["rank_id"] = "3"
    [problem] = check_tree(tree).problems
    assert problem.message == "rank_id is 3, but 1 card must have rank 0"

from pathlib import Path

import pytest
from table_samples import Tree, one_server, shipped, write

from unet_dist.cluster.tables.check import check_tree
from unet_dist.cluster.tables.compare import compare_tables
from unet_dist.cluster.tables.edit import (
    convert_table,
    merge_tables,
    parse_numbers,
    slice_table,
)
from unet_dist.cluster.tables.model import RankTable
from unet_dist.cluster.tables.show import describe_table
from unet_dist.cluster.tables.write import text_of_table, tree_of, write_rank_table
from unet_dist.errors import UserError


def _table(tree: Tree) -> RankTable:
    table = check_tree(tree).table
    assert table is not None
    return table


def _of_server(tree: Tree, index: int) -> RankTable:
    table = _table(tree)
    return slice_table(table, servers=[table.servers[index].server_id])


@pytest.mark.parametrize("name", ["2x8", "4x8", "template2_2x8", "superpod_4x8", "layers_2x4"])
def test_the_servers_of_a_table_merge_into_it_again(name: str) -> None:
    table = _table(shipped(name))
    parts = [_of_server(shipped(name), index) for index in range(len(table.servers))]
    assert merge_tables([(f"{i}.json", part) for i, part in enumerate(parts)]) == table


def test_ranks_follow_the_order_of_the_files() -> None:
    first, second = (_of_server(shipped("2x8"), index) for index in (1, 0))
    merged = merge_tables([("b.json", first), ("a.json", second)])
    assert [server.server_id for server, _ in merged.by_rank()] == ["10.0.0.2"] * 8 + [
        "10.0.0.1"
    ] * 8


def test_a_server_in_two_files_is_refused_with_both_places() -> None:
    table = _table(one_server([0]))
    with pytest.raises(UserError) as raised:
        merge_tables([("a.json", table), ("b.json", table)])
    assert raised.value.faults == ("server_id 10.0.0.1 is in a.json and in b.json",)
    other = one_server([0])
    other["server_list"][0]["server_id"] = "10.0.0.2"
    with pytest.raises(UserError) as raised:
        merge_tables([("a.json", table), ("b.json", _table(other))])
    assert raised.value.faults == (
        "device_ip 192.168.100.10 is in a.json (server 10.0.0.1 card 0) and in b.json "
        "(server 10.0.0.2 card 0)",
    )


def test_a_file_that_is_given_twice_is_told_once() -> None:
    table = _table(shipped("1x8"))
    with pytest.raises(UserError) as raised:
        merge_tables([("a.json", table), ("a.json", table)])
    assert raised.value.faults == ("a.json is given 2 times",)


def test_the_loopback_name_of_hccl_tools_is_explained() -> None:
    tables = []
    for number in (1, 2):
        tree = one_server([0])
        tree["server_list"][0]["server_id"] = "127.0.1.1"
        tree["server_list"][0]["device"][0]["device_ip"] = f"192.168.1.{number}"
        tables.append((f"{number}.json", _table(tree)))
    with pytest.raises(UserError, match="hccl_tools writes the address that the host name"):
        merge_tables(tables)


def test_tables_of_two_dialects_do_not_merge() -> None:
    with pytest.raises(
        UserError, match=r"b\.json is of dialect template2, but a\.json of 1\.0; convert"
    ):
        merge_tables(
            [("a.json", _table(one_server([0]))), ("b.json", _table(shipped("template2_2x8")))]
        )


def test_a_table_of_2_0_cannot_be_merged_with_another_dialect() -> None:
    with pytest.raises(UserError) as raised:
        merge_tables(
            [("a.json", _table(shipped("1x8"))), ("b.json", _table(shipped("layers_2x4")))]
        )
    assert raised.value.faults == (
        "b.json is of dialect 2.0, but a.json of 1.0; 2.0 cannot be merged with others",
    )


def test_slicing_takes_what_all_choices_hold() -> None:
    part = slice_table(
        _table(shipped("2x8")),
        servers=["10.0.0.2"],
        devices=parse_numbers("0-3,7", "--devices"),
        ranks=parse_numbers("9-15", "--ranks"),
    )
    assert [(device.rank, device.device_id) for _, device in part.by_rank()] == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 7),
    ]


def test_slicing_trims_super_pods_and_clusters() -> None:
    tree = shipped("superpod_4x8")
    tree["cluster_list"] = [
        {"cluster_id": "a", "server_list": [{"server_id": "10.0.0.1"}, {"server_id": "10.0.0.3"}]},
        {"cluster_id": "b", "server_list": [{"server_id": "10.0.0.2"}]},
    ]
    part = slice_table(_table(tree), servers=["10.0.0.3"])
    assert part.extra == {
        "super_pod_list": [{"super_pod_id": "1", "server_list": [{"server_id": "10.0.0.3"}]}],
        "cluster_list": [{"cluster_id": "a", "server_list": [{"server_id": "10.0.0.3"}]}],
    }
    assert check_tree(tree_of(part)).problems == ()


@pytest.mark.parametrize(
    "clusters", [3, [3], [{"cluster_id": "a", "server_list": [{"server_id": []}]}]]
)
def test_a_cluster_list_of_any_form_stops_neither_slice_nor_merge(clusters: object) -> None:
    """HCCL does not look at it, so nothing was said of its form."""
    tree = shipped("2x8")
    tree["cluster_list"] = clusters
    table = _table(tree)
    parts = [slice_table(table, servers=[server.server_id]) for server in table.servers]
    merged = merge_tables([(f"{i}.json", part) for i, part in enumerate(parts)])
    assert merged.servers == table.servers


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"servers": ["10.0.0.9"]}, "--servers 10.0.0.9: the table has 10.0.0.1, 10.0.0.2"),
        ({"devices": parse_numbers("6-8", "--devices")}, "--devices 6-8: the table has cards 0, 1"),
        ({"ranks": parse_numbers("16", "--ranks")}, "--ranks 16: the table has ranks 0, 1"),
        (
            {"servers": ["10.0.0.2"], "ranks": parse_numbers("0-7", "--ranks")},
            "no card is in all the choices",
        ),
    ],
)
def test_a_choice_that_the_table_does_not_have_is_refused(choice: Tree, message: str) -> None:
    with pytest.raises(UserError, match=message):
        slice_table(_table(shipped("2x8")), **choice)


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-0", "1,,2", "0-99999999999", "²"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--ranks"):
        parse_numbers(text, "--ranks")


def test_a_wide_span_costs_nothing() -> None:
    assert 999_999_998 in parse_numbers("0-999999999", "--ranks")


def test_a_table_in_another_order_does_not_become_template_2() -> None:
    tree = shipped("2x8")
    tree["server_list"][0]["server_id"] = "10.0.0.30"
    with pytest.raises(
        UserError, match=r"server 10.0.0.30 card 0 would become rank 8 instead of 0"
    ):
        convert_table(_table(tree), "template2")


def test_the_lab_form_becomes_1_0_and_is_not_written_itself() -> None:
    tree = {
        "board_id": "0x0020",
        "chip_info": "910",
        "deploy_mode": "lab",
        "group_count": "1",
        "group_list": [
            {
                "device_num": "2",
                "server_num": "1",
                "group_name": "",
                "instance_count": "2",
                "instance_list": [
                    {
                        "devices": [{"device_id": str(card), "device_ip": f"192.168.{card}.5"}],
                        "rank_id": str(card),
                        "server_id": "10.0.0.7",
                    }
                    for card in (0, 1)
                ],
            }
        ],
        "para_plane_nic_location": "device",
        "para_plane_nic_name": ["eth0", "eth1"],
        "para_plane_nic_num": "2",
        "status": "completed",
    }
    table = _table(tree)
    with pytest.raises(UserError, match="dialect lab: is read only"):
        text_of_table(table)
    devices = [
        {"device_id": str(card), "device_ip": f"192.168.{card}.5", "rank_id": str(card)}
        for card in (0, 1)
    ]
    assert tree_of(convert_table(table, "1.0")) == {
        "version": "1.0",
        "server_count": "1",
        "server_list": [{"server_id": "10.0.0.7", "device": devices}],
        "status": "completed",
    }


def test_a_super_pod_table_survives_1_0() -> None:
    """HCCL overlooks super_pod_list and super_device_id there, so nothing need be thrown away."""
    table = _table(shipped("superpod_4x8"))
    plain = _table(tree_of(convert_table(table, "1.0")))
    assert plain.dialect == "1.0"
    assert convert_table(plain, "1.2") == table


@pytest.mark.parametrize("dialect", ["1.0", "template2", "1.2"])
def test_2_0_does_not_become_another_dialect(dialect: str) -> None:
    with pytest.raises(UserError, match="layer by layer"):
        convert_table(_table(shipped("layers_2x4")), dialect)  # type: ignore[arg-type]


def test_a_table_that_hccl_would_refuse_is_not_written(tmp_path: Path) -> None:
    """910C has 16 cards a server; template 2 holds 8."""
    table = convert_table(_table(one_server([0, 12])), "template2")
    with pytest.raises(UserError, match=r"were it written as template2.*device_id is 12"):
        write_rank_table(tmp_path / "t.json", table)
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_never_overwritten_and_another_file_only_by_force(tmp_path: Path) -> None:
    table = _table(one_server([0]))
    path = write(tmp_path / "t.json", {})
    (tmp_path / "link.json").symlink_to(path)
    with pytest.raises(UserError, match="exists; pass --force"):
        write_rank_table(path, table)
    for name in ("t.json", "link.json"):
        with pytest.raises(UserError, match="is an input"):
            write_rank_table(tmp_path / name, table, inputs=[path], force=True)
    with pytest.raises(UserError, match="the name must end in"):
        write_rank_table(tmp_path / "t.txt", table)
    assert path.read_text() == "{}"
    write_rank_table(path, table, force=True)
    assert path.read_text() == text_of_table(table)


def test_the_differences_of_two_tables_are_named() -> None:
    a, tree = _table(shipped("2x8")), shipped("2x8")
    tree["server_list"][1]["device"][2]["device_ip"] = "192.168.102.99"
    tree["server_list"][0]["host_ip"] = "10.0.0.1"
    tree["note"] = "new"
    assert [str(difference) for difference in compare_tables(a, _table(tree))] == [
        "rank 10: device_ip 192.168.102.12 -> 192.168.102.99",
        "server 10.0.0.1: host_ip (none) -> 10.0.0.1",
        "table: note (none) -> new",
    ]


def test_tables_of_two_dialects_differ_by_their_ranks_only_where_they_do() -> None:
    found = compare_tables(_table(shipped("2x8")), _table(shipped("template2_2x8")))
    assert [str(difference) for difference in found] == ["table: dialect 1.0 -> template2"]


def test_names_of_the_file_do_not_move_the_cursor() -> None:
    tree = one_server([0])
    tree["server_list"][0].update(server_id="\x1b[2Jrank 0", host_name="\x1b[H")
    assert "\x1b" not in describe_table(_table(tree))
    tree["server_list"].append({**tree["server_list"][0], "server_id": "a" * 5000})
    told = [str(problem) for problem in check_tree(tree, "910A").problems]
    assert told
    assert not any("\x1b" in text or len(text) > 400 for text in told)


def test_a_super_pod_table_does_not_become_template_2() -> None:
    with pytest.raises(UserError, match="no chip reads both"):
        convert_table(_table(shipped("superpod_4x8")), "template2")


def test_a_longer_table_differs_by_its_ranks() -> None:
    short, long = _table(one_server([0])), _table(one_server([0, 1]))
    server = long.servers[0].server_id
    assert [str(difference) for difference in compare_tables(short, long)] == [
        "table: ranks 1 -> 2",
        f"rank 1: card (none) -> 1 of {server}",
    ]


def test_spans_are_listed_in_their_order_if_they_are_not_too_many():
    numbers = parse_numbers("4,0-2,1", "--seeds")
    assert numbers.listed(most=5, what="seeds") == (4, 0, 1, 2, 1)
    with pytest.raises(UserError, match="5 seeds are many: 4 at most"):
        numbers.listed(most=4, what="seeds")
    with pytest.raises(UserError, match="999999999 seeds are many"):
        parse_numbers("1-999999999", "--seeds").listed(most=100, what="seeds")

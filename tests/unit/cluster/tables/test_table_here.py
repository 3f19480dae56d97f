import pytest
from table_samples import Tree, one_server, shipped

from unet_dist.cluster.tables.check import check_tree
from unet_dist.cluster.tables.here import problems_here, rank_id_problems, server_here
from unet_dist.cluster.tables.model import RankTable

CARDS_OF_2 = {card: f"192.168.{100 + card % 4}.{12 + card // 4}" for card in range(8)}
"""Of server 10.0.0.2 in 2x8.json."""


def _table(tree: Tree) -> RankTable:
    table = check_tree(tree).table
    assert table is not None
    return table


@pytest.mark.parametrize("name", ["2x8", "template2_2x8"])
def test_the_right_server_has_no_problem(name: str) -> None:
    assert problems_here(_table(shipped(name)), CARDS_OF_2, ["127.0.0.1", "10.0.0.2"]) == []


def test_a_server_is_known_by_its_host_address_or_by_its_cards() -> None:
    tree = shipped("2x8")
    for number, server in enumerate(tree["server_list"]):
        server.update(server_id=f"node_{number}", host_ip=f"172.16.0.{number}")
    table = _table(tree)
    by_host = server_here(table, {}, ["172.16.0.1"])
    by_card = server_here(table, CARDS_OF_2, [])
    assert by_host is by_card is table.servers[1]


def test_a_server_that_is_not_in_the_table_is_told() -> None:
    problems = problems_here(_table(shipped("2x8")), {}, ["10.9.9.9"])
    assert [problem.rule for problem in problems] == ["R14"]
    assert (
        "this server (10.9.9.9) is none of the table's: 10.0.0.1, 10.0.0.2" in problems[0].message
    )


def test_the_only_server_of_a_table_is_this_one_whatever_its_name() -> None:
    table = _table(one_server([0, 1]))
    assert problems_here(table, {0: "192.168.100.10", 1: "192.168.101.10"}, ["other"]) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("2x8", "server_list[1].device[3]"),
        ("template2_2x8", "group_list[0].instance_list[1].devices[3]"),
    ],
)
def test_a_card_that_is_not_here_is_told(name: str, path: str) -> None:
    cards = {card: ip for card, ip in CARDS_OF_2.items() if card != 3}
    problems = problems_here(_table(shipped(name)), cards, ["10.0.0.2"])
    assert [(problem.rule, problem.path) for problem in problems] == [("R14", f"{path}.device_id")]
    assert "this server has 0, 1, 2, 4, 5, 6, 7" in problems[0].message


def test_a_wrong_address_of_a_card_is_told_with_the_real_one() -> None:
    cards = {**CARDS_OF_2, 5: "192.168.101.77"}
    problems = problems_here(_table(shipped("2x8")), cards, ["10.0.0.2"])
    assert [(problem.rule, problem.code) for problem in problems] == [("R19", "EI0014")]
    assert problems[0].fix == "write 192.168.101.77"


def test_an_address_that_nobody_knows_is_no_problem() -> None:
    cards = dict.fromkeys(range(8), "")
    assert problems_here(_table(shipped("2x8")), cards, ["10.0.0.2"]) == []


def test_a_rank_of_the_environment_must_be_in_the_table() -> None:
    table = _table(shipped("1x8"))
    assert rank_id_problems(table, "7") == []
    for rank_id, code in (("8", "EI0014"), ("-1", "EI0003"), ("x", "EI0003"), ("", "EI0003")):
        problems = rank_id_problems(table, rank_id)
        assert [(problem.rule, problem.code) for problem in problems] == [("R13", code)]


def test_in_template_2_the_environment_names_the_pod() -> None:
    table = _table(shipped("template2_2x8"))
    assert rank_id_problems(table, "10.0.0.1") == []
    assert "pod_name of an instance: 10.0.0.1, 10.0.0.2" in rank_id_problems(table, "0")[0].message

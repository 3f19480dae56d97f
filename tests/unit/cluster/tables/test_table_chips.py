from collections.abc import Iterable
from itertools import combinations

import pytest
from table_samples import one_server, shipped

from unet_dist.cluster.tables.check import check_tree
from unet_dist.cluster.tables.problems import Problem


def _severities(problems: Iterable[Problem], rule: str) -> set[str]:
    return {problem.severity for problem in problems if problem.rule == rule}


def _sets_without(chip: str, size: int, severities: set[str]) -> list[tuple[int, ...]]:
    return [
        cards
        for cards in combinations(range(8), size)
        if not severities & {p.severity for p in check_tree(one_server(cards), chip).problems}
    ]


def test_of_the_70_sets_of_four_910a_cards_8_start_and_2_are_clean() -> None:
    starting = _sets_without("910A", 4, {"ERROR"})
    assert starting == [
        (0, 1, 2, 3),
        (0, 1, 4, 5),
        (0, 2, 4, 6),
        (0, 3, 4, 7),
        (1, 2, 5, 6),
        (1, 3, 5, 7),
        (2, 3, 6, 7),
        (4, 5, 6, 7),
    ]
    clean = _sets_without("910A", 4, {"ERROR", "UNSUPPORTED", "WARN"})
    assert clean == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_all_pairs_of_910a_cards_start_but_only_those_of_one_ring_are_allowed() -> None:
    assert len(_sets_without("910A", 2, {"ERROR"})) == 28
    assert len(_sets_without("910A", 2, {"ERROR", "UNSUPPORTED"})) == 12  # 2 rings x 6 pairs


def test_910a_works_with_1_2_4_or_8_cards_only() -> None:
    starting = [size for size in range(1, 9) if _sets_without("910A", size, {"ERROR"})]
    assert starting == [1, 2, 4, 8]


def test_910b_takes_every_set_of_cards_of_one_server() -> None:
    sets = [cards for size in range(1, 9) for cards in combinations(range(8), size)]
    assert len(sets) == 255
    for cards in sets:
        assert check_tree(one_server(cards), "910B").problems == (), cards


@pytest.mark.parametrize(
    ("chip", "severity"), [("910A", "ERROR"), ("910B", "WARN"), ("910C", "WARN")]
)
def test_servers_with_unequal_numbers_of_cards(chip: str, severity: str) -> None:
    tree = shipped("2x8")
    tree["server_list"][1]["device"] = tree["server_list"][1]["device"][:4]
    problems = check_tree(tree, chip).problems
    assert [(p.rule, p.severity) for p in problems] == [("R15", severity)]
    assert "server 10.0.0.2 has 4 cards, but 10.0.0.1 has 8" in problems[0].message


def test_three_910a_servers_work_but_not_fastest() -> None:
    tree = shipped("4x8")
    tree["server_list"].pop()
    tree["server_count"] = "3"
    problems = check_tree(tree, "910A").problems
    assert [(p.rule, p.severity) for p in problems] == [("R15", "WARN")]


def test_without_a_chip_only_what_holds_for_all_of_them_is_told_and_the_rest_is_named() -> None:
    tree = one_server([0, 1, 2])  # three cards: not on a 910A
    checked = check_tree(tree)
    assert checked.problems == ()
    assert [line.split(":")[0] for line in checked.unchecked] == ["910A", "910B", "910C"]
    assert "R15" in checked.unchecked[0]


def test_without_a_chip_the_mildest_verdict_holds() -> None:
    """An empty address with two servers: a 910B refuses it, the documents of all forbid it."""
    tree = shipped("2x8")
    tree["server_list"][0]["device"][0]["device_ip"] = ""
    problems = check_tree(tree).problems
    assert [(p.rule, p.severity) for p in problems] == [("R11", "UNSUPPORTED")]
    assert "with 910B it is worse" in problems[0].message
    assert _severities(check_tree(tree, "910B").problems, "R11") == {"ERROR"}


def test_a_dialect_of_one_chip_needs_no_naming_of_it() -> None:
    assert check_tree(shipped("superpod_4x8")).unchecked == ()


def test_one_super_pod_needs_no_addresses() -> None:
    tree = shipped("superpod_4x8")
    tree["super_pod_list"] = [
        {"super_pod_id": "0", "server_list": [{"server_id": f"10.0.0.{i}"} for i in range(1, 5)]}
    ]
    for i, server in enumerate(tree["server_list"]):
        for j, device in enumerate(server["device"]):
            device["device_ip"] = ""
            device["super_device_id"] = str(8 * i + j)
    assert check_tree(tree, "910C").problems == ()

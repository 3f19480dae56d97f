import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unet_dist.search.space import Parameter, Space


def parameter(**settings: object) -> Parameter:
    return Parameter.model_validate(settings)


PARAMETERS = [
    parameter(float=[1e-4, 1e-1], log=True),
    parameter(float=[0.0, 2.0]),
    parameter(int=[2, 9]),
    parameter(int=[1, 512], log=True),
    parameter(choice=["a", "b", "c"]),
    parameter(choice=[1, True, 1.0, "1"]),
    parameter(choice=[[1, 2], [1, 3]]),
]


@pytest.mark.parametrize("each", PARAMETERS)
@given(share=st.floats(0, 1))
def test_every_share_gives_a_value_of_the_space_and_back(each: Parameter, share: float) -> None:
    value = each.at(share)
    assert each.contains(value)
    again = each.at(each.share_of(value))
    assert type(again) is type(value)
    assert again == pytest.approx(value) if isinstance(value, float) else again == value


def test_equal_shares_for_integers_and_choices() -> None:
    numbers = [parameter(int=[1, 4]).at((i + 0.5) / 1000) for i in range(1000)]
    assert [numbers.count(number) for number in (1, 2, 3, 4)] == [250] * 4
    letters = [parameter(choice=["a", "b"]).at((i + 0.5) / 1000) for i in range(1000)]
    assert letters.count("a") == 500


def test_log_means_equal_factors() -> None:
    rates = parameter(float=[1e-4, 1e-2], log=True)
    assert rates.at(0.5) == pytest.approx(1e-3)
    assert rates.grid(3) == pytest.approx((1e-4, 1e-3, 1e-2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "exactly one of"),
        ({"float": [0, 1], "choice": [1]}, "exactly one of"),
        ({"float": [2, 1]}, "first must be the smaller"),
        ({"float": [0, 1], "log": True}, "above 0"),
        ({"choice": ["a"], "log": True}, "no effect"),
        ({"choice": ["a", "b", "a"]}, "twice"),
        ({"flaot": [0, 1]}, "flaot"),
    ],
)
def test_a_bad_parameter_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parameter(**settings)


CONDITIONAL = Space.of(
    {
        # The condition comes first in the file, what it asks about later.
        "train.momentum": parameter(float=[0.8, 0.99], when={"train.optimizer": ["sgd"]}),
        "train.optimizer": parameter(choice=["adamw", "sgd"]),
    }
)


def test_a_conditional_key_has_a_value_only_if_its_condition_holds() -> None:
    assert list(CONDITIONAL.parameters) == ["train.optimizer", "train.momentum"]
    assert CONDITIONAL.at([0.1, 0.5]) == {"train.optimizer": "adamw"}
    assert CONDITIONAL.at([0.9, 0.0]) == {"train.optimizer": "sgd", "train.momentum": 0.8}
    assert CONDITIONAL.faults_of({"train.optimizer": "adamw", "train.momentum": 0.9}) == [
        "train.momentum has a value, but its condition does not hold"
    ]
    assert CONDITIONAL.faults_of({"train.optimizer": "sgd"}) == ["train.momentum is missing"]
    assert CONDITIONAL.faults_of({"train.optimizer": "lamb", "x": 1}) == [
        "x is not in the space",
        "train.optimizer is 'lamb', outside the space",
    ]


def test_a_grid_names_each_combination_once() -> None:
    grid = CONDITIONAL.grid(3)
    assert grid[0] == {"train.optimizer": "adamw"}
    assert [point.get("train.momentum") for point in grid[1:]] == pytest.approx([0.8, 0.895, 0.99])


@pytest.mark.parametrize(
    ("when", "words"),
    [({"b": ["x"]}, "not in the space"), ({"a": [3]}, "never is"), ({"c": [1.0]}, "each other")],
)
def test_conditions_that_cannot_hold_are_refused(when: dict[str, list[object]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Space.of(
            {
                "a": parameter(choice=[1, 2]),
                "c": parameter(float=[0, 1], when={"d": [1]}),
                "d": parameter(choice=[1, 2], when=when),
            }
        )

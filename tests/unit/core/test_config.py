import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from unet_dist.config import Config
from unet_dist.config_data import DataConfig
from unet_dist.config_file import build_config, dump_config, known_keys, load_config
from unet_dist.errors import UserError

# Those of searches are of another kind (tests/unit/search/test_spec.py).
CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
    if not path.name.startswith("search_")
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    load_config(path)


def test_command_line_beats_file_beats_default(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("train: {lr: 0.5, epochs: 7}\n")
    config = load_config(path, ["train.lr=1e-3"])
    assert (config.train.lr, config.train.epochs, config.train.batch) == (0.001, 7, 8)


def test_all_faults_are_told_at_once_with_the_closest_key() -> None:
    tree = {"train": {"lrr": 1, "epochs": 0}, "model": {"norm": "layer"}, "trian": {}}
    with pytest.raises(UserError) as raised:
        build_config(tree, ["train.batch=many", "seed"], where="a.yaml")
    text = str(raised.value)
    assert text.startswith("a.yaml: 6 problems")
    assert "train.lrr: unknown key; did you mean train.lr?" in text
    assert "train.epochs" in text
    assert "'group', 'instance' or 'none', not 'layer'" in text
    assert "'seed' is not of the form key=value" in text
    assert "train.batch" in text
    assert "trian: unknown key" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.split.by=list"], "split.file must name"),
        (["data.split.by=fold", "data.split.fold=5"], "0..4"),
        (["data.mask=instances_border"], "set data.classes to 3"),
        (["data.mask=binary", "data.classes=4"], "has 2 classes"),
        (["data.ignore=255"], "needs mask: labels"),
        (["data.fov=file"], "data.fov_masks"),
        (["loss.cross_entropy=0", "loss.dice=0"], "nothing keeps the background empty"),
        (["loss.class_weights=[1,2,3]"], "has 3 values, but data.classes is 2"),
        (["train.accumulation=3"], "does not divide"),
        (["train.lr=.nan"], "finite"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_config({}, overrides, where="a.yaml")


def test_a_threshold_of_several_classes_is_for_objects_with_borders_only() -> None:
    three = ["evaluate.threshold=0.3", "data.classes=3"]
    for taken in (["data.mask=instances_border"], ["data.format=labelmap"]):
        config = build_config({}, [*three, *taken], where="test")
        assert config.evaluate.threshold == 0.3
    for refused in (
        [],
        ["data.mask=labels"],
        ["data.mask=instances_border", "evaluate.structure=region"],
    ):
        with pytest.raises(UserError, match=r"evaluate.threshold is 0\.3, but of 3 classes"):
            build_config({}, [*three, *refused], where="test")


def test_dumped_configuration_reads_back_equal() -> None:
    config = build_config({}, ["train.amp=off", "loss.class_weights=[1,2]"], where="a.yaml")
    assert Config.model_validate(yaml.safe_load(dump_config(config))) == config


def test_every_key_has_a_sentence() -> None:
    names = dict(known_keys())
    assert len(names) > 50
    missing = [name for name, field in names.items() if not field.description]
    assert not missing


def test_aliases_which_could_grow_without_limit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text("a: &a [x, x]\nb: &b [*a, *a]\n")
    with pytest.raises(UserError, match="line 2: YAML aliases"):
        load_config(path)


def test_yaml_tags_do_not_run_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    target = tmp_path / "touched"
    path.write_text(f"seed: !!python/object/apply:pathlib.Path.touch ['{target}']\n")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(path)
    assert not target.exists()


@given(st.binary(max_size=200))
def test_any_bytes_give_a_configuration_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        load_config(path)


def test_classes_have_the_names_given_or_plain_ones() -> None:
    named = DataConfig(classes=3, class_names=("background", "liver", "kidney"))
    assert named.names == ("background", "liver", "kidney")
    assert DataConfig().names == ("background", "foreground")
    assert DataConfig(classes=3).names == ("background", "class 1", "class 2")
    assert DataConfig(classes=3, format="labelmap").names == ("background", "inside", "border")


@pytest.mark.parametrize("names", [("background",), ("background", "cell", "cell"), ("a", "", "b")])
def test_class_names_are_one_different_name_for_each_class(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match=r"one name for each|at least 1 character"):
        DataConfig(classes=3, class_names=names)

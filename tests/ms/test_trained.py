"""Which weights answer for which image, with a stand-in for the networks."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.light import Alone
from unet_dist.cli.folds import configs_of, write_down
from unet_dist.config import Config
from unet_dist.config_file import build_config
from unet_dist.data.manifest import read_manifest
from unet_dist.data.synthetic import write_synthetic
from unet_dist.launching.datasets import begin_ensemble
from unet_dist.records import RecordWriter
from unet_dist.runs import Members, RunDir, write_json
from unet_dist.train.checkpoint import Checkpoint, TrainState, save_checkpoint, step_dir
from unet_dist.train.stored_threshold import stored_threshold
from unet_dist.train.trained import Trained, choose_anew, load_trained


class Constant:
    """A network whose every probability is its only weight."""

    def __init__(self, config: Config, normalisation: object) -> None:
        self.value = np.float32(0)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        self.value = weights["value"][0]

    def forward(self, image_nchw: np.ndarray) -> np.ndarray:
        number, _, height, width = image_nchw.shape
        return np.full((number, 1, height, width), self.value, np.float32)


@pytest.fixture(autouse=True)
def _constant_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_dist.evaluate.forward.Member", Constant)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "vessels"
    write_synthetic("vessels", folder, count=10, size=32, seed=0)
    return folder


def save(run: RunDir, value: float, state: TrainState, *, best: bool = True) -> None:
    weights = {"value": np.array([value], np.float32)}
    made = Checkpoint(state=state, weights=weights, optimizer={}, average={})
    save_checkpoint(run.checkpoints, made, keep=5, best=best)


def trained_members(folder: Path, config: Config, by: str, values: dict[int, float]) -> RunDir:
    """A folder of finished members, each with the probability that it gives."""
    run = RunDir(folder)
    members = Members(vary=by, values=tuple(values), parallel=1, placement={})
    found = configs_of(config, by, members.values)
    configs = dict(zip(members.names, found, strict=True))
    with run.locked():
        begin_ensemble(run, configs, Console(file=io.StringIO()))
        write_down(run, members, configs, found[0])
    for name, probability in zip(members.names, values.values(), strict=True):
        save(run.member(name), probability, TrainState(step=1))
        write_json(run.member(name).status, {"state": "done"})
    write_json(run.threshold, {"threshold": 0.4, "threshold_source": "validation"})
    return run


def loaded(run: RunDir) -> Trained:
    config = run.load_config()
    _, normalisation = read_manifest(run.dataset, config.data)
    with RecordWriter(run.records(0)) as records:
        return load_trained(run, config, normalisation, records)


def test_other_views_have_a_threshold_of_their_own(tmp_path: Path, images: Path) -> None:
    config = build_config({}, [f"data.root={images}", "data.split.test=0.2"], where="test")
    run = trained_members(tmp_path / "run", config, "seed", {0: 0.25, 1: 0.25})
    dataset, _ = read_manifest(run.dataset, config.data)
    stored = loaded(run)
    assert stored.threshold == 0.4
    anew = choose_anew(stored, config, dataset, Alone(), on_image=lambda done, total: None)
    assert anew.threshold is not None
    assert anew.threshold <= 0.25
    assert anew.source == "validation"


PROBABILITIES = {0: 0.125, 1: 0.5, 2: 0.875}


def test_an_image_that_a_fold_left_out_is_predicted_by_that_fold_alone(
    tmp_path: Path, images: Path
) -> None:
    config = build_config({}, [f"data.root={images}", "evaluate.tile=32"], where="test")
    run = trained_members(tmp_path / "run", config, "fold", PROBABILITIES)
    trained = loaded(run)
    together, _ = read_manifest(run.dataset, run.load_config().data)
    answered = 0
    for number, probability in PROBABILITIES.items():
        alone, _ = read_manifest(run.member(f"fold_{number}").dataset, config.data)
        for sample in alone.splits.val:
            prob_hwk = trained.predictor.of_sample(together, sample)
            assert prob_hwk == pytest.approx(probability), (sample.id, number)
            score = trained.predictor.score(together, sample)
            assert score.counts.squared_probability == pytest.approx(
                32 * 32 * (probability**2 + (1 - probability) ** 2)
            )
            answered += 1
    assert answered == len(together.splits.val) == 8
    for sample in together.splits.test:
        assert trained.predictor.of_sample(together, sample) == pytest.approx(0.5)  # the mean
    assert len(trained.predictor.members) == 3, "asking one member leaves the ensemble whole"


def test_an_image_that_no_seed_trained_on_is_predicted_by_all(tmp_path: Path, images: Path) -> None:
    config = build_config({}, [f"data.root={images}", "evaluate.tile=32"], where="test")
    run = trained_members(tmp_path / "run", config, "seed", {3: 0.25, 5: 0.75})
    together, _ = read_manifest(run.dataset, run.load_config().data)
    predictor = loaded(run).predictor
    for sample in (*together.splits.val, *together.splits.test):
        assert predictor.of_sample(together, sample) == pytest.approx(0.5)


def test_the_threshold_of_the_best_weights_is_not_said_to_be_that_of_others(
    tmp_path: Path, images: Path
) -> None:
    config = build_config({}, [f"data.root={images}"], where="test")
    run = trained_members(tmp_path / "run", config, "seed", {0: 0.25, 1: 0.75}).member("seed_0")
    best = TrainState(step=2, best_step=2, best_dice=0.8, threshold=0.3)
    later = TrainState(step=3, best_step=2, best_dice=0.8, threshold=0.3)
    save(run, 0.5, best)
    save(run, 0.75, later, best=False)
    whole = loaded(run)
    assert (whole.step, whole.threshold, whole.source) == (2, 0.3, "validation")

    (step_dir(run.checkpoints, 2) / "weights.safetensors").write_bytes(b"")

    damaged = loaded(run)
    assert (damaged.step, damaged.threshold, damaged.source) == (3, 0.5, "default")
    asked = build_config({}, ["evaluate.threshold=0.2"], where="test")
    assert stored_threshold(later, asked) == (0.2, "configured")

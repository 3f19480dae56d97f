from pathlib import Path

import pytest

from tests.unit.search.studies import spec_of
from unet_dist.cluster.tables.read import load_rank_table
from unet_dist.config import Config
from unet_dist.config_file import build_config, load_config
from unet_dist.errors import UserError
from unet_dist.launching.placement import Placement, check_fit
from unet_dist.runs import RunDir, write_json
from unet_dist.search.folder import StudyDir
from unet_dist.search.leases import Lease
from unet_dist.search.site import Site, check_site, place_of, train_command
from unet_dist.search.spec import SearchSpec, load_spec
from unet_dist.search.study_files import begin_study, changed, load_study, read_state, write_spec

TABLES = Path(__file__).parents[3] / "rank_tables"
SIMULATED = Site(placement=Placement(simulate=4, cores=(0, 1, 2, 3)))
CARDS = Site(placement=Placement(rank_table=str(TABLES / "1x8.json")))


def base(*overrides: str) -> Config:
    return build_config({}, overrides, where="")


def test_a_trial_gets_its_slice_of_the_rank_table(tmp_path: Path) -> None:
    placement = place_of(CARDS, Lease(0, (4, 6)), RunDir(tmp_path))
    devices = [device for _, device in load_rank_table(Path(placement.rank_table)).by_rank()]
    assert [(device.rank, device.device_id) for device in devices] == [(0, 4), (1, 6)]
    topology = placement.topology()
    assert (topology.target, topology.world) == ("Ascend", 2)


def test_the_winner_trains_where_its_trial_did() -> None:
    best = Path("s/best.yaml")
    assert train_command(best, SIMULATED, 2) == "unet-dist train s/best.yaml --simulate 2"
    table = CARDS.placement.rank_table
    whole, part = (train_command(best, CARDS, cards) for cards in (8, 2))
    assert whole == f"unet-dist train s/best.yaml --rank-table {table}"
    assert part == (
        f"unet-dist rank-table slice {table} --ranks 0-1 -o s/cards_2.json && "
        "unet-dist train s/best.yaml --rank-table s/cards_2.json"
    )


def test_simulated_cards_have_cores_of_their_own(tmp_path: Path) -> None:
    places = [
        place_of(SIMULATED, lease, RunDir(tmp_path)) for lease in (Lease(0, (0, 1)), Lease(1, (3,)))
    ]
    assert [(place.simulate, place.cores) for place in places] == [(2, (0, 1)), (1, (3,))]


@pytest.mark.parametrize(
    ("site", "widths", "overrides", "words"),
    [
        (SIMULATED, [3], [], "3 of 4 cards never make a job"),
        (CARDS, [1, 8, 16], ["train.batch=16"], "16 of 8 cards never make a job"),
        (SIMULATED, [4], ["train.batch=2"], "2 images per step cannot be shared equally by 4"),
        (SIMULATED, [1, 2], ["train.amp=bf16"], "no convolution kernels on the CPU"),
    ],
)
def test_widths_that_can_never_start_are_refused(
    site: Site, widths: list[int], overrides: list[str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        check_site(spec_of(cards=widths), base(*overrides), site)


def test_what_the_space_leaves_as_it_is_is_judged_as_train_does() -> None:
    space = {"train.batch": {"choice": [2, 4]}}
    for overrides in (["train.amp=bf16"], ["train.start_from=nowhere"]):
        with pytest.raises(UserError) as ours:
            check_site(spec_of(space=space, cards=[2]), base(*overrides), SIMULATED)
        with pytest.raises(UserError) as trains:
            check_fit(base(*overrides), 2, "CPU")
        assert str(ours.value) == str(trains.value)
    with pytest.raises(UserError, match="3 problems") as told:
        check_site(spec_of(space=space, cards=[1, 3]), base("train.amp=bf16"), SIMULATED)
    assert "3 of 4 cards never make a job" in str(told.value)
    assert "shared equally by 3 ranks" in str(told.value)
    assert "no convolution kernels" in str(told.value)


def test_batches_of_which_none_fits_the_cards_are_refused() -> None:
    space = {"train.batch": {"choice": [2, 6]}, "train.accumulation": {"int": [1, 2]}}
    check_site(spec_of(space=space, cards=[2]), base(), SIMULATED)
    with pytest.raises(UserError, match=r"by 4 ranks .*accumulation and train\.batch"):
        check_site(spec_of(space=space, cards=[2, 4]), base(), SIMULATED)
    # 6 images in 3 passes are 2 at a time, and 4 never divides them.
    space = {"train.accumulation": {"int": [1, 3]}}
    with pytest.raises(UserError, match=r"by 4 ranks .*of train\.accumulation"):
        check_site(spec_of(space=space, cards=[4]), base("train.batch=6"), SIMULATED)


def test_what_is_searched_is_judged_trial_by_trial() -> None:
    space = {"train.batch": {"choice": [2, 4]}}
    check_site(spec_of(space=space, cards=[4]), base("train.batch=2"), SIMULATED)
    check_site(spec_of(cards=[2]), base("train.amp=bf16"), CARDS)


def test_a_controller_leads_the_cards_of_one_server() -> None:
    both = Site(placement=Placement(rank_table=str(TABLES / "2x8.json"), server_id="10.0.0.1"))
    with pytest.raises(UserError, match="has 2 servers"):
        both.fits()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("train: {epochs: 27, batch: 8}\nseed: 5\n")
    path = tmp_path / "search.yaml"
    path.write_text("base: base.yaml\nset: [train.lr=0.5]\nspace: {model.width: {int: [2, 8]}}\n")
    return path


def begun(file: Path, site: Site) -> tuple[StudyDir, SearchSpec]:
    study = StudyDir(file.parent / "study")
    study.path.mkdir(exist_ok=True)
    return study, begin_study(study, load_spec(file), file, site)


def test_a_study_comes_out_of_its_folder_as_it_went_in(file: Path) -> None:
    study, spec = begun(file, SIMULATED)
    assert load_study(study) == (spec, SIMULATED)
    config = load_config(study.base)
    assert (config.train.lr, config.data.split.seed) == (0.5, 5)
    with pytest.raises(UserError, match=r"go on with unet-dist search .* --resume"):
        begun(file, SIMULATED)


def test_a_start_that_was_killed_in_its_folder_begins_anew(file: Path) -> None:
    study, spec = begun(file, SIMULATED)
    study.spec.unlink()
    assert begun(file, SIMULATED)[1] == spec
    study.spec.unlink()
    # As the check of the data set leaves it.
    known = study.data_set("0123").path
    known.mkdir(parents=True)
    for name in (".lock", "dataset.json"):
        (known / name).touch()
    assert begun(file, SIMULATED)[1] == spec
    study.spec.unlink()
    (known / "image.png").touch()
    with pytest.raises(UserError, match="not empty"):
        begun(file, SIMULATED)
    (known / "image.png").unlink()
    (study.path / "other").touch()
    with pytest.raises(UserError, match="not empty"):
        begun(file, SIMULATED)


def test_another_controller_joins_the_same_study_with_its_own_cards(file: Path) -> None:
    shared = Site(placement=Placement(simulate=4), storage="postgresql://host/name")
    other = Site(placement=Placement(simulate=2), storage="postgresql://host/name")
    study, spec = begun(file, shared)
    assert begun(file, other)[1] == spec
    assert load_study(study)[1] == shared
    file.write_text(file.read_text() + "seed: 3\n")
    with pytest.raises(UserError, match="holds another study"):
        begun(file, other)


def test_changes_from_the_command_line_are_checked_before_they_are_written(file: Path) -> None:
    study, spec = begun(file, SIMULATED)
    write_spec(study, changed(spec, {"budget.trials": 60, "cards": [1, 2]}, study.spec))
    after, _ = load_study(study)
    assert (after.budget.trials, after.cards) == (60, (1, 2))
    with pytest.raises(UserError, match=r"budget\.trials"):
        changed(spec, {"budget.trials": 0}, study.spec)


def test_a_controller_that_is_gone_is_told(file: Path) -> None:
    study, _ = begun(file, SIMULATED)
    assert read_state(study, SIMULATED) == {"state": "not started"}
    write_json(study.status, {"state": "running"})
    assert read_state(study, SIMULATED)["state"] == "killed"
    with RunDir(study.path).locked():
        assert read_state(study, SIMULATED) == {"state": "running"}
    write_json(study.status, {"state": "done", "reason": "all trials are done"})
    assert read_state(study, SIMULATED)["reason"] == "all trials are done"

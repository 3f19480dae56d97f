from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_dist.config_data import SplitConfig
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.data.splits import split_samples
from unet_dist.errors import UserError

IMAGE = ImageRef(path=Path("image.png"))


def sample(id_: str, group: str = "", subset: str = "") -> Sample:
    return Sample(id=id_, group=group or id_, image=IMAGE, mask=IMAGE, subset=subset)


def ids(samples) -> list[str]:
    return [sample.id for sample in samples]


def numbered(count: int, each: int = 1) -> list[Sample]:
    return [sample(f"p{n}-{k}", f"p{n}") for n in range(count) for k in range(each)]


patients = st.lists(st.integers(0, 30), min_size=12, max_size=60).filter(lambda g: len(set(g)) >= 8)


@settings(max_examples=60, deadline=None)
@given(
    groups=patients,
    seed=st.integers(0, 2**32 - 1),
    by=st.sampled_from(["ratio", "fold"]),
    test=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_every_sample_is_in_one_part_and_every_patient_on_one_side(groups, seed, by, test):
    samples = [sample(f"s{i}", f"g{group}") for i, group in enumerate(groups)]
    splits = split_samples(samples, SplitConfig(by=by, test=test), seed=seed)
    parts = list(splits.parts().values())
    assert sorted(id_ for part in parts for id_ in ids(part)) == sorted(ids(samples))
    sides = [{sample.group for sample in part} for part in parts]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert splits.train
    assert splits.val
    assert bool(splits.test) == (test > 0)
    backwards = split_samples(samples[::-1], SplitConfig(by=by, test=test), seed=seed)
    assert backwards == splits


def test_ratio_takes_the_shares_of_the_patients():
    splits = split_samples(numbered(20, each=2), SplitConfig(test=0.25, val=0.2), seed=3)
    assert {part: len(found) for part, found in splits.parts().items()} == {
        "train": 24,  # 20 patients: 5 test, 0.2 of the other 15 are 3
        "val": 6,
        "test": 10,
    }


def test_seed_changes_the_division_and_one_more_patient_hardly_does():
    few, more = numbered(20), numbered(21)
    config = SplitConfig(test=0.25)
    assert split_samples(few, config, seed=0) != split_samples(few, config, seed=1)
    before = set(ids(split_samples(few, config, seed=0).test))
    after = set(ids(split_samples(more, config, seed=0).test))
    assert len(before - after) <= 1


def test_folds_validate_every_patient_once_beside_the_same_test():
    samples = numbered(13, each=2)
    folds = [
        split_samples(samples, SplitConfig(by="fold", folds=4, fold=fold), seed=5)
        for fold in range(4)
    ]
    assert len({fold.test for fold in folds}) == 1
    validated = sorted(id_ for fold in folds for id_ in ids(fold.val))
    assert validated == sorted(set(ids(samples)) - set(ids(folds[0].test)))
    sizes = [len(fold.val) for fold in folds]
    assert max(sizes) - min(sizes) <= 2  # one patient of two images


def stack(pages: int, name: str = "volume.tif") -> list[Sample]:
    refs = [ImageRef(path=Path(name), page=page) for page in range(pages)]
    return [Sample(id=f"s-{r.page}", group=f"s-{r.page}", image=r, mask=r) for r in refs]


def pages_of(samples) -> list[int]:
    return [sample.image.page for sample in samples]


@pytest.mark.parametrize(("folds", "test"), [(4, 0.2), (5, 0), (3, 0.1)])
def test_folds_of_a_stack_are_blocks_of_neighbours(folds, test):
    seen: list[int] = []
    for fold in range(folds):
        config = SplitConfig(by="fold", folds=folds, fold=fold, test=test)
        splits = split_samples(stack(22), config, seed=fold)
        for part in (splits.val, splits.test):
            pages = pages_of(part)
            assert pages == list(range(min(pages, default=0), min(pages, default=0) + len(pages)))
        assert len(splits.val) in (len(splits.train) // (folds - 1) + k for k in (-1, 0, 1))
        seen += pages_of(splits.val)
    tests = round(22 * test)
    assert sorted(seen) == list(range(22 - tests))
    assert pages_of(splits.test) == list(range(22 - tests, 22))


def test_shares_of_a_stack_are_blocks_too_and_whole_volumes_are_drawn():
    splits = split_samples(stack(20), SplitConfig(by="ratio", test=0.2, val=0.25), seed=1)
    assert pages_of(splits.test) == [16, 17, 18, 19]
    assert pages_of(splits.val) == [12, 13, 14, 15]
    volumes = [
        Sample(id=f"v{n}-{s.id}", group=f"v{n}", image=s.image, mask=s.mask)
        for n in range(9)
        for s in stack(2, f"v{n}.tif")
    ]
    drawn = [
        {s.group for s in split_samples(volumes, SplitConfig(by="fold"), seed=n).val}
        for n in range(4)
    ]
    assert len(set(map(frozenset, drawn))) > 1


def test_folds_keep_the_official_test():
    samples = [sample(f"t{n}", subset="test") for n in range(4)]
    samples += [sample(f"a{n}", subset="train") for n in range(6)]
    splits = split_samples(samples, SplitConfig(by="fold", folds=3), seed=0)
    assert ids(splits.test) == ["t0", "t1", "t2", "t3"]
    assert (len(splits.val), len(splits.train)) == (2, 4)


def test_official_validates_on_the_last_training_patients():
    samples = [sample(f"i{n}{eye}", f"i{n}", "train") for n in range(1, 5) for eye in "LR"]
    samples.append(sample("i9L", "i9", "test"))
    splits = split_samples(samples, SplitConfig(by="official", val=0.1), seed=0)
    assert ids(splits.val) == ["i4L", "i4R"]  # at least one patient
    assert ids(splits.test) == ["i9L"]
    assert len(splits.train) == 6
    none = split_samples(samples, SplitConfig(by="official", val=0), seed=0)
    assert (none.val, len(none.train)) == ((), 8)


def test_official_takes_a_validation_part_that_exists():
    samples = [sample("a", subset="train"), sample("b", subset="val"), sample("c", subset="test")]
    splits = split_samples(samples, SplitConfig(by="official", val=0.9), seed=0)
    assert (ids(splits.train), ids(splits.val), ids(splits.test)) == (["a"], ["b"], ["c"])


def fault_of(samples, **keys) -> str:
    with pytest.raises(UserError) as caught:
        split_samples(samples, SplitConfig(**keys), seed=0)
    return str(caught.value)


def test_official_needs_a_division():
    assert "does not say where p0-0, p1-0 belong" in fault_of(numbered(2), by="official")


def test_official_division_must_not_cut_a_patient():
    samples = [sample("a", "p", "train"), sample("b", "p", "test"), sample("c", "q", "train")]
    assert "patient p is in test and in train" in fault_of(samples, by="official")


def test_too_few_patients_are_told_with_their_numbers():
    assert "2 patients (or samples) are too few: test 1, val 1, train 0" in fault_of(
        numbered(2, each=5), by="ratio"
    )
    assert "5 folds need as many patients, but 2 of 3" in fault_of(numbered(3), by="fold")
    only = [sample("a", subset="train")]
    assert "too few" in fault_of(only, by="official")
    assert "nothing to train" in fault_of([sample("a", subset="val")], by="official")


def by_list(tmp_path, text: str) -> dict:
    path = tmp_path / "split.yaml"
    path.write_text(text)
    return {"by": "list", "file": str(path)}


def test_list_divides_as_written_and_leaves_others_out(tmp_path):
    keys = by_list(tmp_path, "train: [p0-0, p2-0]\nval: [p1-0]\ntest: []\n")
    splits = split_samples(numbered(4), SplitConfig(**keys), seed=0)
    assert ids(splits.train) == ["p0-0", "p2-0"]
    assert ids(splits.val) == ["p1-0"]
    assert splits.test == ()


def test_list_tells_all_faults_at_once(tmp_path):
    keys = by_list(
        tmp_path, "train: [p0-0, p1-0, p0-0, 7]\nval: [p1-0, p1-1, p9-0]\ntests: [p2-0]\n"
    )
    message = fault_of(numbered(4, each=2), **keys)
    for words in (
        "unknown key tests",
        "the key test is missing",
        "p0-0 is twice in train",
        "7 is not text: write the id in quotes",
        "p1-0 is in train and in val",
        "no sample p9-0; the closest name is",
        "patient p1 is in train and in val",
    ):
        assert words in message
    assert "split.yaml: 7 problems" in message


def test_list_must_hold_lists_and_train_something(tmp_path):
    keys = by_list(tmp_path, "train: p0-0\nval: []\ntest: []\n")
    assert "train must be a list" in fault_of(numbered(1), **keys)
    keys = by_list(tmp_path, "train: []\nval: [p0-0]\ntest: []\n")
    assert "train is empty" in fault_of(numbered(1), **keys)


def by_order(tmp_path, text: str) -> dict:
    path = tmp_path / "index.csv"
    path.write_text(text)
    return {"by": "order", "file": str(path), "val": 0.25, "test": 0.2}


def test_order_takes_the_first_to_train_and_the_last_to_test(tmp_path):
    order = ["p3-0", "p0-0", "p4-0", "p1-0", "p2-0"]
    keys = by_order(tmp_path, "id,size\n" + "".join(f"{id_},7\n" for id_ in order))
    splits = split_samples(numbered(5), SplitConfig(**keys), seed=0)
    assert ids(splits.train) == ["p0-0", "p3-0", "p4-0"]
    assert ids(splits.val) == ["p1-0"]
    assert ids(splits.test) == ["p2-0"]


def test_order_without_a_file_is_the_natural_one():
    samples = numbered(11)[::-1]
    splits = split_samples(samples, SplitConfig(by="order", val=0.1, test=0.1), seed=0)
    assert ids(splits.test) == ["p10-0"]
    assert ids(splits.val) == ["p9-0"]


def test_order_tells_every_id_that_is_wrong(tmp_path):
    keys = by_order(tmp_path, "id\np0-0\np0-0\np1-O\n")
    with pytest.raises(UserError) as caught:
        split_samples(numbered(2), SplitConfig(**keys), seed=0)
    assert list(caught.value.faults) == [
        "p0-0 is listed 2 times",
        "p1-0 is not listed",
        "there is no sample p1-O; the closest name is p1-0",
    ]


def test_order_of_more_images_than_are_there_is_one_fault_with_its_cure(tmp_path):
    keys = by_order(tmp_path, "id\n" + "".join(f"p{number}-0\n" for number in range(20)))
    with pytest.raises(UserError) as caught:
        split_samples(numbered(8), SplitConfig(**keys), seed=0)
    [fault] = caught.value.faults
    assert fault == (
        "12 of 20 ids have no image: p8-0, p9-0, p10-0 and 9 more; name a shorter list with "
        "data.split.file"
    )


@pytest.mark.parametrize("rule", ["official", "order", "list"])
def test_folds_leave_the_test_to_the_rule_that_set_it_aside(tmp_path, rule):
    samples = [sample(f"s{n:02}", subset="test" if n >= 9 else "train") for n in range(12)]
    lists = tmp_path / "lists.yaml"
    lists.write_text("train: [s00, s01, s02]\nval: [s03, s04, s05]\ntest: [s09, s10, s11]\n")
    before = SplitConfig(by=rule, file=str(lists) if rule == "list" else "", test=0.25)
    tests = ids(split_samples(samples, before, seed=0).test)
    assert tests == ["s09", "s10", "s11"]
    validated = []
    for fold in range(3):
        settings = {"by": "fold", "test_by": rule, "folds": 3, "fold": fold}
        splits = split_samples(samples, before.model_copy(update=settings), seed=0)
        assert ids(splits.test) == tests
        validated += ids(splits.val)
    listed = 6 if rule == "list" else 9
    assert sorted(validated) == [f"s{n:02}" for n in range(listed)]


def test_a_seed_of_the_split_keeps_the_division_when_the_run_has_another():
    samples = numbered(20)
    split = SplitConfig(by="ratio", seed=0)
    assert split_samples(samples, split, seed=0) == split_samples(samples, split, seed=7)
    drawn_anew = split_samples(samples, SplitConfig(by="ratio"), seed=7)
    assert split_samples(samples, split, seed=7) != drawn_anew


def test_the_official_test_that_is_not_there_is_refused():
    assert "does not say where" in fault_of(numbered(8), by="fold", test_by="official")

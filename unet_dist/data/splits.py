"""Which samples train, validate and test; a patient is always on one side only."""

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_dist.config_data import SplitConfig
from unet_dist.config_file import read_yaml_mapping
from unet_dist.data.listing import closest, each_or_together, natural_key, some
from unet_dist.data.sample import Sample
from unet_dist.errors import UserError

PARTS = ("train", "val", "test")
MAX_ORDER_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Each part in natural order of the sample ids."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]

    def parts(self) -> dict[str, tuple[Sample, ...]]:
        return {"train": self.train, "val": self.val, "test": self.test}


def split_samples(samples: Sequence[Sample], config: SplitConfig, *, seed: int) -> Splits:
    """Divides the samples as the configuration says.

    The result depends on the ids, the groups, the configuration and the seed, not on the order
    of the samples, on the machine or on NumPy's version. Where several groups are slices of one
    stack, ratio and fold don't draw but cut it into blocks, so that a slice and its neighbours
    are on one side but for the ends of a block.

    Raises:
        UserError: with all faults, such as too few patients or a patient on both sides.
    """
    seed = seed if config.seed is None else config.seed
    if config.by == "list":
        return _by_list(samples, Path(config.file))
    if config.by == "fold":
        return _fold(samples, config, seed)
    if config.by == "order":
        samples = _in_order(samples, config.file)
    groups = sorted({sample.group for sample in samples}, key=natural_key)
    if config.by == "official":
        part_of_group = _official(samples, groups, config)
    elif config.by == "order":
        in_order = list(dict.fromkeys(sample.group for sample in samples))
        part_of_group = _shares(in_order[::-1], config, "data.split.by=order")
    else:
        order = groups[::-1] if cut_stacks(samples) else _shuffled(groups, seed)
        part_of_group = _shares(order, config, "data.split.by=ratio")
    return _gather(samples, {s.id: part_of_group[s.group] for s in samples})


def _official(
    samples: Sequence[Sample], groups: Sequence[str], config: SplitConfig
) -> dict[str, str]:
    """The data set's own parts; without its own val, the last of the training patients."""
    part_of_group = _official_parts(samples, "data.split.by=official")
    if "val" in part_of_group.values():
        return _need_train(part_of_group, "data.split.by=official")
    train = [group for group in groups if part_of_group[group] == "train"]
    number = _share(config.val, len(train))
    _check_enough(
        {"val": number, "train": len(train) - number}, len(train), "data.split.by=official"
    )
    return part_of_group | dict.fromkeys(train[len(train) - number :], "val")


def _official_parts(samples: Sequence[Sample], where: str) -> dict[str, str]:
    nowhere = [sample.id for sample in samples if sample.subset not in PARTS]
    if nowhere:
        raise UserError(
            where, f"the data set does not say where {some(nowhere)} belong: use ratio or list"
        )
    return _subsets(samples)


def _shares(order: Sequence[str], config: SplitConfig, where: str) -> dict[str, str]:
    """The share ``test`` of all patients, then the share ``val`` of the others."""
    tests = _share(config.test, len(order))
    vals = _share(config.val, len(order) - tests)
    wanted = {"test": tests, "val": vals, "train": len(order) - tests - vals}
    _check_enough(wanted, len(order), where)
    return (
        dict.fromkeys(order[:tests], "test")
        | dict.fromkeys(order[tests : tests + vals], "val")
        | dict.fromkeys(order[tests + vals :], "train")
    )


def _in_order(samples: Sequence[Sample], file: str) -> list[Sample]:
    """In natural order, or as a CSV file lists them, which must name every one."""
    if not file:
        return sorted(samples, key=lambda sample: natural_key(sample.id))
    path = Path(file)
    try:
        if path.stat().st_size > MAX_ORDER_BYTES:
            raise UserError(str(path), f"larger than {MAX_ORDER_BYTES} bytes: not a list of ids")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row][1:]
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(path), f"not a CSV file in UTF-8: {error}") from error
    known = {sample.id: sample for sample in samples}
    listed = [row[0].strip() for row in rows]
    if faults := _order_faults(listed, known):
        raise UserError(str(path), faults)
    return [known[id_] for id_ in listed]


def _order_faults(listed: Sequence[str], known: Mapping[str, Sample]) -> list[str]:
    counts = Counter(listed)
    return [
        *each_or_together(
            [id_ for id_, number in counts.items() if number > 1],
            lambda id_: f"{id_} is listed {counts[id_]} times",
            "ids are listed more than once",
            "keep one line of each",
        ),
        *each_or_together(
            [id_ for id_ in known if id_ not in counts],
            lambda id_: f"{id_} is not listed",
            f"of {len(known)} images are not listed",
            "add their ids, or take the images out of the data set",
        ),
        *each_or_together(
            [id_ for id_ in counts if id_ not in known],
            lambda id_: f"there is no sample {id_}{closest(id_, known)}",
            f"of {len(counts)} ids have no image",
            "name a shorter list with data.split.file",
        ),
    ]


def _fold(samples: Sequence[Sample], config: SplitConfig, seed: int) -> Splits:
    """Sets the test patients aside, and deals the others; the same tests in every fold."""
    rule = config.test_by
    tests: set[str] | None = None
    if rule in ("order", "list"):
        aside = split_samples(samples, config.model_copy(update={"by": rule}), seed=seed).parts()
        samples = [sample for part in aside.values() for sample in part]
        tests = {sample.group for sample in aside["test"]}
    elif rule == "official":
        tests = _tests_of(_official_parts(samples, "data.split.test_by=official"))
    elif rule == "auto" and any(sample.subset == "test" for sample in samples):
        tests = _tests_of(_subsets(samples))
    groups = sorted({sample.group for sample in samples}, key=natural_key)
    in_blocks = bool(cut_stacks(samples))
    order = groups[::-1] if in_blocks else _shuffled(groups, seed)
    if tests is None:
        tests = set(order[: _share(config.test, len(order))])
    rest = [group for group in order if group not in tests]
    if len(rest) < config.folds:
        raise UserError(
            "data.split.by=fold",
            f"{config.folds} folds need as many patients, but {len(rest)} of {len(order)} are "
            "left beside the test: set data.split.folds or data.split.test lower",
        )
    dealt = rest[config.fold :: config.folds]
    if in_blocks:
        start, end = (
            len(rest) * number // config.folds for number in (config.fold, config.fold + 1)
        )
        dealt = rest[::-1][start:end]
    part_of_group = (
        dict.fromkeys(tests, "test") | dict.fromkeys(rest, "train") | dict.fromkeys(dealt, "val")
    )
    return _gather(samples, {sample.id: part_of_group[sample.group] for sample in samples})


def are_folds(configs: Sequence[SplitConfig]) -> bool:
    """Whether several runs of one data set each leave out another part of it."""
    return len({config.fold for config in configs}) > 1


def cut_stacks(samples: Sequence[Sample]) -> list[Path]:
    """The stacks whose slices are of several groups, such as that of ISBI 2012."""
    group_of_page: dict[Path, dict[int, str]] = {}
    for sample in samples:
        group_of_page.setdefault(sample.image.path, {})[sample.image.page] = sample.group
    return sorted(path for path, pages in group_of_page.items() if len(set(pages.values())) > 1)


def _tests_of(part_of_group: Mapping[str, str]) -> set[str]:
    return {group for group, part in part_of_group.items() if part == "test"}


def _by_list(samples: Sequence[Sample], path: Path) -> Splits:
    """Reads the ids of each part; samples in no list are left out."""
    tree = read_yaml_mapping(path)
    known = {sample.id: sample for sample in samples}
    faults = [f"unknown key {key}: the keys are train, val and test" for key in tree.keys() - PARTS]
    faults += [f"the key {part} is missing; [] for none" for part in PARTS if part not in tree]
    part_of_id: dict[str, str] = {}
    unknown: list[str] = []
    for part in PARTS:
        ids = tree.get(part, [])
        if not isinstance(ids, list):
            faults.append(f"{part} must be a list of sample ids, not {ids!r:.60}")
            continue
        for id_ in ids:
            if not isinstance(id_, str):
                # YAML reads 01 as the number 1: the name is lost.
                faults.append(f"{part}: {id_!r:.60} is not text: write the id in quotes")
            elif id_ not in known:
                unknown.append(id_)
            elif id_ in part_of_id:
                before = part_of_id[id_]
                again = f"twice in {part}" if before == part else f"in {before} and in {part}"
                faults.append(f"{id_} is {again}")
            else:
                part_of_id[id_] = part
    faults += each_or_together(
        unknown,
        lambda id_: f"there is no sample {id_}{closest(id_, known)}",
        "of the ids have no image",
        "name a shorter list with data.split.file",
    )
    faults += _spread_groups([known[id_] for id_ in part_of_id], part_of_id)
    if not faults and "train" not in part_of_id.values():
        faults.append("train is empty: there is nothing to train on")
    if faults:
        raise UserError(str(path), faults)
    return _gather([known[id_] for id_ in part_of_id], part_of_id)


def _subsets(samples: Sequence[Sample]) -> dict[str, str]:
    subset_of_id = {sample.id: sample.subset for sample in samples}
    if faults := _spread_groups(samples, subset_of_id):
        raise UserError("the data set's own division", faults)
    return {sample.group: sample.subset for sample in samples}


def _spread_groups(samples: Sequence[Sample], part_of_id: Mapping[str, str]) -> list[str]:
    parts: dict[str, set[str]] = {}
    for sample in samples:
        parts.setdefault(sample.group, set()).add(part_of_id[sample.id])
    return each_or_together(
        sorted(group for group, found in parts.items() if len(found) > 1),
        lambda group: (
            f"patient {group} is in {' and in '.join(sorted(parts[group]))}: "
            "one patient, one side (data.split.group says what a patient is)"
        ),
        "patients are in several parts",
        "one patient, one side (data.split.group says what a patient is)",
    )


def _shuffled(groups: Sequence[str], seed: int) -> list[str]:
    """A seeded order by digest: one patient more or less leaves the order of the others."""
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())


def _share(share: float, number: int) -> int:
    """The nearest number, halves up; at least 1 of a share that is not 0."""
    return max(1, int(share * number + 0.5)) if share > 0 else 0


def _check_enough(wanted: Mapping[str, int], number: int, where: str) -> None:
    if wanted["train"] < 1:
        sizes = ", ".join(f"{part} {max(size, 0)}" for part, size in wanted.items())
        raise UserError(
            where,
            f"{number} patients (or samples) are too few: {sizes}; bring more, or set "
            "data.split.val or data.split.test lower",
        )


def _need_train(part_of_group: dict[str, str], where: str) -> dict[str, str]:
    if "train" not in part_of_group.values():
        raise UserError(where, "no sample is in train: there is nothing to train on")
    return part_of_group


def _gather(samples: Sequence[Sample], part_of_id: Mapping[str, str]) -> Splits:
    ordered = sorted(samples, key=lambda sample: natural_key(sample.id))
    train, val, test = (tuple(s for s in ordered if part_of_id[s.id] == part) for part in PARTS)
    return Splits(train=train, val=val, test=test)

"""Where a result came from: data, network, ranks, versions, and how to get it again."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unet_dist.config import Config
from unet_dist.config_file import known_keys, value_of
from unet_dist.data.manifest import read_manifest
from unet_dist.errors import counted
from unet_dist.records import read_records
from unet_dist.runs import RunDir, read_json

DEVICES = {"CPU": " simulated on the CPU", "Ascend": " on Ascend cards"}


def facts_of(
    run: RunDir,
    config: Config,
    evaluation: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """Name and value of what was trained on what, where, and for how long."""
    dataset, _ = read_manifest(run.dataset, config.data)
    parts = {name: len(part) for name, part in dataset.splits.parts().items()}
    images = ", ".join(f"{number} {name}" for name, number in parts.items())
    if run.is_ensemble() and run.load_members().vary == "fold":
        images = f"{parts['val']} images each left out once, {parts['test']} test"
    steps = [
        f"{one['name']} step {one['checkpoint_step']}" for one in evaluation.get("members", ())
    ]
    versions = evaluation["fingerprint"]["versions"]
    facts = [
        ("data set", data_set_of(config)),
        ("evaluated", evaluated_on(run, evaluation["split"], records)),
        ("images", images),
        ("masks", dataset.coding.describe()),
        ("weights", ", ".join(steps) or f"step {evaluation['checkpoint_step']}"),
    ]
    trained = records
    if run.is_ensemble():  # its members were trained alike
        trained = list(read_records(run.networks()[0].records(0)))
    starts = [record for record in trained if record.get("kind") == "start"]
    if starts:
        start = starts[-1]
        facts += [
            ("network", f"{start['parameters']:,} parameters"),
            ("training", f"{start['total_steps']} steps of {start['batch']} crops"),
        ]
    speeds = [one["images_per_s"] for one in trained if one.get("images_per_s") is not None]
    if speeds:
        facts.append(("speed", f"{statistics.median(speeds):.3g} crops/s, median"))
    facts += _attempts(run, records)
    facts.append(("versions", ", ".join(f"{name} {one}" for name, one in versions.items())))
    return facts


def data_set_of(config: Config) -> str:
    return f"{Path(config.data.root).absolute().name}, format {config.data.format}"


def evaluated_on(run: RunDir, split: str, records: Sequence[Mapping[str, Any]]) -> str:
    """The day, where this is read; a copy of the run keeps it."""
    phase = f"evaluating the {split} split"
    times = [one["time"] for one in records if one.get("phase") == phase and "time" in one]
    when = times[-1] if times else run.evaluation(split).stat().st_mtime
    return f"{datetime.fromtimestamp(when, UTC).astimezone():%Y-%m-%d}"


def _attempts(run: RunDir, records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Of each start of the ranks: what it did where, how it ended and after how long; predictions
    change no number of a report. The one that writes this report has not ended yet."""
    timeline = list(read_records(run.timeline))
    ends = {one["attempt"]: one for one in timeline if one.get("kind") == "end"}
    facts = []
    for start in (one for one in timeline if one.get("kind") == "attempt"):
        number = int(start["attempt"])
        plan = run.attempt(number).plan
        tree = read_json(plan) if plan.exists() else {}
        if tree.get("job", {}).get("kind") == "predict":
            continue
        ranks = counted(start["ranks"], "rank")
        # What simulated ranks say of speed is not a card's.
        device = DEVICES.get(tree.get("target", ""), "")
        what = f"{tree.get('job', {}).get('kind', 'job')}, {ranks}{device} by {start['engine']}"
        end = ends.get(number)
        if end:
            what += f": {end['state']} after {(end['time'] - start['time']) / 60:.1f} min"
        elif number == run.next_attempt() - 1 and records and "time" in records[-1]:
            what += f": this report after {(records[-1]['time'] - start['time']) / 60:.1f} min"
        facts.append((f"attempt {number}", what))
    return facts


def command_of(run: RunDir) -> str:
    """What trains the run again, for a shell."""
    placement = run.last_placement()
    words: list[object] = ["unet-dist", "train", run.path / "config.yaml"]
    hosts = [
        f"{host['name']}:{host['slots']}" if host.get("slots") else host["name"]
        for host in placement.get("hosts", ())
    ]
    options = {
        "--rank-table": placement.get("rank_table"),
        "--simulate": placement.get("simulate"),
        "--hosts": ",".join(hosts),
        "--comm": "" if placement.get("comm") == "mpi" else placement.get("comm"),
    }
    if run.is_ensemble():
        members = run.load_members()
        if members.vary == "fold":
            options["--folds"] = len(members.values)
        else:
            options["--seeds"] = ",".join(map(str, members.values))
    words += [word for option in options.items() if option[1] for word in option]
    return shlex.join(map(str, [*words, "--run", "NEW"]))


def settings_of(config: Config, base: Config | None) -> str:
    """A line for each key, or for each that differs from the base."""
    return "\n".join(
        f"{key}: {value_of(config, key)}"
        for key, _ in known_keys()
        if base is None or value_of(config, key) != value_of(base, key)
    )

"""Makes the table of learning curves with which searches are compared.

    unet-dist data synth vessels data/curves --count 24 --size 64 --seed 7
    unet-dist search tools/record_curves.yaml data.root=data/curves --simulate 2 \\
        --run searches/curves                                                      # some 40 min
    tools/record_curves.py searches/curves tests/unit/search/curves.json

Of every trial the settings, the Dice of the validation images after each epoch, the parameters and
the seconds of an epoch.
"""

import json
import statistics
import sys
from pathlib import Path

from unet_dist.records import read_records
from unet_dist.search.folder import StudyDir
from unet_dist.search.study_files import read_study
from unet_dist.search.trials import State


def main() -> None:
    folder, target = StudyDir(Path(sys.argv[1])), Path(sys.argv[2])
    study, _ = read_study(folder)
    rows = []
    for trial in study.trials:
        records = list(read_records(folder.trial(trial.number).records(0)))
        starts = [record for record in records if record["kind"] == "start"]
        if trial.state is not State.COMPLETE or len(starts) != 1:
            sys.stderr.write(f"trial {trial.number} is {trial.state.value}, left out\n")
            continue
        # The first steps hold the compilation.
        steps = [record["step_s"] for record in records if record["kind"] == "step"][2:]
        rows.append(
            {
                "params": dict(trial.params),
                "parameters": starts[0]["parameters"],
                "epoch_s": round(statistics.median(steps) * starts[0]["steps_per_epoch"], 4),
                "dice": [round(r["dice"], 4) for r in records if r["kind"] == "eval"],
            }
        )
    space = {key: list(each.choice) for key, each in study.spec.space.items()}
    text = ",\n".join(json.dumps(row) for row in rows)
    target.write_text(f'{{"space": {json.dumps(space)}, "curves": [\n{text}\n]}}\n')
    sys.stdout.write(f"{len(rows)} curves in {target}, {target.stat().st_size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()

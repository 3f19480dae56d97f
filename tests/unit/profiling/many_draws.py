"""How often the first advice names a planted fault, and how often a clean job gets none.

    python -m tests.unit.profiling.many_draws --draws 120     # of each kind, and 120 clean ones

Faults and jobs are those of ``test_advice.py``, with draws that its tests do not use. Exits 1 if
any is wrong.
"""

import argparse
import json
import sys

import numpy as np

from tests.unit.profiling.planted import clean, run
from tests.unit.profiling.test_advice import FAULTS, first_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=120, help="of each kind")
    parser.add_argument("--first", type=int, default=1000, help="number of the first draw")
    asked = parser.parse_args()
    draws = range(asked.first, asked.first + asked.draws)
    right, wrong = {}, []
    for place, fault in enumerate(FAULTS):
        right[fault.__name__] = 0
        for draw in draws:
            job, expected = fault(np.random.default_rng([draw, place]))
            first, shares = first_of(run(job, draw))
            if expected in first:
                right[fault.__name__] += 1
            else:
                wrong.append({"fault": fault.__name__, "draw": draw, "found": shares})
    found = {draw: first_of(run(clean(np.random.default_rng(draw)), draw)) for draw in draws}
    wrong += [
        {"fault": "none", "draw": draw, "found": shares}
        for draw, (first, shares) in found.items()
        if first != "none"
    ]
    told = {
        "draws": asked.draws,
        "right": right,
        "clean_without_advice": sum(first == "none" for first, _ in found.values()),
        "wrong": wrong,
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

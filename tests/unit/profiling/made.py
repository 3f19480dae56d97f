"""Profiles whose every number is known, for the tests."""

import numpy as np

from unet_dist.profiling.intervals import merged, of_pairs
from unet_dist.profiling.tables import (
    Collective,
    Kernels,
    MemoryCurve,
    RankProfile,
    Step,
    Transfer,
)

BEGIN = 1_736_412_474_730_135_222
"""Nanoseconds since 1970, which a float does not hold."""
MS = 1_000_000


def kernels_of(rows, counters=None):
    """Rows: step, name, type, core, begin and end (ns after ``BEGIN``), shapes, type of numbers."""
    texts = {}

    def code(text):
        return texts.setdefault(text, len(texts))

    times = of_pairs([(BEGIN + row[4], BEGIN + row[5]) for row in rows])
    columns = [[code(row[place]) for row in rows] for place in (1, 2, 3, 6, 7)]
    name, kind, core, shapes, dtypes = (np.array(column, np.int32) for column in columns)
    return Kernels(
        time_ns=times,
        step=np.array([row[0] for row in rows], np.int64), name=name, type=kind, core=core,
        shapes=shapes, dtypes=dtypes, texts=tuple(texts),
        counters={key: np.array(values, float) for key, values in (counters or {}).items()},
    )  # fmt: skip


def profile_of(rank=0, *, steps=3, late_ns=0, offset_ns=0, **changes):
    """Steps of 100 ms: 10 ms of waiting for input, 5 ms of preparing, three kernels of 20 ms with
    5 ms between them, an all-reduce of 20 ms of which 10 ms are behind the last kernel."""
    marks, rows, collectives, waits, moving, awaiting = [], [], [], [], [], []
    for number in range(steps):
        begin = number * 100 * MS + offset_ns
        first = begin + 15 * MS + late_ns
        marks.append(Step(number=number, begin_ns=BEGIN + begin, end_ns=BEGIN + begin + 100 * MS))
        waits.append((BEGIN + begin, BEGIN + begin + 10 * MS))
        for place, kind in enumerate(("Conv2D", "ReLU", "Conv2DBackpropFilter")):
            start = first + place * 25 * MS
            rows.append(
                (number, f"Default/net/down_{place}/{kind}-op{place}", kind,
                 "AI_VECTOR_CORE" if kind == "ReLU" else "AI_CORE", start, start + 20 * MS,
                 "4,8,256,256", "FLOAT16")
            )  # fmt: skip
        start, end = BEGIN + first + 60 * MS, BEGIN + begin + 95 * MS
        middle = end - 10 * MS
        collectives.append(
            Collective(
                name=f"hcom_allReduce_{number}", group="Group 0", step=number, begin_ns=start,
                end_ns=end, transfer_ns=10 * MS, wait_ns=middle - start, sent_bytes=1,
            )
        )  # fmt: skip
        moving.append((middle, end))
        awaiting.append((start, middle))
    kernels = kernels_of(rows, {"aic_mac_ratio": np.linspace(0, 1, len(rows))})
    facts = {
        "rank": rank, "source": "made", "format": "ascend text", "simulated": True,
        "steps": tuple(marks), "kernels": kernels, "computing": merged(kernels.time_ns),
        "communicating": merged(of_pairs((c.begin_ns, c.end_ns) for c in collectives)),
        "transferring": merged(of_pairs(moving)), "awaiting": merged(of_pairs(awaiting)),
        "data_waits": merged(of_pairs(waits)), "collectives": tuple(collectives),
        "transfers": (
            Transfer(source=rank, target=1 - rank if rank < 2 else 0, link="HCCS",
                     sent_bytes=64e6, duration_ns=4e6, collective="allreduce-total"),
        ),
        "memory": (
            MemoryCurve(
                component="MindSpore", at_ns=np.array([BEGIN, BEGIN + MS, BEGIN + 2 * MS]),
                allocated_mb=np.array([10.0, 90.0, 50.0]),
                reserved_mb=np.array([100.0, 120.0, 120.0]),
            ),
        ),
    }  # fmt: skip
    return RankProfile(**{**facts, **changes})

"""Holds predictions of step times against measurements on simulated ranks that compute lightly.

    tools/check_scaling.py            # fits on 1 and 2 ranks, predicts and measures 4 and 8

Computing is sleeping, so that two cores serve eight ranks; the sums of gradients are real, over
MPI, and on a busy machine they wait for cores as well, which no model of links knows: they are told
apart. Exits 1 if a step is predicted wrong by more than 15 %.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from unet_dist.profiling.analysis import Analysis, analyse
from unet_dist.profiling.clocks import align
from unet_dist.profiling.load import find_profiles, read_profiles
from unet_dist.profiling.scaling import LinkModel, Split, Topology, Workload, predict
from unet_dist.profiling.stragglers import divided_by_arrival
from unet_dist.profiling.tables import RankProfile
from unet_dist.profiling.workload import link_between
from unet_dist.runs import RunDir

ALLOWED = 0.15
RANK = Path(__file__).with_name("light_rank.py")
REPOSITORY = Path(__file__).parents[1]
REST = ("data", "preparing", "free", "unattributed", "waiting")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--image-ms", type=float, default=60.0)
    parser.add_argument("--kb", type=int, default=512, help="of gradients")
    asked = parser.parse_args()
    kb = str(asked.kb)
    # Of two ranks sums of several sizes, which tell latency and bandwidth apart.
    sizes = ",".join(str(asked.kb * factor // 4) for factor in (1, 2, 4, 8))
    alone, pair = measured(asked, 1, kb), measured(asked, 2, sizes)
    fitted = link_between(divided_by_arrival(pair, align(pair)))
    link = fitted.link if fitted else LinkModel(alpha_s=0, bytes_per_s=float("inf"))
    computing, rest = analyse(alone).parts, analyse(pair).parts
    workload = Workload(
        fixed_s=0.0, image_s=computing["computing"] / 1e9 / asked.images,
        other_s=sum(rest[name] for name in REST) / 1e9, gradient_bytes=asked.kb * 1024, hidden=0.0,
        state_bytes=0, image_bytes=0,
    )  # fmt: skip
    host = Topology(name="one host", group=64, inside=link, between=link)
    rows = []
    for ranks in (4, 8):
        told = predict(workload, Split(cards=ranks, images=asked.images), host)
        found: Analysis = analyse(measured(asked, ranks, kb))
        step_s = found.parts["step"] / 1e9
        rows.append(
            {
                "ranks": ranks,
                "predicted_ms": round(told.step_s * 1e3, 2),
                "measured_ms": round(step_s * 1e3, 2),
                "error": round(told.step_s / step_s - 1, 4),
                "sum_predicted_ms": round(told.communication_s * 1e3, 3),
                "sum_measured_ms": round(found.parts["transfer"] / 1e6, 3),
                "waiting_ms": round(found.parts["waiting"] / 1e6, 3),
            }
        )
    told_link = {"alpha_us": round(link.alpha_s * 1e6, 2), "gb_per_s": link.bytes_per_s / 1e9}
    sys.stdout.write(json.dumps({"link": told_link, "rows": rows}, indent=2) + "\n")
    sys.exit(any(abs(float(row["error"])) > ALLOWED for row in rows))


def measured(asked: argparse.Namespace, ranks: int, kb: str) -> list[RankProfile]:
    with tempfile.TemporaryDirectory(prefix="check_scaling_") as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable, "-m", "unet_dist", "launch", "--simulate", str(ranks), "--run",
            str(run), "--", sys.executable, str(RANK), str(run), "--steps", str(asked.steps),
            "--images", str(asked.images), "--image-ms", str(asked.image_ms), "--kb", kb,
        ]  # fmt: skip
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        return read_profiles(find_profiles([RunDir(run).profiles]))


if __name__ == "__main__":
    main()

"""Benchmarks of start-up, loop and throughput; every claim of the README comes from here.

    python tools/bench.py start        # command to first optimiser step, also beside msrun
    python tools/bench.py loop         # the whole loop against the bare compiled step
    python tools/bench.py throughput   # 2 ranks, 1 rank with 2 threads, plain msrun, PyTorch DDP

Speeds of simulated ranks on a CPU; they say nothing about Ascend cards.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unet_dist.cluster import host
from unet_dist.cluster.plan import Command, find_mpirun, make_plan
from unet_dist.cluster.topology import simulated
from unet_dist.data.synthetic import write_synthetic
from unet_dist.records import read_records
from unet_dist.runs import AttemptDir, RunDir

TOOLS = Path(__file__).parent
ROUNDS = 3
STEPS = 12
SIZE = 256


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) == 2 else ""
    benchmarks = {"start": bench_start, "loop": bench_loop, "throughput": bench_throughput}
    if wanted not in benchmarks:
        sys.exit(__doc__)
    print(f"{len(host.usable_cores())} cores, AVX-512: {has_avx512()}")
    with tempfile.TemporaryDirectory() as folder:
        benchmarks[wanted](Path(folder))


def bench_start(folder: Path) -> None:
    seconds = []
    for number in range(ROUNDS):
        run = folder / f"run{number}"
        started = time.time()
        train(folder, run, ranks=2, steps=1)
        seconds.append(step_records(run)[0]["time"] - started)
        print(f"first optimiser step after {seconds[-1]:.1f} s")
    print(f"median {statistics.median(seconds):.1f} s; the limit is 12 s")
    bench_start_beside_msrun(folder)


def bench_start_beside_msrun(folder: Path) -> None:
    """4 ranks, in turn: ours, with all of a training's checks; msrun's as it comes, and msrun's
    with the setting that spares it the slow convolutions, which leaves the start-up alone."""
    plain_ratios, spared_ratios = [], []
    for number in range(ROUNDS):
        run = folder / f"four{number}"
        started = time.time()
        train(folder, run, ranks=4, steps=1)
        ours = step_records(run)[0]["time"] - started
        plain = first_step_under_msrun()
        spared = first_step_under_msrun(ONEDNN_MAX_CPU_ISA="AVX2")
        plain_ratios.append(ours / plain)
        spared_ratios.append(ours / spared)
        print(
            f"4 ranks: first step after {ours:.1f} s, under msrun {plain:.1f} s, with "
            f"ONEDNN_MAX_CPU_ISA=AVX2 {spared:.1f} s"
        )
    print(
        f"median ratios {statistics.median(plain_ratios):.2f}, the limit is 0.5; with the setting "
        f"{statistics.median(spared_ratios):.2f}"
    )


def first_step_under_msrun(**environment: str) -> float:
    started = time.time()
    return rank_under_msrun(4, 2, **environment)["first_step_at"] - started


def bench_loop(folder: Path) -> None:
    """The same batch per rank, in turn; the loop's time is from the 3rd to the last step."""
    for ranks in (1, 2):
        ratios = []
        for number in range(ROUNDS):
            bare = rank_under_mpirun(ranks, 2)["step_s"]
            run = folder / f"run{ranks}{number}"
            train(folder, run, ranks=ranks, steps=STEPS)
            whole = statistics.median(record["step_s"] for record in step_records(run)[2:])
            ratios.append(whole / bare)
            print(f"{ranks} ranks: bare step {bare:.3f} s, in the loop {whole:.3f} s")
        print(f"{ranks} ranks: median ratio {statistics.median(ratios):.3f}; the limit is 1.03")


def bench_throughput(folder: Path) -> None:
    ratios = []
    for _ in range(ROUNDS):
        two = rank_under_mpirun(2, 2)["images_per_s"]
        one = rank_under_mpirun(1, 4)["images_per_s"]
        ratios.append(two / one)
        print(f"2 ranks x 2 images {two:.2f} images/s, 1 rank x 4 images on 2 cores {one:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}; the limit is 0.95")
    plain = rank_under_msrun(2, 2)["images_per_s"]
    print(f"plain msrun, 2 ranks x 2 images: {plain:.3f} images/s; we are {two / plain:.0f} times")
    if importlib.util.find_spec("torch"):
        torch = rank_under_torchrun(2, 2)["images_per_s"]
        print(
            f"PyTorch DDP, 2 ranks x 2 images: {torch:.2f} images/s; we are {two / torch:.2f} times"
        )
    else:
        print("PyTorch is not installed: no comparison with its DDP")


def has_avx512() -> bool:
    return any(flag.startswith("avx512") for flag in host.cpu_flags())


def train(folder: Path, run: Path, *, ranks: int, steps: int) -> None:
    data = folder / "data"
    if not data.exists():
        write_synthetic("vessels", data, count=8, size=SIZE, seed=0)
    command = [
        sys.executable, "-m", "unet_dist", "train", str(data / "config.yaml"),
        "data.split.val=0", "data.split.test=0", f"train.batch={2 * ranks}",
        f"augment.crop={SIZE}", f"augment.crops_per_image={steps}", "--simulate", str(ranks),
        "--run", str(run),
    ]  # fmt: skip
    # 8 images x steps crops / (2 x ranks) images per step are more steps than wanted: stop then.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(step_records(run)) < steps:
        time.sleep(0.2)
    if process.poll() is None:
        process.terminate()
    process.wait()


def step_records(run: Path) -> list[dict[str, float]]:
    return [r for r in read_records(RunDir(run).records(0)) if r["kind"] == "step"]


def rank_under_mpirun(ranks: int, images: int) -> dict[str, float]:
    """The way ``unet-dist train`` starts ranks, with its environment."""
    topology = simulated(ranks, host.usable_cores())
    attempt = AttemptDir(Path("unused"))
    plan = make_plan(topology, attempt, Command(argv=()), comm="mpi", cpu_flags=host.cpu_flags())
    threads = len(topology.slots[0].cores)
    command = [
        find_mpirun(), "-n", str(ranks), "--oversubscribe", "--bind-to", "none",
        sys.executable, str(TOOLS / "bench_rank.py"), "--comm", "mpi",
        *sizes(images, STEPS), "--threads", str(threads),
    ]  # fmt: skip
    return measured(command, {**os.environ, **plan.processes[0].env})


def rank_under_msrun(ranks: int, images: int, **environment: str) -> dict[str, float]:
    """What a user gets who starts the same model by msrun."""
    msrun = str(Path(sys.executable).with_name("msrun"))
    with tempfile.TemporaryDirectory() as logs:
        command = [
            msrun, f"--worker_num={ranks}", f"--local_worker_num={ranks}", f"--log_dir={logs}",
            "--join=True", f"--master_port={host.free_port()}", str(TOOLS / "bench_rank.py"),
            "--comm", "mindspore", *sizes(images, 2),
        ]  # fmt: skip
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "MS_CPU_COMM_OP_TIMEOUT": "600", **environment}
        subprocess.run(command, env=env, capture_output=True)
        text = "".join(log.read_text(errors="replace") for log in Path(logs).glob("worker_*.log"))
    return bench_line(text)


def rank_under_torchrun(ranks: int, images: int) -> dict[str, float]:
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}",
        f"--master-port={host.free_port()}", str(TOOLS / "bench_torch.py"),
        *sizes(images, STEPS), "--threads", "1",
    ]  # fmt: skip
    return measured(command, dict(os.environ))


def sizes(images: int, steps: int) -> list[str]:
    return ["--images", str(images), "--size", str(SIZE), "--steps", str(steps)]


def measured(command: list[str], env: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return bench_line(done.stdout + done.stderr)


def bench_line(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line.startswith("BENCH ")]
    if not lines:
        sys.exit(f"the benchmark's rank failed:\n{text[-3000:]}")
    value: dict[str, float] = json.loads(lines[0].removeprefix("BENCH "))
    return value


if __name__ == "__main__":
    main()

"""One form of a network in a process of its own, that times itself whenever it is asked.

    python -m unet_dist.deploy.bench_worker

It reads in one line of JSON what it is to measure, says in one what it is, then for each line
``go`` how long all images took.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.cluster.guard import die_with_parent
from unet_dist.config import Config, with_tta
from unet_dist.data.dataset import Dataset, network_input, read_view, resized
from unet_dist.data.images import Pixels, read_image
from unet_dist.data.object_size import MOST
from unet_dist.data.sample import Example, Sample
from unet_dist.deploy.model_file import metadata_of_onnx
from unet_dist.deploy.runtime import DeployedNetwork, OpenVinoSession, session_of
from unet_dist.deploy.source import open_source
from unet_dist.deploy.untrusted import read_onnx_bytes
from unet_dist.errors import UserError
from unet_dist.evaluate.metrics import hard_prediction, quality, score_image
from unet_dist.evaluate.prediction_task import with_tile
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.runs import RunDir


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An image that was decoded, so that the disk is not measured."""

    sample: Sample
    pixels: Pixels
    fov_hw: NDArray[np.bool_]
    target_hw: NDArray[np.uint8]


class Timed:
    """A network that adds up the seconds it takes."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.seconds = 0.0

    def forward(self, image_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        started = time.perf_counter()
        y_nkhw = self._network.forward(image_nchw)
        self.seconds += time.perf_counter() - started
        return y_nkhw


def main() -> None:
    die_with_parent(signal.SIGKILL)
    spec = json.loads(sys.stdin.readline())
    # Before any library sizes its thread pools by the cores it sees.
    os.sched_setaffinity(0, spec["cores"])
    os.environ["OMP_NUM_THREADS"] = str(len(spec["cores"]))
    if spec["form"] == "mindspore":
        from unet_dist.deploy.machine import start_native

        start_native()
    source = open_source(RunDir(Path(spec["run"])), opset=17)
    config = with_tta(source.config, spec["tta"])
    session: Any = None
    metadata = source.metadata
    if spec["form"] == "mindspore":
        from unet_dist.deploy.native import native_network

        network: Network = native_network(source)
    else:
        file = Path(spec["file"])
        metadata = metadata_of_onnx(file)
        if metadata.run_sha256 != source.metadata.checkpoint_sha256:
            raise UserError(str(file), f"was made of other weights than {source.run.path} has now")
        content = read_onnx_bytes(file)
        threads = len(spec["cores"])
        session = session_of(content, spec["runtime"], threads=threads, hint=spec["hint"])
        network = DeployedNetwork(session, metadata)
    samples = [one for one in source.dataset.splits.parts()[spec["split"]] if one.id in spec["ids"]]
    prepared = [_prepare(source.dataset, sample) for sample in samples]
    if spec["tile"] and spec["form"] != "mindspore":
        most = MOST if config.data.object_size else config.data.resize
        sizes = [resized(one.target_hw.shape, most) for one in prepared]
        config = with_tile(config, spec["tile"], sizes)
    timed = Timed(network)
    predictor = Predictor(config, [timed])
    threshold = metadata.threshold
    dices = [_dice(predictor, config, one, threshold) for one in prepared]  # warms up, too
    defined = [dice for dice in dices if not np.isnan(dice)]
    executed = session.executed_precisions() if isinstance(session, OpenVinoSession) else {}
    _say({"dice": sum(defined) / len(defined) if defined else None, "executed": executed})
    for _ in sys.stdin:
        _say(_one_round(predictor, timed, config, prepared, threshold))


def _prepare(dataset: Dataset, sample: Sample) -> Prepared:
    pixels = read_image(sample.image)
    return Prepared(
        sample=sample,
        pixels=pixels,
        fov_hw=read_view(sample, pixels, dataset.config),
        target_hw=dataset.read_native(sample).target_hw,
    )


def _probabilities(predictor: Predictor[Timed], config: Config, one: Prepared) -> Any:
    image_hwc = network_input(one.pixels, one.fov_hw, config.data)
    native = Example(image_hwc, one.target_hw, one.fov_hw)
    return predictor.probabilities(native)


def _dice(
    predictor: Predictor[Timed], config: Config, one: Prepared, threshold: float | None
) -> float:
    prob_hwk = _probabilities(predictor, config, one)
    score = score_image(one.sample.id, prob_hwk, one.target_hw, one.fov_hw)
    return quality(score.counts, threshold).dice


def _one_round(
    predictor: Predictor[Timed],
    timed: Timed,
    config: Config,
    prepared: Sequence[Prepared],
    threshold: float | None,
) -> Mapping[str, float]:
    timed.seconds = 0.0
    started = time.perf_counter()
    for one in prepared:
        hard_prediction(_probabilities(predictor, config, one), threshold)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "network_seconds": timed.seconds}


def _say(value: Mapping[str, Any]) -> None:
    sys.stdout.write("BENCH " + json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Quantisation-aware training as a user starts it."""

from pathlib import Path

from tests.conftest import json_of, run_program
from tests.deployed import untrained_run
from unet_dist.deploy.model_file import ModelFile, metadata_of_onnx
from unet_dist.runs import RunDir


def test_a_training_with_8_bits_ends_in_a_model_of_them(tmp_path: Path) -> None:
    run, _ = untrained_run(tmp_path, "augment.crop=32", "train.batch=2", "log.images=0")
    out = tmp_path / "deployed"
    command = ["quantize", run.path, "--method", "qat", "--epochs", 1, "-o", out, "--json"]
    done = run_program(*command, "--simulate", 2, "--force")
    assert done.returncode == 0, done.stderr
    result = json_of(done)
    training = RunDir(out / "qat")
    assert training.state() == "done"
    assert training.load_config().model.fake_quant
    # The test split, which nothing is decided by, and which may take minutes.
    assert not training.evaluation("test").exists()
    assert result["options"]["method"] == "qat"
    assert result["agreement"] > 0.9
    files = ModelFile(out)
    small, plain = metadata_of_onnx(files.int8), metadata_of_onnx(files.onnx)
    assert small.precision == "int8"
    assert small.checkpoint_sha256 != plain.checkpoint_sha256
    assert small.run_sha256 == plain.checkpoint_sha256

"""``unet-dist deploy commands`` and ``diff``, with a stand-in for atc on PATH."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.cluster.server.conftest import Program, StandIn
from tests.unit.deploy.ascend.made_runtimes import MadeAcl
from tests.unit.deploy.ascend.small_models import METADATA, weights, write_model
from unet_dist.deploy.card_network import read_converted
from unet_dist.runs import write_json

ATC = r"""
printf '%s\n' "$@" > atc_arguments
echo "ATC start working now"
for word in "$@"; do case "$word" in --output=*) name="${word#--output=}" ;; esac; done
case "$*" in
  *mixed_float16*) echo "E10001: out of luck" >&2; echo half > "$name.om"; exit 9 ;;
  *origin*) exit 0 ;;
  *cube_fp16*) kill -9 $$ ;;
esac
echo om > "$name.om"
"""


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    write_model(folder / "model.onnx")
    write_json(folder / "model.json", METADATA.to_json())
    return folder


def only(folder: Path, pattern: str) -> Path:
    [found] = folder.glob(pattern)
    return found


def test_atc_is_run_as_it_was_printed_and_its_log_kept(
    exported: Path, run_program: Program, stand_in: StandIn
) -> None:
    stand_in("atc", ATC)
    told = run_program("deploy", "commands", exported, "--soc", "Ascend310P3", "--aipp", "--run")
    assert told.returncode == 0, told.stderr
    folder = exported / "ascend"
    name = only(folder, "model_Ascend310P3_2x3x64x64_*.om").stem
    assert (folder / f"{name}.om").read_text() == "om\n"
    assert (folder / f"{name}.log").read_text() == "ATC start working now\n"
    called = (folder / "atc_arguments").read_text().splitlines()
    assert called == [
        "--framework=5",
        "--model=../model.onnx",
        f"--output={name}",
        "--input_format=NCHW",
        "--input_shape=image:2,3,64,64",
        "--soc_version=Ascend310P3",
        "--precision_mode_v2=fp16",
        "--insert_op_conf=aipp_64x64.cfg",
        "--log=error",
    ]
    assert " \\\n    ".join(["atc", *called]) in told.stdout
    assert (folder / "commands.sh").stat().st_mode & 0o111


def test_the_exit_code_of_atc_is_passed_on(
    exported: Path, run_program: Program, stand_in: StandIn
) -> None:
    stand_in("atc", ATC)
    asked = ("deploy", "commands", exported, "--soc", "Ascend910A", "--run", "--json")
    failed = run_program(*asked, "--precision", "mixed_float16")
    assert failed.returncode == 9
    assert "E10001: out of luck" in failed.stderr
    assert [end["code"] for end in json.loads(failed.stdout)["ran"]] == [9]
    assert list((exported / "ascend").glob("*.om")) == []
    # The second shape is not tried.
    shapes = ("--shape", "1,3,64,64", "--shape", "2,3,64,64")
    first = run_program(*asked, *shapes, "--precision", "mixed_float16")
    [end] = json.loads(first.stdout)["ran"]
    assert end["makes"].startswith("model_Ascend910A_1x3x64x64_")
    killed = run_program(*asked, "--precision", "cube_fp16in_fp32out")
    assert killed.returncode == 128 + 9
    # What an earlier call left is no success.
    assert run_program(*asked[:-2], "--precision", "origin").returncode == 0
    [makes] = [
        p for p in (exported / "ascend").glob("*2x3x64x64*.json") if '"origin"' in p.read_text()
    ]
    old = makes.with_suffix("")
    old.write_text("old")
    nothing = run_program(*asked, "--precision", "origin")
    assert nothing.returncode == 1
    assert f"atc ended with 0, but wrote no {old.name}" in nothing.stderr


def test_each_converted_file_keeps_its_own_description(
    exported: Path, run_program: Program, stand_in: StandIn
) -> None:
    stand_in("atc", ATC)
    asked = ("deploy", "commands", exported, "--tool", "atc", "--run", "--soc")
    notes = []
    for more in (
        ("Ascend310P3", "--aipp"),
        ("Ascend310P3",),
        ("Ascend910A", "--shape", "1,3,64,64"),
    ):
        told = run_program(*asked, *more)
        assert told.returncode == 0
        notes += [line for line in told.stdout.splitlines() if line.startswith("note: ")]
    # Only the third is for another card.
    assert notes == [
        "note: commands.sh held the commands for Ascend310P3 (CANN 9.1, model.onnx), which these "
        "replace: another folder for --out keeps both"
    ]
    # The model is exported again, and its conversion fails.
    write_model(exported / "model.onnx", replace(METADATA, threshold=0.3))
    failed = run_program(*asked, "Ascend310P3", "--precision", "mixed_float16")
    assert failed.returncode == 9
    files = sorted((exported / "ascend").glob("*.om"))
    read = [read_converted(file) for file in files]
    found = [(one.soc, one.aipp, one.shape[0], metadata.threshold) for one, metadata in read]
    assert sorted(found) == [
        ("Ascend310P3", False, 2, 0.5),
        ("Ascend310P3", True, 2, 0.5),
        ("Ascend910A", False, 1, 0.5),
    ]


def test_the_script_refuses_another_model(
    exported: Path, run_program: Program, stand_in: StandIn
) -> None:
    stand_in("atc", ATC)
    folder = exported / "ascend"
    asked = ("deploy", "commands", exported, "--soc", "Ascend310P3", "--tool", "atc")
    assert run_program(*asked).returncode == 0
    assert subprocess.run([folder / "commands.sh"], cwd=exported).returncode == 0
    only(folder, "*.om").unlink()
    write_model(exported / "model.onnx", replace(METADATA, threshold=0.3))
    ended = subprocess.run([folder / "commands.sh"], cwd=exported, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "model.onnx: FAILED" in ended.stdout
    assert list(folder.glob("*.om")) == []


def test_without_atc_nothing_is_written_to_be_run(
    exported: Path, run_program: Program, tmp_path: Path
) -> None:
    told = run_program(
        "deploy", "commands", exported, "--soc", "Ascend910B3", "--run", PATH=str(tmp_path)
    )
    assert told.returncode == 2
    assert "--run: atc is not on PATH" in told.stderr
    assert not (exported / "ascend").exists()
    # Beside the other faults.
    asked = ("deploy", "commands", exported, "--soc", "Ascend910A", "--tool", "lite", "--run")
    both = run_program(*asked, PATH=str(tmp_path))
    assert "model.onnx: 2 problems" in both.stderr
    assert "does not support Ascend910A" in both.stderr
    assert "--tool lite needs none: leave --run away" in both.stderr


def test_all_faults_are_told_at_once_and_nothing_is_written(
    exported: Path, run_program: Program
) -> None:
    told = run_program(
        "deploy", "commands", exported, "--soc", "Ascend910C", "--shape", "1,1,64,65",
        "--precision", "fp16", "--precision", "force_fp32", "--tool", "lite",
    )  # fmt: skip
    assert told.returncode == 2
    assert "model.onnx: 4 problems" in told.stderr
    for part in ("Ascend910C", "1 channel,", "65 is no multiple", "exclude each other"):
        assert part in told.stderr
    unread = run_program(
        "deploy", "commands", exported, "--soc", "Ascend910A", "--shape", "1,3,64",
        "--dynamic-batch", "few", "--dynamic-size", "64",
    )  # fmt: skip
    assert unread.returncode == 2
    assert "3 problems" in unread.stderr
    wrong = run_program(
        "deploy", "commands", exported, "--soc", "Ascend910C", "--cann", "8.5", "--tool", "omg",
        "--input", "int4", "--dynamic-batch", "few", "--precision", "fast", "--shape", "-1,3,64,64",
    )  # fmt: skip
    assert wrong.returncode == 2
    assert "deploy commands: 6 problems" in wrong.stderr
    for part in ("--tool: is 'omg'", "int4", "few", "Ascend910C", "8.5", "'fast' is none"):
        assert part in wrong.stderr
    # No fault that another one brings with it.
    assert "the batch is -1" not in wrong.stderr
    gone = run_program(
        "deploy", "commands", exported / "none.onnx", "--soc", "Ascend910A", "--cann", "8.5"
    )
    assert "deploy commands: 2 problems" in gone.stderr
    assert "none.onnx: there is no such file" in gone.stderr
    assert not (exported / "ascend").exists()


def test_a_mindir_is_refused_for_atc_and_taken_for_lite(
    exported: Path, run_program: Program
) -> None:
    mindir = exported / "model.mindir"
    mindir.write_bytes(b"mindir")
    told = run_program("deploy", "commands", mindir, "--soc", "Ascend910A")
    assert told.returncode == 2
    assert "atc reads no MindIR" in told.stderr
    lite = run_program("deploy", "commands", mindir, "--soc", "Ascend910B1", "--tool", "lite")
    assert lite.returncode == 0, lite.stderr
    assert "--fmk=MINDIR" in lite.stdout
    assert "--inputShape" not in lite.stdout
    assert "note: predict runs what converter_lite makes of model.mindir" in lite.stdout


def test_a_folder_and_an_exported_mindir_are_not_predicted_with_but_told_of(
    exported: Path, run_program: Program, tmp_path: Path
) -> None:
    asked = (tmp_path / "eye.png", "--out", tmp_path / "out")
    mindir = exported / "model.mindir"
    mindir.write_bytes(b"mindir")
    told = run_program("predict", mindir, *asked)
    assert told.returncode == 2
    assert "is the MindIR file of unet-dist export" in told.stderr
    assert f"take {exported / 'model.onnx'}" in told.stderr
    folder = run_program("predict", exported, *asked)
    assert folder.returncode == 2
    assert f"name a file in it, {exported / 'model.onnx'}\n" in folder.stderr
    (exported / "model.onnx").unlink()
    alone = run_program("predict", exported, *asked)
    assert f"{exported / 'model.onnx'}, which unet-dist export RUN --to onnx" in alone.stderr
    # A folder that holds neither a run nor a model.
    empty = run_program("predict", tmp_path, *asked)
    assert "not a run folder" in empty.stderr


def test_eight_bits_wait_for_amct(exported: Path, run_program: Program, stand_in: StandIn) -> None:
    stand_in("atc", ATC)
    int8 = replace(METADATA, precision="int8")
    write_model(exported / "model_int8.onnx", int8, quantised=True)
    asked = ("deploy", "commands", exported, "--soc", "Ascend310P3", "--int8", "--run")
    waits = run_program(*asked)
    assert waits.returncode == 2
    made = only(exported / "ascend", "model_int8_*_amct.onnx").name
    deployed = made.replace("_amct", "_deploy_model")
    assert f"there is no {deployed} yet" in waits.stderr
    (exported / "ascend" / deployed).write_bytes(b"by AMCT")
    assert run_program(*asked).returncode == 0
    # What AMCT made of other weights is not converted.
    write_model(exported / "model_int8.onnx", replace(int8, threshold=0.3), quantised=True)
    assert run_program(*asked).returncode == 2


def test_diff_names_the_layer_and_exits_with_1(
    exported: Path, run_program: Program, tmp_path: Path
) -> None:
    values = weights()
    values["up"] *= 1.5
    other = write_model(tmp_path / "other.onnx", values=values)
    picture = tmp_path / "eye.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    asked = ("deploy", "diff", exported / "model.onnx")
    told = run_program(*asked, other, "--images", picture)
    assert told.returncode == 1
    assert "they part at ConvTranspose 0" in told.stdout
    same = run_program(*asked, exported / "model.onnx", "--images", picture, "--json")
    assert same.returncode == 0
    assert json.loads(same.stdout)["agrees"] is True
    without = run_program(*asked, other)
    assert without.returncode == 2
    assert "--images" in without.stderr


def test_predict_runs_a_converted_file_on_the_card(
    exported: Path, run_program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("deploy", "commands", exported, "--soc", "Ascend310P3", "--tool", "atc")
    assert run_program(*asked, "--aipp").returncode == 0
    om = only(exported / "ascend", "*_2x3x64x64_*.om.json").with_suffix("")
    om.write_bytes(b"converted")
    acl = MadeAcl(shape=(2, 3, 64, 64), is_pixelwise=True, dtype=np.uint8)
    # The made card adds up the grey levels of three channels.
    acl.scale = 1 / 765
    monkeypatch.setitem(sys.modules, "acl", acl)
    picture, out = tmp_path / "eye.png", tmp_path / "out"
    bgr = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(picture), bgr)
    told = run_program("predict", om, picture, "--out", out)
    assert told.returncode == 0, told.stderr
    found = cv2.imread(str(out / "eye_probability.png"), cv2.IMREAD_UNCHANGED) / 65535
    # Half precision has 11 bits.
    np.testing.assert_allclose(found, bgr.astype(float).sum(axis=2) / 765, atol=2**-11)
    assert acl.taken == {}
    refused = run_program("predict", om, picture, "--out", out, "--runtime", "openvino")
    assert refused.returncode == 2
    assert "--runtime: is for a model.onnx" in refused.stderr

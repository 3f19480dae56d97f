"""The report of a run that was written down by hand, read by a parser as a browser reads it."""

import base64
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests.browser import browser_tab, find_browser
from unet_dist.cli.report import report
from unet_dist.config_file import dump_config, load_config
from unet_dist.data.dataset import normalisation, open_dataset
from unet_dist.data.manifest import write_manifest
from unet_dist.data.synthetic import write_synthetic
from unet_dist.errors import UserError
from unet_dist.evaluate.metrics import CLASS_QUALITIES
from unet_dist.evaluate.outputs import to_png, write_files
from unet_dist.launching.ensemble import EnsembleJob
from unet_dist.launching.placement import Placement
from unet_dist.launching.places import divide
from unet_dist.report import html
from unet_dist.report.curves import LINE_COLOURS
from unet_dist.report.html import report_html
from unet_dist.report.members import members_section
from unet_dist.report.plots import VALIDATION
from unet_dist.runs import RunDir, read_json, write_json

VOID = {"meta", "img", "br", "hr", "link"}
HOSTILE = "<script>alert('1')</script>"
VALIDATION_CURVE = [[0.2, 0.5], [0.5, 0.6], [0.8, 0.4]]


DRAWN: dict[str, bytes] = {}


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests show the same plots, which take longer than all the rest."""
    for name in ("curves_png", "plots_png", "validations_png"):
        monkeypatch.setattr(html, name, partial(_drawn, name, getattr(html, name)))


def _drawn(name: str, draw: Callable[..., bytes], *what: Any, **how: Any) -> bytes:
    told = repr((name, what, how))
    if told not in DRAWN:
        DRAWN[told] = draw(*what, **how)
    return DRAWN[told]


class Page(HTMLParser):
    """Raises if an element is not closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluation(**changes: Any) -> dict[str, Any]:
    metrics = {"dice": 0.81, "iou": 0.68, "cldice": 0.9, "hausdorff_95": 4.5}
    of_class = {**dict.fromkeys(CLASS_QUALITIES, 0.75), **metrics}
    rows = [{"id": HOSTILE, **metrics, "dice": 0.7}, {"id": "eye 2", **metrics, "dice": 0.92}]
    return {
        "split": "test",
        "images": 2,
        **metrics,
        "intervals": {"dice": [0.8, 0.82], "iou": None},
        "pooled": {"dice": 0.805},
        "counted": {**dict.fromkeys(metrics, 2), "hausdorff_95": 1},
        "dice_std": 0.1556,
        "dice_at_half": 0.7999,
        "structure": {
            "kind": "objects",
            "threshold": 0.62,
            "threshold_source": "validation",
            "min_object": 16,
        },
        "per_class": [{"class": 1, **of_class}],
        "per_image": rows,
        "class_names": ["background", "vessel"],
        "protocol": {"sentence": "Per image.", "bootstrap": {"unit": "image"}},
        "observers": [
            {
                "row": "second observer against first",
                "images": 2,
                "dice": 0.78,
                "intervals": {"dice": [0.7, 0.8]},
            }
        ],
        "fingerprint": {
            "short": "fingerprint 1234",
            "images": [HOSTILE, "eye 2"],
            "versions": {"numpy": "2.4"},
            "data_sha256": "d" * 64,
        },
        "threshold": 0.5,
        "threshold_source": "validation",
        "checkpoint_step": 7,
        "plots": {
            "dice_by_threshold": [[0.2, 0.7], [0.5, 0.81], [0.8, None]],
            "calibration": [[[0.1, 0.2], [0.9, 0.8]]],
            "confusion": [[90, 2], [3, 5]],
        },
        "cases": [{"number": 0, "id": HOSTILE, "dice": 0.7}],
        **changes,
    }


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunDir:
    """Each test's own; its images are those of all."""
    return RunDir(shutil.copytree(trained, tmp_path / "a run"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_synthetic("vessels", folder / "v", count=6, size=32, seed=0)
    config = load_config(folder / "v" / "config.yaml", ["train.lr=0.0123"])
    run = RunDir(folder / "a run")
    run.path.mkdir()
    run.config.write_text(dump_config(config))
    dataset = open_dataset(config.data, seed=0)
    write_manifest(run.dataset, dataset, normalisation(dataset), warnings=[f"few images {HOSTILE}"])
    write_files({run.case("test", 0): to_png(np.zeros((4, 9, 3), np.uint8))})
    step = {"schema": 1, "kind": "step", "loss": 1.0, "dice": 0.5, "lr": 0.1, "data_wait_s": 0.0}
    start = {"kind": "start", "step": 0, "parameters": 121177, "total_steps": 3, "batch": 4}
    chosen = {"kind": "eval", "step": 7, "dice": 0.6, "dice_by_threshold": VALIDATION_CURVE}
    steps = [{**step, "step": number, "images_per_s": 3.0} for number in (1, 2, 3)]
    lines = [json.dumps(record) for record in ({**start, "steps_per_epoch": 3}, *steps, chosen)]
    run.records(0).parent.mkdir()
    run.records(0).write_text("\n".join(lines) + "\n")
    return run.path


def page(run: RunDir, **changes: Any) -> tuple[str, Page]:
    split = changes.get("split", "test")
    run.evaluation(split).write_text(json.dumps(evaluation(**changes)))
    html = report_html(run, split)
    return html, Page(html)


def test_a_report_says_what_was_measured_and_how_to_repeat_it(run: RunDir) -> None:
    _, seen = page(run)
    for text in (
        "Dice 0.8100 (95 %: 0.800 to 0.820)",
        "Per image.",
        "centre line Dice (clDice)",
        "second observer against first, 2 images",
        "0.780 (0.700 to 0.800)",
        "Hausdorff distance, 95 %, pixels, 1 image",
        "mean of 2 images",
        "needs 3 images",
        "Data set v, format folder; 2 images of the test split, evaluated on 20",
        "Standard deviation over images of the Dice of the foreground: 0.1556.",
        "Dice at threshold 0.5: 0.7999.",
        "Objects, and their pixels, have probability >= 0.62 (threshold from validation); objects "
        "of fewer than 16 pixels are dropped.",
        "few images",
        "121,177 parameters",
        "3 steps of 4 crops",
        "d" * 64,
        "fingerprint 1234",
        "numpy 2.4",
        "train.lr: 0.0123",
        "unet-dist train",
    ):
        assert text in seen.text, text
    headings = [tag for tag, _ in seen.tags if tag == "h2"]
    assert len(headings) == 6
    pictures = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert len(pictures) == 3  # a case, the plots, the curves
    assert all(picture["alt"] for picture in pictures)


def test_it_needs_nothing_from_elsewhere_and_runs_nothing(run: RunDir) -> None:
    html, seen = page(run)
    assert "://" not in html
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in seen.tags}
    sources = [attributes["src"] for tag, attributes in seen.tags if tag == "img"]
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)


def test_a_name_is_shown_and_never_becomes_markup(run: RunDir) -> None:
    html, seen = page(run)
    assert HOSTILE not in html
    assert HOSTILE in seen.text


def test_the_worst_image_comes_first_and_an_undefined_dice_last(run: RunDir) -> None:
    rows = evaluation()["per_image"]
    _, seen = page(run, per_image=[{**rows[0], "id": "empty", "dice": None}, rows[1], rows[0]])
    table = seen.text[seen.text.index("worst first") :]
    places = [table.index(name) for name in (HOSTILE, "eye 2", "empty")]
    assert places == sorted(places)


def test_several_classes_have_a_table_and_no_threshold(run: RunDir) -> None:
    config = load_config(run.config, ["data.classes=3", "data.mask=labels"])
    run.config.write_text(dump_config(config))
    one = {**dict.fromkeys(CLASS_QUALITIES, 0.5), "auc": None}
    plots = evaluation()["plots"]
    _, seen = page(
        run,
        threshold=None,
        class_names=["background", "liver", "kidney"],
        per_class=[{"class": 1, **one}, {"class": 2, **one}],
        plots={
            "dice_by_threshold": [],
            "calibration": plots["calibration"] * 2,
            "confusion": [[9, 0, 1], [0, 5, 0], [2, 0, 3]],
        },
    )
    assert "kidney" in seen.text
    assert "undefined" in seen.text
    assert "The threshold" not in seen.text
    legend = [attributes["style"] for tag, attributes in seen.tags if tag == "i"]
    assert len(legend) == len(set(legend)) == 5  # two classes; right, missed, not counted
    assert "errors: class wrongly predicted" in seen.text
    table = seen.text[seen.text.index("Classes") :]
    assert table.index("Dice") < table.index("IoU") < table.index("liver")
    assert "of the foreground" not in table[: table.index("liver")]


def test_what_is_missing_is_told_with_the_command_that_makes_it(run: RunDir) -> None:
    with pytest.raises(UserError, match=r"unet-dist eval .* --split val"):
        report_html(run, "val")
    old = {key: value for key, value in evaluation().items() if key != "plots"}
    run.evaluation("test").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"plots.*unet-dist eval"):
        report_html(run, "test")
    _, seen = page(run, cases=[])
    assert re.search(r"No pictures were stored; unet-dist eval", seen.text)


@pytest.mark.parametrize(
    "change",
    [
        {"per_image": []},
        {"protocol": {}},
        {"class_names": None},
        {"cases": [{"number": "../../etc/x", "id": "a", "dice": 0.5}]},
        {"plots": {"dice_by_threshold": [[1]], "calibration": [], "confusion": [["a"]]}},
        {"intervals": {"dice": ["low", "high"]}},
        {"threshold": "half"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_result_of_another_kind_is_one_message(run: RunDir, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"lacks what a report shows.*unet-dist eval"):
        page(run, **change)


def test_the_curve_of_the_validation_that_chose_the_threshold_is_drawn(run: RunDir) -> None:
    with_validation = plots_of(page(run)[1])
    itself = plots_of(page(run, split="val")[1])
    # Of another checkpoint, or of a threshold that no validation chose, there is none.
    without = [plots_of(page(run, **change)[1]) for change in NO_VALIDATION]
    assert min(count_of(picture, VALIDATION) for picture in (with_validation, itself)) > 100
    assert [count_of(picture, VALIDATION) for picture in without] == [0, 0]


NO_VALIDATION = ({"checkpoint_step": 8}, {"threshold_source": "configured"})


def plots_of(seen: Page) -> np.ndarray:
    [uri] = [attributes["src"] for tag, attributes in seen.tags if "Dice by" in str(attributes)]
    return picture_of(uri)


def picture_of(uri: str | None) -> np.ndarray:
    png = base64.b64decode(str(uri).partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def count_of(picture: np.ndarray, colour: str) -> int:
    rgb = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
    return int((picture == rgb).all(axis=2).sum())


def test_classes_have_their_share_of_the_pixels_and_of_the_errors(run: RunDir) -> None:
    _, seen = page(run)  # 90 + 2 pixels of background, 3 + 5 of vessel
    cells = [" ".join(row.split()) for row in re.findall(r"(?s)<tr>.*?</tr>", page(run)[0])]
    [vessel] = [row for row in cells if row.startswith('<tr><th scope="row">vessel')]
    assert re.findall(r"[\d.]+%", vessel) == ["8.00%", "7.00%", "5.00%", "2.00%", "3.00%"]
    assert "true positive" in seen.text


def test_of_numbered_objects_the_dice_of_all_their_pixels_leads(run: RunDir) -> None:
    values = {"eye 1": 0.95, "eye 0": 0.9, "eye 2": 0.99}
    rows = [
        {**evaluation()["per_image"][0], "id": id_, "dice": 0.7, "foreground_dice": dice}
        for id_, dice in values.items()
    ]
    objects = {"foreground_dice": 0.9467, "per_image": rows}
    counted = {**evaluation()["counted"], "foreground_dice": 3}
    intervals = {**evaluation()["intervals"], "foreground_dice": [0.9, 0.98]}
    _, seen = page(run, **objects, counted=counted, intervals=intervals)
    assert "Dice 0.9467 (95 %: 0.900 to 0.980)" in seen.text
    assert "Dice 0.8100" not in seen.text
    assert "Standard deviation over images of the Dice of all object pixels: 0.0451." in seen.text
    places = [seen.text.rindex(id_) for id_ in ("eye 0", "eye 1", "eye 2")]
    assert places == sorted(places)


def test_worst_and_best_images_stand_apart(run: RunDir) -> None:
    cases = [{"number": n, "id": f"eye {n}", "dice": n / 10} for n in range(3)]
    write_files({run.case("test", n): to_png(np.zeros((4, 9, 3), np.uint8)) for n in range(3)})
    _, seen = page(run, cases=cases)
    order = [seen.text.index(text) for text in ("Worst", "Dice 0.0000", "Dice 0.1000", "Best")]
    assert order == sorted(order)
    assert seen.text.index("Best") < seen.text.index("Dice 0.2000")


def test_the_command_and_the_device_are_those_of_the_last_training(run: RunDir) -> None:
    placement = {"simulate": 2, "comm": "mindspore", "hosts": [{"name": "a", "slots": 2}]}
    plan = {"target": "CPU", "job": {"kind": "train", "placement": placement}}
    write_json(run.attempt(0).plan, plan)
    start = {"kind": "attempt", "attempt": 0, "ranks": 2, "engine": "mpirun", "time": 0}
    end = {"kind": "end", "attempt": 0, "state": "done", "time": 90}
    run.timeline.write_text(f"{json.dumps(start)}\n")
    with run.records(0).open("a") as records:
        records.write('{"kind": "progress", "time": 60}\n')
    _, seen = page(run)
    assert "2 ranks simulated on the CPU by mpirun: this report after 1.0 min" in seen.text
    run.timeline.write_text(f"{json.dumps(start)}\n{json.dumps(end)}\n")
    predicting = {"kind": "attempt", "attempt": 1, "ranks": 1, "engine": "mpirun", "time": 99}
    with run.timeline.open("a") as timeline:
        timeline.write(f"{json.dumps(predicting)}\n")
    write_json(run.attempt(1).plan, {"target": "CPU", "job": {"kind": "predict"}})
    _, seen = page(run)
    assert "attempt 0" in seen.text
    assert "attempt 1" not in seen.text
    assert "train, 2 ranks simulated on the CPU by mpirun: done after 1.5 min" in seen.text
    [line] = [line for line in seen.text.splitlines() if line.startswith("unet-dist train")]
    options = ["--simulate", "2", "--hosts", "a:2", "--comm", "mindspore", "--run", "NEW"]
    assert shlex.split(line) == ["unet-dist", "train", str(run.config), *options]


def test_the_day_is_that_of_the_evaluation_also_in_a_copy(run: RunDir) -> None:
    with run.records(0).open("a") as records:
        for split, time in (("test", 86400 * 365.5), ("val", 0)):
            records.write(json.dumps({"phase": f"evaluating the {split} split", "time": time}))
            records.write("\n")
    assert "evaluated on 1971-01-01" in page(run)[1].text


def test_a_small_picture_is_enlarged_by_a_whole_factor_below_its_headings(run: RunDir) -> None:
    cases = [{"number": n, "id": f"eye {n}", "dice": n / 10} for n in range(2)]
    for number, width in enumerate((200, 1700)):
        write_files({run.case("test", number): to_png(np.zeros((4, width, 3), np.uint8))})
    _, seen = page(run, cases=cases)
    widths = [a["style"] for tag, a in seen.tags if tag == "figure" and "style" in a]
    assert widths == ["width: min(100%, 800px)", "width: min(100%, 1700px)"]
    assert [a.get("class") for tag, a in seen.tags if tag == "img"][:2] == ["enlarged", None]
    assert seen.text.count("predicted probability") == 2


def test_a_result_that_says_nothing_and_a_run_that_stopped_are_warned_of(run: RunDir) -> None:
    plots = {**evaluation()["plots"], "confusion": [[0, 92], [0, 8]]}
    _, seen = page(run, plots=plots)
    assert "Warning: 100.00% of the pixels are predicted as vessel at threshold" in seen.text
    assert "Warning:" not in page(run)[1].text
    start = {"kind": "start", "step": 3, "total_steps": 90, "steps_per_epoch": 3}
    sizes = {"parameters": 1, "batch": 4}
    with run.records(0).open("a") as records:
        records.write(json.dumps({**start, **sizes}) + "\n")
    assert "this run stopped after step 3 of 90 (epoch 1 of 30)" in page(run)[1].text


def as_folds(run: RunDir) -> None:
    """Two folds of one image each; the evaluation of both is that of ``page``."""
    scores = {"dice": 0.7, "iou": 0.6}
    rows = [
        {"name": name, "fold": n, "state": "done", "threshold": 0.25, "test": scores,
         "left_out": {**scores, "dice": dice}}
        for n, (name, dice) in enumerate((("fold_0", 0.61), ("fold_1", 0.65)))
    ]  # fmt: skip
    over = {"dice": {"mean": 0.63, "std": 0.0283, "members": 2}}
    of_test = {"dice": {"mean": 0.7, "std": 0.0, "members": 2}}
    val = evaluation(split="val", threshold=0.35)
    write_json(
        run.summary,
        {
            "vary": "fold",
            "members": rows,
            "over_members": {"left_out": over, "test": of_test},
            "val": val,
            "test": evaluation(),
        },
    )
    placement: dict[str, Any] = {}
    members = {"vary": "fold", "values": [0, 1], "parallel": 1, "placement": placement}
    write_json(run.members_file, members)
    tree = json.loads(run.dataset.read_text())
    splits = tree["splits"]
    splits["val"] += splits["train"]
    splits["train"] = []
    write_json(run.dataset, tree)
    for number in range(2):
        member = run.member(f"fold_{number}")
        write_json(member.dataset, {"splits": {"val": [{"id": "a"}] * (3 + number)}})
        member.records(0).parent.mkdir()
        evals = [{"kind": "eval", "step": step, "dice": step / 10} for step in (1, 2, 3)]
        member.records(0).write_text("".join(json.dumps(one) + "\n" for one in evals))


def test_members_of_numbered_objects_have_the_dice_of_all_their_pixels(run: RunDir) -> None:
    as_folds(run)
    summary = read_json(run.summary)
    for row in summary["members"]:
        for split in ("test", "left_out"):
            row[split] |= {"foreground_dice": row[split]["dice"] + 0.3}
    for over in summary["over_members"].values():
        over["foreground_dice"] = {**over["dice"], "mean": over["dice"]["mean"] + 0.3}
    for split in ("val", "test"):
        summary[split] |= {"foreground_dice": 0.95}
        summary[split]["intervals"]["foreground_dice"] = [0.9, 0.99]
    write_json(run.summary, summary)
    section = members_section(run)
    assert [row["cells"] for row in section["rows"]] == [
        ["3", "0.9100", "1.0000", "0.25"],
        ["4", "0.9500", "1.0000", "0.25"],
    ]
    assert section["ends"][0]["cells"][1:3] == ["0.9300", "1.0000"]
    assert section["sentences"][0].startswith(
        "Out of fold: Dice 0.9500 (95 % interval 0.9000 to 0.9900), mean of 2 images"
    )


NUMBERS_OF_FOLDS = ("0.6300", "0.0283", "0.7000", "0.0000")


def test_a_cross_validation_shows_each_fold_and_mean_deviation_and_curves(run: RunDir) -> None:
    as_folds(run)
    html, seen = page(run)
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in re.findall(r"(?s)<tr>.*?</tr>", html)]
    for row in (
        ["fold_0", "3", "0.6100", "0.7000", "0.25"],
        ["fold_1", "4", "0.6500", "0.7000", "0.25"],
        ["mean", "0.6300", "0.7000"],
        ["standard", "deviation", "0.0283", "0.0000"],
        [
            "Dice",
            "of",
            "the",
            "foreground",
            "0.8100",
            "0.8000",
            "to",
            "0.8200",
            "0.6300",
            "0.0283",
            "0.7000",
            "0.0000",
        ],
    ):
        assert row in rows, row
    for text in (
        "Cross-validation, 2 folds",
        "Out of fold: Dice 0.8100 (95 % interval 0.8000 to 0.8200), mean of 2 images, each "
        "predicted by the one that left it out, threshold 0.35; the epochs and the threshold were "
        "chosen on these very images, so it is optimistic.",
        "left out: mean",
        "out of fold, mean of 2 images",
        "images each left out once, 1 test",
        "The data check warned: few images",
    ):
        assert text in seen.text, text
    [curves] = [a for tag, a in seen.tags if tag == "img" and "each member" in str(a["alt"])]
    picture = picture_of(curves["src"])
    assert min(count_of(picture, colour) for colour in LINE_COLOURS[:2]) > 20
    assert count_of(picture, LINE_COLOURS[2]) == 0
    run.summary.unlink()  # as when the ranks write it
    assert "Cross-validation" not in page(run)[1].text


def test_the_report_of_folds_is_written_again_after_their_summary(run: RunDir) -> None:
    as_folds(run)
    run.summary.unlink()
    run.evaluation("test").write_text(json.dumps(evaluation()))
    write_json(run.threshold, {"threshold": 0.5, "threshold_source": "validation"})
    for member in run.networks():
        write_json(member.status, {"state": "done"})
        write_json(member.evaluation("test"), evaluation())
    EnsembleJob(
        folder=run,
        members=run.load_members(),
        placement=Placement(),
        division=divide(Placement(), 1, folder=run.path, fitting=(1,)),
        supervise=lambda topology: pytest.fail(f"nothing is left to do for {topology}"),
        fitting=(1,),
        console=Console(file=io.StringIO()),
    ).lead()
    seen = Page(run.report("test").read_text())
    assert "Cross-validation, 2 folds" in seen.text
    assert "Dice of the test images" in seen.text


def test_the_command_writes_the_split_that_was_asked_for_where_it_was_asked_to(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="was not evaluated yet: unet-dist eval"):
        report(run.path)
    for split in ("val", "test"):
        run.evaluation(split).write_text(json.dumps(evaluation(split=split)))
    report(run.path)
    assert "Metrics of the test split" in Page((run.path / "report.html").read_text()).text
    report(run.path, split="val")
    assert "Metrics of the test split" in Page((run.path / "report.html").read_text()).text
    assert "Metrics of the val split" in Page((run.path / "report_val.html").read_text()).text
    out = tmp_path / "validation.html"
    capsys.readouterr()
    report(run.path, split="val", out=out, as_json=True)
    assert "Metrics of the val split" in Page(out.read_text()).text
    assert json.loads(capsys.readouterr().out) == {"report": str(out), "split": "val"}
    with pytest.raises(UserError, match="must be train, val or test"):
        report(run.path, split="all")


@pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on the PATH or named by UNET_DIST_BROWSER"
)
def test_a_browser_shows_it_whole_offline_and_without_a_complaint(
    run: RunDir, tmp_path: Path
) -> None:
    run.report("test").write_text(page(run)[0])
    with browser_tab(str(find_browser()), tmp_path / "profile") as tab:
        tab.set_width(900)
        tab.open(run.report("test").as_uri())
        assert (
            tab.value("document.title")
            == "a run, v, format folder: Dice 0.8100 (95 %: 0.800 to 0.820)"
        )
        assert tab.value("document.images.length") == 3
        assert tab.value("[...document.images].every(image => image.naturalWidth > 0)")
        with Image.open(io.BytesIO(tab.screenshot())) as picture:
            assert picture.size == (900, 900)
            pixels = np.asarray(picture.convert("L"))
        assert 0.001 < (pixels < 128).mean() < 0.5  # text and pictures on white
        tab.set_width(400)  # tables scroll by themselves, the page does not
        assert tab.value("document.documentElement.scrollWidth") <= 400
        assert {url.partition(":")[0] for url in tab.requests()} == {"file", "data"}
        assert tab.complaints() == []

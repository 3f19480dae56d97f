"""What ranks can be asked to do: train, evaluate a split, predict images."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_dist.comm import Communicator, barrier
from unet_dist.config import Config, with_tta
from unet_dist.data.dataset import Dataset
from unet_dist.data.manifest import read_manifest
from unet_dist.errors import UserError
from unet_dist.evaluate.metrics import pool
from unet_dist.evaluate.names import main_dice
from unet_dist.evaluate.numbering import Numbering
from unet_dist.evaluate.on_ranks import summary_of
from unet_dist.evaluate.outputs import to_png, write_files
from unet_dist.evaluate.prediction_task import PredictionSettings
from unet_dist.evaluate.predictor import Network, Predictor
from unet_dist.evaluate.score import EvalSummary, null_if_nan, worst_and_best
from unet_dist.evaluate.structure import structure_of
from unet_dist.model.target import on_cpu
from unet_dist.profiling.capture import CapturePlan
from unet_dist.records import RecordWriter, read_records
from unet_dist.report.members import validations_of_members
from unet_dist.report.panels import PictureRow, strip
from unet_dist.report.pictures import Heading, report_picture
from unet_dist.runs import SPLITS, AttemptDir, RunDir, write_json, write_text_atomically
from unet_dist.train.loop import Outcome, train
from unet_dist.train.predict import predict_images
from unet_dist.train.rows import picture_row, with_objects
from unet_dist.train.rungs import Rungs
from unet_dist.train.trained import (
    Trained,
    choose_anew,
    choose_for_ensemble,
    load_trained,
)

if TYPE_CHECKING:
    from unet_dist.evaluate.measures import Decision

MOST_CASES = 6
"""Images shown in the report, half of them the worst and half the best."""


def run_job(
    job: Mapping[str, Any],
    attempt: AttemptDir,
    comm: Communicator,
    *,
    stop_requested: Callable[[], bool],
) -> None:
    run = RunDir(Path(job["run"]))
    config = stored = run.load_config()
    if job.get("tta"):
        config = with_tta(stored, job["tta"])
    dataset, normalisation = read_manifest(run.dataset, config.data)
    if job["kind"] == "predict":
        with RecordWriter(run.records(comm.rank)) as records:
            trained = load_trained(run, config, normalisation, records)
            numbering = job["made_by"]["numbering"]
            settings = PredictionSettings(
                config=config,
                threshold=trained.threshold,
                uncertainty=job["uncertainty"],
                coding=dataset.coding,
                made_by=job["made_by"],
                numbering=numbering and Numbering(**numbering),
                usual_mean=0.0 if config.data.even_light else min(normalisation.mean),
            )
            predict_images(
                job,
                trained.predictor,
                settings,
                trained.step,
                records,
                attempt,
                comm,
                stop_requested=stop_requested,
            )
        return
    if job["kind"] == "ensemble":
        evaluate_ensemble(run, config, dataset, attempt, comm)
        return
    if job["kind"] == "train":
        outcome = train(
            config,
            run,
            dataset,
            normalisation,
            comm,
            resume=job["resume"],
            until_dice=job.get("until_dice", 0.0),
            stop_requested=stop_requested,
            rungs=Rungs(epochs=tuple(job.get("rungs", ()))),
            is_trial=job.get("trial", False),
            profile=CapturePlan.of_json(job["profile"]) if job.get("profile") else None,
        )
        if outcome.stopped or job.get("trial") or not job.get("final_evaluation", True):
            if comm.rank == 0:
                write_json(attempt.result(), _ending_of(outcome))
            return
        barrier(comm)  # rank 0 may still be writing the last checkpoint
    splits = dataset.splits.parts()
    split = job["split"] or next(name for name in SPLITS if splits[name])
    with RecordWriter(run.records(comm.rank)) as records:
        trained = load_trained(run, config, normalisation, records)
        if trained.source == "validation" and config != stored:
            # Other views, which the threshold was not chosen with.
            phase = "choosing the threshold"
            told = _progress(comm, records, trained.step, phase, len(splits["val"]))
            trained = choose_anew(trained, config, dataset, comm, on_image=told)
    if not splits[split]:
        raise UserError("--split", f"the {split} split of this run has no images")
    decision = choose_thresholds(run, config, dataset, trained, comm)
    result = evaluate_split(split, run, config, dataset, trained, decision, comm)
    if comm.rank == 0:
        from unet_dist.report.html import report_html  # as in evaluate_split

        write_text_atomically(run.report(split), report_html(run, split))
        write_json(attempt.result(), result)
    barrier(comm)


def _ending_of(outcome: Outcome) -> dict[str, Any]:
    """Of a training that is not evaluated: it is not over, or it is a trial of a search or one of
    ``quantize``, for which the test images do not count."""
    if not outcome.stopped:
        return {"trained_to_step": outcome.state.step}
    if outcome.paused_at_epoch is not None:
        return {"paused_at_epoch": outcome.paused_at_epoch, "step": outcome.state.step}
    return {"stopped_at_step": outcome.state.step}


def evaluate_ensemble(
    run: RunDir, config: Config, dataset: Dataset, attempt: AttemptDir, comm: Communicator
) -> None:
    """What follows when all members are trained: their threshold, and every split that has images
    none of them was trained on. The launcher writes the report, once it has the summary."""

    def beat(done: int, total: int) -> None:
        doing = f"the threshold, {done} of {total} images"
        comm.heartbeat.beat("evaluation", step=0, doing=doing)

    beat(0, len(dataset.splits.val))
    with RecordWriter(run.records(comm.rank)) as records:
        trained = choose_for_ensemble(run, config, dataset, records, comm, on_image=beat)
    decision = choose_thresholds(run, config, dataset, trained, comm)
    splits = dataset.splits.parts()
    results = {
        split: evaluate_split(split, run, config, dataset, trained, decision, comm)
        for split in ("val", "test")
        if splits[split]
    }
    if comm.rank == 0:
        chosen = {"threshold": trained.threshold, "threshold_source": trained.source}
        write_json(run.threshold, chosen)
        write_json(attempt.result(), results)
    barrier(comm)


def choose_thresholds(
    run: RunDir, config: Config, dataset: Dataset, trained: Trained, comm: Communicator
) -> "Decision":
    """Those of the structure besides the one of the foreground."""
    from unet_dist.evaluate.final import decide  # as below

    structure = structure_of(config, dataset.coding)
    phase = f"choosing the threshold of {structure}"
    with RecordWriter(run.records(comm.rank)) as records:
        return decide(
            structure,
            trained.predictor,
            dataset,
            comm,
            threshold=trained.threshold,
            source=trained.source,
            on_image=_progress(comm, records, trained.step, phase, len(dataset.splits.val)),
        )


def evaluate_split(
    split: str,
    run: RunDir,
    config: Config,
    dataset: Dataset,
    trained: Trained,
    decision: "Decision",
    comm: Communicator,
) -> dict[str, Any]:
    """Measures a split with the best weights and thresholds chosen on validation images."""
    # Here, since importing scikit-image takes time that the start of a training need not wait for.
    from unet_dist.evaluate.final import fingerprint_of, measure_samples
    from unet_dist.evaluate.results import plots_of, result_of

    samples = dataset.splits.parts()[split]
    with RecordWriter(run.records(comm.rank)) as records:
        results = measure_samples(
            trained.predictor,
            dataset,
            samples,
            decision,
            comm,
            on_image=_progress(
                comm, records, trained.step, f"evaluating the {split} split", len(samples)
            ),
        )
    scores = [result.model.score for result in results]
    groups = {result.id: result.group for result in results}
    summary = summary_of(config, split, scores, trained.threshold, trained.source, groups=groups)
    fingerprint = fingerprint_of(
        config,
        split,
        results,
        decision,
        dataset.coding,
        checkpoint_step=trained.step,
        weights_sha256=trained.weights_sha256,
    )
    result = {
        **result_of(summary, results, decision, fingerprint),
        "class_names": list(config.data.names),
        "plots": plots_of(summary),
        "checkpoint_step": trained.step,
        "members": list(trained.members),
    }
    if comm.rank == 0:
        comm.heartbeat.beat("evaluation", step=trained.step, doing="the report picture")
        rows = _rows(config, dataset, trained.predictor, result, decision, comm)
        result["cases"] = _write_cases(run, split, rows)
        write_json(run.evaluation(split), result)
        _draw(run, config, rows, summary, result, comm.world)
    return result


def _progress(
    comm: Communicator, records: RecordWriter, step: int, phase: str, number: int
) -> Callable[[int, int], None]:
    """Tells the launcher how many of the job's images are done, from this rank's share."""

    def progress(done: int, total: int) -> None:
        comm.heartbeat.beat("evaluation", step=step, doing=f"{done} of {total} images")
        done = min(done * comm.world, number)
        records.write("progress", step=step, phase=phase, done=done, total=number)

    return progress


def _rows(
    config: Config,
    dataset: Dataset,
    predictor: Predictor[Network],
    result: Mapping[str, Any],
    decision: "Decision",
    comm: Communicator,
) -> list[PictureRow]:
    """The images to show, from the worst to the best."""
    name = main_dice(result)
    values = {row["id"]: row[name] for row in result["per_image"]}
    dice = {id_: math.nan if value is None else value for id_, value in values.items()}
    worst, best = worst_and_best(dice, max(1, config.log.images))
    samples = {sample.id: sample for sample in dataset.splits.parts()[result["split"]]}
    rows = []
    for id_ in (*worst, *reversed(best)):
        row = picture_row(predictor, dataset, samples[id_], result["threshold"], dice[id_])
        if decision.structure == "objects":
            comm.heartbeat.goes_on(f"drawing the objects of {id_}")
            row = with_objects(row, dataset, samples[id_], decision)
        rows.append(row)
    return rows


def _write_cases(run: RunDir, split: str, rows: Sequence[PictureRow]) -> list[dict[str, Any]]:
    """Pictures for the report; what it needs to know of each. They are few, so that the report
    stays below 6 MB."""
    if len(rows) > MOST_CASES:
        rows = [*rows[: MOST_CASES // 2], *rows[-MOST_CASES // 2 :]]
    write_files({run.case(split, number): to_png(strip(row)) for number, row in enumerate(rows)})
    return [
        {
            "number": number,
            "id": row.id,
            "dice": null_if_nan(row.dice),
            "objects": row.objects is not None,
        }
        for number, row in enumerate(rows)
    ]


def _draw(
    run: RunDir,
    config: Config,
    rows: Sequence[PictureRow],
    summary: EvalSummary,
    result: Mapping[str, Any],
    world: int,
) -> None:
    """The report picture."""
    records = list(read_records(run.records(0)))
    name = main_dice(result)
    objects = name == "foreground_dice"
    interval = result["intervals"][name]
    report_picture(
        rows,
        [record for record in records if record["kind"] == "step"],
        [record for record in records if record["kind"] == "eval"],
        run.picture(summary.protocol.split),
        of_members=validations_of_members(run),
        heading=Heading(
            run=run.path.name,
            ranks=world,
            simulated=on_cpu(),
            split=summary.protocol.split,
            images=summary.images,
            dice=math.nan if result[name] is None else result[name],
            of_objects=objects,
            interval=interval and (interval[0], interval[1]),
            threshold=result["structure"]["threshold"] if objects else summary.threshold,
            confusion_kk=pool([score for score, _ in summary.per_image]).matrix_kk,
            dice_of_class=tuple(one.dice for one in summary.per_class),
            class_names=config.data.names,
            note=f"{summary.sentence()} Below: the worst and the best images.",
        ),
    )

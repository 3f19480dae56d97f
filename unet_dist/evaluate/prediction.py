"""From an image file of any size to its results, from top to bottom.

Whether an image is small or does not fit in memory, it goes the same way: bands of rows are read,
resized, predicted by tiles, resized back and written. In memory are the rows of one batch of
tiles, a reduced picture for the overlay, and for small images the PNG files.
"""

import contextlib
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_dist.data.bands import resize_bands
from unet_dist.data.dataset import resized
from unet_dist.data.image_rows import ImageRows, open_rows
from unet_dist.data.object_size import LEAST
from unet_dist.errors import UserError
from unet_dist.evaluate.fingerprint import file_digest
from unet_dist.evaluate.finished import PredictionRecord, made_alone, show_results
from unet_dist.evaluate.first_look import scale_for
from unet_dist.evaluate.metrics import hard_prediction, refuse_nan
from unet_dist.evaluate.numbers import BYTES_A_PIXEL, MAX_PIXELS, Numbers, encoded
from unet_dist.evaluate.overlays import Pictures
from unet_dist.evaluate.prediction_task import (
    PredictionSettings,
    PredictionTask,
    with_tile,
)
from unet_dist.evaluate.seen_bands import middle_seen, seen_bands
from unet_dist.evaluate.sinks import Picture, PngSink, Sink, TiffSink
from unet_dist.evaluate.tiles import Forward, predict_bands
from unet_dist.evaluate.views import RowsOf, blank_outside, open_truth, open_view, view_of

PNG_PIXELS = 1 << 26
"""Larger images get tiled TIFF files, which no reader must load whole."""
MAX_WORKING_BYTES = 8 << 30

NO_VIEW = {
    True: "its field of view is estimated: no mask of it is known (data.fov=file)",
    False: "all of it is predicted: no mask of its field of view is known (data.fov=file)",
}
"""By whether it is an image of a retina."""


def predict_file(
    forward: Forward,
    task: PredictionTask,
    out: Path,
    settings: PredictionSettings,
    *,
    look: Forward | None = None,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
    on_phase: Callable[[str], None] = lambda doing: None,
    digest: Callable[[Path], str] = file_digest,
) -> PredictionRecord:
    """Writes the results of one image, ``STEM_...``, and last the record that tells of them.

    mask: 0 and 255, or class numbers with a palette. probability: 16-bit grey, 65535 being 1, of
    the foreground or of the most probable foreground class. uncertainty: 16-bit grey likewise.
    overlay, and errors if there is a truth: RGB pictures, reduced to ``MAX_SIDE``. objects or
    cells, if the structure has them and the image is not too large: their numbers, 16-bit grey, or
    a TIFF of 32 bits if 16 do not hold them; a CSV of the same name (``numbers.table``); and the
    overlay shows single objects in place of classes.

    Args:
        forward: with uncertainty std, the variance is its last channel.
        look: what ``first_look`` looks by; ``forward`` if there is none.
        on_rows: told the rows done and their total; what it raises ends the work, leaving nothing.
        on_phase: told what is done after the rows, and may take a minute; likewise.
        digest: ``file_digest``, cached where many pages share a file.

    Raises:
        UserError: the image or its truth cannot be read or the results not be written.
    """
    image = open_rows(task.image)
    data = settings.config.data
    unknown = data.fov == "file" and task.fov is None
    if task.fov:
        view = open_view(task.fov, image)
    else:
        # The dark rim of a fundus image is plain to see.
        view = view_of(image, "estimate" if unknown and data.is_retina else data.fov)
    _check_memory(image, settings, LEAST)  # before the first look, which needs some of it, too
    scale = scale_for(look or forward, settings.config, lambda: middle_seen(image, view, data))
    if settings.tile:
        size = resized((image.height, image.width), scale.factor)
        config = with_tile(settings.config, settings.tile, [size])
        settings = replace(settings, config=config)
    _check_memory(image, settings, scale.factor)
    truth = open_truth(task.truth, image, settings.coding) if task.truth else None
    with _Results(out, task.stem, image, settings, has_truth=truth is not None) as results:
        done = 0
        for prob_hwk in _probabilities(
            forward, image, view, settings, scale.factor, results.add_image
        ):
            rows = (done, done + len(prob_hwk))
            results.add(
                prob_hwk,
                inside_hw=view(*rows),
                truth_hw=truth.of_rows(*rows) if truth else None,
            )
            done += len(prob_hwk)
            on_rows(done, image.height)
        notes = [NO_VIEW[data.is_retina]] if unknown else []
        notes += [scale.note] if scale.note else []
        return results.complete(task, digest, notes, factor=scale.factor, on_phase=on_phase)


def _check_memory(image: ImageRows, settings: PredictionSettings, factor: float) -> None:
    config = settings.config
    width = max(image.width, resized((1, image.width), factor)[1])
    channels = 2 * config.data.in_channels + 4 * (config.data.classes + 1)
    # Each of two blurs looks 4 windows ahead, in which the channels wait.
    ahead = 8 * config.data.even_light * (config.data.in_channels + 2)
    needed = round(4 * width * (config.evaluate.tile * channels + ahead))
    pixels = image.height * image.width
    if settings.numbering is not None and pixels <= MAX_PIXELS:
        needed += BYTES_A_PIXEL * pixels
    if needed > MAX_WORKING_BYTES:
        raise UserError(
            str(image.ref.path),
            f"{image.width} columns by tiles of {config.evaluate.tile} rows, "
            f"{config.data.classes} classes and data.even_light {config.data.even_light:g} take "
            f"about {needed >> 30} GiB, more than "
            f"{MAX_WORKING_BYTES >> 30}: cut the image into narrower ones",
        )


def _probabilities(
    forward: Forward,
    image: ImageRows,
    view: RowsOf,
    settings: PredictionSettings,
    factor: float,
    on_image: Callable[[NDArray[np.float32]], None],
) -> Iterator[NDArray[np.float32]]:
    """Bands [n, W, K] in the image's own size; with std the variance is one channel more."""
    data, evaluate = settings.config.data, settings.config.evaluate
    size = (image.height, image.width)
    small = resized(size, factor)
    seen = seen_bands(image, view, data, on_image)
    predicted = predict_bands(
        forward,
        resize_bands(seen, size, small, area=factor < 1),
        small,
        tile=evaluate.tile,
        overlap=evaluate.overlap,
        batch=evaluate.batch,
    )
    row = 0
    for band_hwk in resize_bands(predicted, small, size, area=False):
        blank_outside(band_hwk, view(row, row + len(band_hwk)), classes=data.classes)
        row += len(band_hwk)
        yield band_hwk


class _Results:
    """The files of one image: hidden while they grow, under their names once all are complete."""

    def __init__(
        self,
        folder: Path,
        stem: str,
        image: ImageRows,
        settings: PredictionSettings,
        *,
        has_truth: bool,
    ) -> None:
        assert stem == Path(stem).name, stem
        self._folder, self._stem, self._settings = folder, stem, settings
        self._where = str(image.ref.path)
        self._size = (image.height, image.width)
        classes = settings.config.data.classes
        self._pictures = Pictures(
            image.height,
            image.width,
            classes=classes,
            has_truth=has_truth,
            of_objects=settings.coding.kind == "instances_border",
        )
        channels = 1 if classes == 2 else classes
        self._numbers = Numbers.of_image(settings.numbering, self._size, channels)
        grey = Picture(
            height=image.height, width=image.width, dtype=np.uint16, resolution=image.resolution
        )
        pictures = {
            "mask": Picture(
                height=image.height,
                width=image.width,
                dtype=np.uint8,
                palette=None if classes == 2 else self._pictures.colours,
                resolution=image.resolution,
            ),
            "probability": grey,
            **({"uncertainty": grey} if settings.uncertainty != "none" else {}),
        }
        self._parts: dict[Path, Path] = {}
        is_large = image.height * image.width > PNG_PIXELS
        self._ending = "tif" if is_large else "png"
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self._sinks: dict[str, Sink] = {
                name: TiffSink(picture, folder) if is_large else PngSink(picture)
                for name, picture in pictures.items()
            }

    def __enter__(self) -> "_Results":
        return self

    def __exit__(self, *_: object) -> None:
        for sink in self._sinks.values():
            sink.close()
        for part in self._parts.values():
            with contextlib.suppress(OSError):  # what went wrong before has told the reason
                part.unlink(missing_ok=True)

    def add_image(self, image_hwc: NDArray[np.float32]) -> None:
        self._pictures.add_image(image_hwc)

    def add(
        self,
        prob_hwk: NDArray[np.float32],
        *,
        inside_hw: NDArray[np.bool_],
        truth_hw: NDArray[np.uint8] | None,
    ) -> None:
        """The next rows.

        Raises:
            UserError: a probability is not a number, or a file cannot be written.
        """
        refuse_nan(prob_hwk, self._where, "pixels of a band")
        uncertainty = self._settings.uncertainty
        variance_hw = None
        if uncertainty == "std":
            prob_hwk, variance_hw = prob_hwk[:, :, :-1], prob_hwk[:, :, -1]
        if self._numbers is not None:
            self._numbers.add(prob_hwk, inside_hw)
        mask_hw = hard_prediction(prob_hwk, self._settings.threshold)
        self._pictures.add(mask_hw, truth_hw, inside_hw)
        two = self._settings.threshold is not None
        foreground_hw = prob_hwk[:, :, -1] if two else prob_hwk[:, :, 1:].max(axis=2)
        rows = {"mask": mask_hw * np.uint8(255) if two else mask_hw}
        rows["probability"] = _sixteen_bits(foreground_hw)
        if variance_hw is not None:
            rows["uncertainty"] = _sixteen_bits(np.sqrt(np.maximum(variance_hw, 0)) * inside_hw)
        elif uncertainty == "entropy":
            rows["uncertainty"] = _sixteen_bits(entropy(prob_hwk) * inside_hw)
        with self._told():
            for name, sink in self._sinks.items():
                sink.add(rows[name])

    def complete(
        self,
        task: PredictionTask,
        digest: Callable[[Path], str],
        notes: Sequence[str],
        *,
        factor: float,
        on_phase: Callable[[str], None],
    ) -> PredictionRecord:
        """Writes what is still held and gives all files their names."""
        numbering = self._settings.numbering
        for leftover in self._folder.glob(f".{glob.escape(self._stem)}_*.part"):
            leftover.unlink(missing_ok=True)  # of a job that was killed
        numbers_hw = self._write_numbers(on_phase)
        cells = numbering is not None and numbering.structure == "partition"
        # Cells fill a picture; what one wants to see there are the membranes between them.
        pictures = self._pictures.finished(None if cells else numbers_hw)
        with self._told():
            for name, sink in self._sinks.items():
                sink.finish(self._part(f"{self._stem}_{name}.{self._ending}"))
            for name, picture_hwc in pictures.items():
                part = self._part(f"{self._stem}_{name}.png")
                Image.fromarray(picture_hwc).save(part, format="PNG")
        record = PredictionRecord(
            image=task.image,
            image_sha256=digest(task.image.path),
            truth_sha256=digest(task.truth.path) if task.truth else "",
            fov_sha256=digest(task.fov.path) if task.fov else "",
            height=self._size[0],
            width=self._size[1],
            factor=factor,
            made_by=made_alone(self._settings.made_by, task.left_out_by),
            trained_on=task.trained_on,
            files=tuple(path.name for path in self._parts),
            pixels=self._pictures.error_pixels,
            objects=None if numbers_hw is None else int(numbers_hw.max(initial=0)),
            class_names=self._settings.config.data.names,
            notes=(*notes, *self._notes()),
        )
        with self._told():
            show_results(self._folder, self._stem, record, self._parts)
        return record

    def _write_numbers(self, on_phase: Callable[[str], None]) -> NDArray[np.int32] | None:
        """Of the objects or cells, with what is measured of each."""
        numbering = self._settings.numbering
        if numbering is None or self._numbers is None:
            return None
        numbers_hw, table = self._numbers.found(on_phase)
        ending, picture = encoded(numbers_hw)
        with self._told():
            self._part(f"{self._stem}_{numbering.name}.{ending}").write_bytes(picture)
            self._part(f"{self._stem}_{numbering.name}.csv").write_text(table)
        return numbers_hw

    def _notes(self) -> tuple[str, ...]:
        settings, notes = self._settings, []
        if settings.numbering is not None and self._numbers is None:
            notes.append(
                f"its {settings.numbering.name} are not numbered: more than {MAX_PIXELS:,} pixels"
            )
        brightest = self._pictures.brightest
        if brightest < settings.usual_mean:
            notes.append(
                f"its brightest pixel is {brightest:.3f} of the full range, darker than the "
                f"mean {settings.usual_mean:.3f} of the training images: 12 bits in a file of 16?"
            )
        return tuple(notes)

    def _part(self, name: str) -> Path:
        path = self._folder / name
        self._parts[path] = path.with_name(f".{name}.{os.getpid()}.part")
        return self._parts[path]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self._folder / f"{self._stem}_mask.{self._ending}"
            raise UserError(str(where), f"cannot be written: {error.strerror or error}") from error


def entropy(prob_hwk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shannon's, as a share of the largest possible one; one channel is a probability of two."""
    if prob_hwk.shape[2] == 1:
        prob_hwk = np.concatenate([prob_hwk, 1 - prob_hwk], axis=2)
    likely_hwk = np.clip(prob_hwk, 1e-12, 1)
    bits_hw = -(prob_hwk * np.log2(likely_hwk)).sum(axis=2) / np.log2(prob_hwk.shape[2])
    return np.asarray(bits_hw, np.float32)


def _sixteen_bits(values_hw: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.rint(np.clip(values_hw, 0, 1) * 65535).astype(np.uint16)

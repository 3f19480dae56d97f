"""``unet-dist data convert``: annotations of other programs in, predictions out to be corrected."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unet_dist.cli.shared import Json, answer, console_for
from unet_dist.errors import UserError, counted
from unet_dist.progress import counter

LINE_WIDTH, POINT_RADIUS = 10.0, 5.0
"""As Labelme itself draws them."""
TOLERANCE = 0.75
"""Smooths the stairs of slanted lines, whose corners are 0.71 aside, and little else."""
SPECK = 10
"""Pixels. What is smaller in a prediction is noise; numbered objects and drawn masks are kept."""

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="Labelme folder or JSON; COCO JSON; with --to labelme a data set's YAML or a folder "
        "of masks.",
    ),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")]
To = Annotated[
    Literal["folder", "labelme"], typer.Option(help="What OUT becomes.", show_default=True)
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Labels of the classes 1, 2, 3, ...; without it all labels in natural order, or the "
        "names that predictions or a data set tell.",
    ),
]
LabelMapFile = Annotated[
    Path | None,
    typer.Option(
        "--label-map",
        metavar="FILE",
        help="YAML mapping of labels to class numbers, 0 for background, `ignore` for left out.",
    ),
]
OthersOption = Annotated[
    Literal["refuse", "background", "ignore"] | None,
    typer.Option("--others", help="What becomes of labels that are not listed.  [default: refuse]"),
]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the images, if not where the JSON says; needed with a folder of masks.",
    ),
]
Instances = Annotated[
    bool | None,
    typer.Option(
        "--instances/--classes",
        help="Masks number the objects, or the classes.  [default: objects where predictions or "
        "Labelme files of this command number them, else classes]",
        show_default=False,
    ),
]
LineWidth = Annotated[
    float | None,
    typer.Option(min=0.1, max=1000, help=f"Pixels, of lines.  [default: {LINE_WIDTH:g}]"),
]
PointRadius = Annotated[
    float | None,
    typer.Option(min=0.1, max=1000, help=f"Pixels, of points.  [default: {POINT_RADIUS:g}]"),
]
ShapeKind = Annotated[
    Literal["polygon", "mask"] | None,
    typer.Option(
        "--shape",
        help="Shapes to write: polygon can be edited, mask keeps every pixel.  [default: polygon]",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1000,
        help=f"Pixels that a polygon may be off; 0 for exact.  [default: {TOLERANCE:g}]",
    ),
]
MinArea = Annotated[
    int | None,
    typer.Option(
        "--min-area",
        metavar="PIXELS",
        min=0,
        help="Leave out pieces and holes of fewer pixels; 0 keeps all.  "
        f"[default: {SPECK} of predictions, 0 of other masks and with --instances]",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace OUT, if this command has written it.")
]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for."""

    source: Path
    out: Path
    labels: str | None
    label_map: Path | None
    others: Literal["refuse", "background", "ignore"] | None
    images: Path | None
    instances: bool | None
    line_width: float | None
    point_radius: float | None
    shape: Literal["polygon", "mask"] | None
    tolerance: float | None
    min_area: int | None
    force: bool
    as_json: bool


def convert(
    source: Source,
    out: Out,
    to: To = "folder",
    labels: Labels = None,
    label_map: LabelMapFile = None,
    others: OthersOption = None,
    images: Images = None,
    instances: Instances = None,
    line_width: LineWidth = None,
    point_radius: PointRadius = None,
    shape: ShapeKind = None,
    tolerance: Tolerance = None,
    min_area: MinArea = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read Labelme or COCO annotations into images, masks and a data.yaml; write masks as Labelme.

    Every file is checked before anything is written. A pixel belongs to a shape if its centre
    lies inside. Later shapes paint over earlier ones; of COCO, small objects over large ones.
    Shapes of one label and group_id are one object; `_background_` with a group_id cuts a hole
    into its group, without one it paints background. `__ignore__` and crowds are left out.

    \b
    Examples:
      unet-dist data convert labelme_project data/mine --labels vessel,disc
      unet-dist data convert annotations/instances.json data/coco --images val2017
      unet-dist train data/mine/data.yaml --simulate 2
      unet-dist data convert predictions to_correct --to labelme --images IMAGES --labels vessel
      unet-dist data convert to_correct data/corrected --labels vessel
    """
    request = Request(
        source=source,
        out=out,
        labels=labels,
        label_map=label_map,
        others=others,
        images=images,
        instances=instances,
        line_width=line_width,
        point_radius=point_radius,
        shape=shape,
        tolerance=tolerance,
        min_area=min_area,
        force=force,
        as_json=as_json,
    )
    _refuse_idle(request, to)
    if not source.exists():
        raise UserError(str(source), "there is no such file or folder")
    if to == "folder":
        _to_folder(request)
    else:
        _to_labelme(request)


def _refuse_idle(request: Request, to: str) -> None:
    """Options that would have no effect."""
    options: dict[str, dict[str, object]] = {
        "folder": {
            "--shape": request.shape,
            "--tolerance": request.tolerance,
            "--min-area": request.min_area,
        },
        "labelme": {
            "--others": request.others,
            "--line-width": request.line_width,
            "--point-radius": request.point_radius,
        },
    }
    faults = [
        f"{name} has no effect with --to {to}"
        for name, value in options[to].items()
        if value is not None
    ]
    if request.labels is not None and request.label_map is not None:
        faults.append("--labels and --label-map exclude each other")
    if to == "folder" and request.others and request.labels is None and request.label_map is None:
        faults.append("--others has no effect without --labels or --label-map: all are listed")
    if to == "labelme" and request.shape == "mask" and request.tolerance is not None:
        faults.append("--tolerance has no effect with --shape mask, which is exact")
    if request.images is not None and not request.images.is_dir():
        faults.append(f"--images {request.images} is no folder")
    if faults:
        raise UserError("data convert", faults)


def _to_folder(request: Request) -> None:
    from unet_dist.data.convert.coco import CocoSource
    from unet_dist.data.convert.folder import survey, write_folder
    from unet_dist.data.convert.labelme import Pen
    from unet_dist.data.convert.masks_to_edit import is_predicted
    from unet_dist.data.convert.open import open_annotations
    from unet_dist.data.convert.output import check_output, drawing_of

    source, out = request.source, request.out
    if source.is_dir() and is_predicted(source):
        raise UserError(str(source), "holds predictions: add --to labelme --images IMAGES")
    inputs = [source, *([request.images] if request.images else [])]
    check_output(out, inputs, force=request.force)
    labels = _label_map(request)
    drawn = drawing_of(source)
    instances = drawn.instances if request.instances is None else request.instances
    pen = Pen(
        line_width=request.line_width or LINE_WIDTH,
        point_radius=request.point_radius or POINT_RADIUS,
    )
    opened = open_annotations(source, pen, request.images)
    is_coco = isinstance(opened, CocoSource)
    if is_coco and (request.line_width or request.point_radius):
        raise UserError(str(source), "COCO has no lines: --line-width, --point-radius do nothing")
    console = console_for(request.as_json)
    with counter(console, "checking annotations") as on_progress:
        found = survey(
            opened, labels, where=str(source), known=drawn.labels, on_progress=on_progress
        )
    record: dict[str, Any] = {"source": str(source.resolve())}
    record |= {"format": "coco"} if is_coco else {"format": "labelme", **asdict(pen)}
    record["instances"] = instances
    with counter(console, "painting masks") as on_progress:
        done = write_folder(
            opened, found, out, instances=instances, record=record, on_progress=on_progress
        )
    yaml_path = out / "data.yaml"
    quoted = shlex.quote(str(yaml_path))
    lines = [f"{counted(done.images, 'image')} with {counted(done.objects, 'object')} in {out}"]
    for label, number in sorted(found.labels.numbers.items(), key=lambda item: item[1]):
        shown = "" if instances else f"{number:3d} "  # no mask has class numbers then
        lines.append(f"  {shown}{label}: {counted(done.shapes.get(label, 0), 'shape')}")
    lines += [f"note: {note}" for note in done.notes]
    commands = [f"data check {quoted}", f"train {quoted} --simulate 2"]
    lines += ["look at them and train by", *(f"  unet-dist {command}" for command in commands)]
    if instances:
        lines.append(
            "or, to tell objects apart that touch, by a recipe such as\n  unet-dist train configs/"
            f"dsb2018.yaml {shlex.quote(f'data.root={out}')} data.masks=masks data.split.by=ratio "
            "data.split.file= --simulate 2"
        )
    value = {**asdict(done), "config": str(yaml_path), "directory": str(out)}
    answer(console, request.as_json, "\n".join(lines), value)


def _to_labelme(request: Request) -> None:
    from unet_dist.data.convert import masks_to_edit
    from unet_dist.data.convert.output import check_output
    from unet_dist.data.convert.to_labelme import Drawing, write_labelme

    source, out = request.source, request.out
    instances = bool(request.instances)
    names: tuple[str, ...] = ()
    if source.is_dir():
        if request.images is None:
            own = f", or {source / 'data.yaml'} itself" if (source / "data.yaml").is_file() else ""
            raise UserError(str(source), f"a folder of masks: pass --images with their images{own}")
        check_output(out, [source, request.images], force=request.force)
        if request.instances is None:
            instances = masks_to_edit.numbers_objects(source)
        masked = masks_to_edit.masks_of_folder(source, request.images, instances=instances)
        names = () if instances else _names_of_predictions(request)
    else:
        if request.images is not None or request.instances is not None:
            raise UserError(
                "data convert",
                "--images, --instances and --classes have no effect: "
                f"{source} says where and what they are",
            )
        masked, config, instances = masks_to_edit.masks_of_dataset(source)
        check_output(out, [source, Path(config.root)], force=request.force)
        names = ("background", "object") if instances else config.names
    if labels := _label_map(request):
        names = labels.names
    is_noisy = masks_to_edit.is_predicted(source) and not instances
    min_area = SPECK * is_noisy if request.min_area is None else request.min_area
    drawing = Drawing(
        kind=request.shape or "polygon",
        tolerance=TOLERANCE if request.tolerance is None else request.tolerance,
        names=names or ("background", "object" if instances else "foreground"),
        instances=instances,
        min_area=min_area,
    )
    record = {"source": str(source.resolve()), "format": "masks", **asdict(drawing)}
    record["names"] = list(drawing.names)
    console = console_for(request.as_json)
    with counter(console, "drawing shapes") as on_progress:
        drawn = write_labelme(masked, out, drawing, record=record, on_progress=on_progress)
    listed = ",".join(drawing.names[1:])
    again = f"unet-dist data convert {out} NEW --labels '{listed}'" + " --instances" * instances
    lines = [f"{counted(len(masked), 'image')} with {counted(drawn.shapes, 'shape')} in {out}"]
    if drawn.left_out:
        what = counted(drawn.left_out, "piece or hole", "pieces or holes")
        lines.append(
            f"{what} of fewer than {drawing.min_area} pixels left out; --min-area 0 keeps all"
        )
    lines += ["correct them by", f"  labelme {out} --labels {out / 'labels.txt'} --nodata"]
    lines += ["and read them back by", f"  {again}"]
    value = {"directory": str(out), "images": len(masked), **asdict(drawn), "names": drawing.names}
    answer(console, request.as_json, "\n".join(lines), value)


def _names_of_predictions(request: Request) -> tuple[str, ...]:
    """Of the classes, background first; empty if the folder does not tell.

    Raises:
        UserError: they contradict one another, or what was listed.
    """
    from unet_dist.data.convert.masks_to_edit import name_faults, predicted_names

    told, listed = predicted_names(request.source), _label_map(request)
    if faults := name_faults(told, listed and listed.names):
        raise UserError("--label-map" if request.label_map else "--labels", faults)
    return told[0] if told else ()


def _label_map(request: Request) -> Any:
    """The labels that were listed; None if none were."""
    from unet_dist.data.convert.labels import list_labels, read_label_map

    others = request.others or "refuse"
    if request.label_map is not None:
        return read_label_map(request.label_map, others)
    if request.labels is not None:
        return list_labels([label.strip() for label in request.labels.split(",")], others)
    return None

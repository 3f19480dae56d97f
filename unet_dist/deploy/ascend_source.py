"""Reads what must be known of a model before a converter sees it."""

import hashlib
from dataclasses import replace
from pathlib import Path

from unet_dist.deploy.ascend_request import Shape, SourceModel
from unet_dist.deploy.model_file import Metadata, ModelFile, metadata_of_onnx
from unet_dist.deploy.untrusted import read_onnx
from unet_dist.errors import UserError
from unet_dist.runs import read_json


def read_source(path: Path, *, int8: bool) -> SourceModel:
    """Of a model file, or of the one that is meant in a folder of ``export``.

    Raises:
        UserError: it is not there, tells nothing of itself, or its folder is of several runs.
    """
    if path.is_dir():
        ModelFile(path).check_one_run()
    file = path if not path.is_dir() else _in_folder(ModelFile(path), int8=int8)
    if not file.is_file():
        raise UserError(str(file), "there is no such file: unet-dist export RUN --to onnx -o DIR")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if file.suffix.lower() != ".onnx":
        folder = ModelFile(file.parent)
        folder.check_one_run()  # a MindIR file tells nothing of itself
        metadata = folder.load_metadata()
        return SourceModel(
            path=file,
            sha256=digest,
            metadata=metadata,
            fixed_shape=_exported_shape(folder, file, digest),
        )
    return replace(_of_onnx(file, metadata_of_onnx(file)), sha256=digest)


def _in_folder(folder: ModelFile, *, int8: bool) -> Path:
    if int8:
        return folder.int8
    return folder.onnx if folder.onnx.is_file() or not folder.mindir.is_file() else folder.mindir


def _exported_shape(folder: ModelFile, file: Path, digest: str) -> Shape | None:
    record = folder.export_record(file)
    told = read_json(record) if record.is_file() else {}
    if told.get("sha256", digest) != digest:
        raise UserError(str(file), f"is not the file that {record.name} tells of: export it again")
    shape = told.get("shape")
    if shape is None:
        return None
    if not (isinstance(shape, list) and len(shape) == 4 and all(isinstance(n, int) for n in shape)):
        raise UserError(str(record), f"its shape is {shape!r:.60}, but must be 4 whole numbers")
    return shape[0], shape[1], shape[2], shape[3]


def _of_onnx(path: Path, metadata: Metadata) -> SourceModel:
    # Here, since it takes time, and only those who deploy have it.
    import onnx

    from unet_dist.deploy.amct_form import amct_faults, to_amct_form

    model = read_onnx(path)
    if model.functions:
        raise UserError(
            str(path),
            "has its layers as functions, which no converter reads: unet-dist quantize RUN "
            "--layout plain, with the --max-size that quantize tells beside it",
        )
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    element = model.graph.input[0].type.tensor_type.elem_type
    is_quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    faults = amct_faults(to_amct_form(model)) if is_quantised else []
    return SourceModel(
        path=path,
        sha256="",
        metadata=metadata,
        opset=max(opsets, default=0),
        input_type=onnx.helper.tensor_dtype_to_np_dtype(element).name,
        is_quantised=is_quantised,
        amct_faults=tuple(faults),
    )

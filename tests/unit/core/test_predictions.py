"""What ``predict`` knows of its images before a rank starts."""

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import tifffile

from unet_dist.data.sample import ImageRef
from unet_dist.evaluate.finished import PredictionRecord, file_digest, show_results
from unet_dist.launching.predictions import unfinished

MADE = {"weights": ["w"]}


def test_a_stack_is_hashed_once_to_find_which_of_its_pages_are_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = tmp_path / "s.tif"
    tifffile.imwrite(stack, np.zeros((6, 8, 8), np.uint8), photometric="minisblack")
    out = tmp_path / "out"
    out.mkdir()
    listed = []
    for page in range(6):
        stem, ref = f"s_{page}", ImageRef(path=stack, page=page)
        (out / f".{stem}.part").write_bytes(b"mask")
        record = PredictionRecord(
            image=ref,
            image_sha256=file_digest(stack),
            truth_sha256="",
            height=8,
            width=8,
            made_by=MADE,
            files=(f"{stem}_mask.png",),
            pixels={},
        )
        if page < 4:
            show_results(out, stem, record, {out / f"{stem}_mask.png": out / f".{stem}.part"})
        listed.append({"path": str(stack), "page": page, "stem": stem, "truth": None})
    hashed, digest = [], hashlib.file_digest

    def counted(stream: BinaryIO, name: str) -> Any:
        hashed.append(stream.name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert [image["stem"] for image in unfinished(out, listed, MADE)] == ["s_4", "s_5"]
    assert hashed == [str(stack)]

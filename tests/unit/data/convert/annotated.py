"""Small projects, and the command as it is typed."""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from unet_dist.cli.data import app

SIZE = (8, 10)
"""Height and width of the images, in pixels."""


def png(pixels: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def base64_png(pixels: np.ndarray) -> str:
    return base64.b64encode(png(pixels)).decode()


def shape(label: str, points: Any, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


class Project:
    """A Labelme project that a test fills."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def image(self, name: str = "a.png", size: tuple[int, int] = SIZE) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        path.write_bytes(png(noise))
        return path

    def json(self, *shapes: Any, name: str = "a", **changes: Any) -> Path:
        tree = {
            "version": "5.4.1",
            "flags": {},
            "shapes": list(shapes),
            "imagePath": f"{name}.png",
            "imageData": None,
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
        }
        path = self.root / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree | changes))
        return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result

"""Small files written by the tests themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("masks/a.png", array) makes the folders and the file below tmp_path."""

    def write_pixels(name: str, pixels: np.ndarray, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels)).save(path, **options)
        return path

    return write_pixels


@pytest.fixture
def write_folder(write: Write, tmp_path: Path) -> Callable[..., Path]:
    """A folder data set: image 00.png has one colour of its own, masks have a square."""

    def write_all(count: int, *, side: int = 16, value: int = 255) -> Path:
        rng = np.random.default_rng(0)
        mask = np.zeros((side, side), np.uint8)
        mask[4:12, 4:12] = value
        for index in range(count):
            image = rng.integers(0, 256, (side, side, 3), np.uint8)
            write(f"images/{index:02d}.png", image)
            write(f"masks/{index:02d}.png", mask)
        return tmp_path

    return write_all

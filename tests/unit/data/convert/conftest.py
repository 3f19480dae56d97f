"""A small project written by each test itself, its conversion and the masks that come of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import Project, run
from PIL import Image


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """With one image, a.png."""
    project = Project(tmp_path / "project")
    project.image()
    return project


Convert = Callable[..., dict[str, Any]]


@pytest.fixture
def convert(project: Project, tmp_path: Path) -> Convert:
    """Converts the project into tmp_path/out, and returns the answer."""

    def convert_project(*options: object) -> dict[str, Any]:
        result = run(project.root, tmp_path / "out", *options, "--json")
        value: dict[str, Any] = json.loads(result.stdout)
        return value

    return convert_project


@pytest.fixture
def mask(tmp_path: Path) -> Callable[..., list[str]]:
    """The rows of a mask in tmp_path/out as text, one digit a pixel, ``#`` for what is left out."""

    def rows(name: str = "a") -> list[str]:
        values = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
        return ["".join("#" if v == 255 else str(v) for v in row) for row in values.tolist()]

    return rows

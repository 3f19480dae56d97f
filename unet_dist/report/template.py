"""Pages that need no other file: templates with the style of all reports."""

import base64
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent
TEXT_WIDTH = 944
"""Pixels of a page's text."""


def render(template: Path, **values: Any) -> str:
    """Raises jinja2.UndefinedError for what the template asks for and nobody gave."""
    return _environment(template.parent).get_template(template.name).render(**values)


@cache
def _environment(folder: Path) -> jinja2.Environment:
    """Kept, since it takes longer to compile a template than to fill it in."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def shown_picture(png: bytes) -> dict[str, Any]:
    """Small ones are enlarged to the width of the text, by a whole factor for true pixels."""
    width = int.from_bytes(png[16:20], "big")
    factor = max(1, TEXT_WIDTH // max(1, width))
    return {"picture": data_uri(png), "width": factor * width, "enlarged": factor > 1}

"""Pages that need no other file: templates with the style of all reports."""

import base64
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent


def render(template: Path, **values: Any) -> str:
    """Raises jinja2.UndefinedError for what the template asks for and nobody gave."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(**values)


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()

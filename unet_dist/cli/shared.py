"""What the commands share: how they speak, and the options that several of them have."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def console_for(as_json: bool) -> Console:
    """Where a person is spoken to: stderr if stdout is for one JSON object."""
    return Console(stderr=as_json, highlight=False, soft_wrap=True)


def answer(console: Console, as_json: bool, text: str, value: Any) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        console.print(text, markup=False)


def new_app(help_text: str) -> typer.Typer:
    """A group of commands, as all of them behave."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

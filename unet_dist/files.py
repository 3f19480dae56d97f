"""How files come into a folder and out of it: whole or not at all."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_dist.errors import UserError


def write_text_atomically(path: Path, text: str) -> None:
    write_files_atomically({path: text.encode()}, durable=True)


def write_files_atomically(contents: Mapping[Path, bytes], *, durable: bool) -> None:
    """Writes each file beside its place, and moves them there once all are complete: a reader
    sees the old file or the new one, never a part.

    Args:
        durable: wait until the disk has them, for what a run cannot do without.

    Raises:
        OSError: with the path that was to be written as ``filename``; nothing is left beside.
    """
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    current = next(iter(contents))
    try:
        for path, content in contents.items():
            current = path
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path].write_bytes(content)
            if durable:
                with parts[path].open("rb") as written:
                    os.fsync(written.fileno())
        for path, part in parts.items():
            current = path
            part.replace(path)
    except OSError as error:
        error.filename = str(current)
        raise
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):  # the write before told the reason
                part.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """
    Raises:
        UserError: nothing can be written there, which is told before what takes minutes to compute.
    """
    place = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(str(folder), f"cannot be written: {error.strerror}") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_files_atomically({path: json_bytes(value)}, durable=True)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """What ``write_json`` writes, for who writes several files together."""
    return (json.dumps(value, indent=2) + "\n").encode()


def read_bytes(path: Path, *, most: int, beyond: str = "and is not read") -> bytes:
    """A file that anybody may have made.

    Args:
        beyond: what to say of a file with more bytes than ``most``.

    Raises:
        UserError: it is no file, cannot be read, or is larger than that.
    """
    try:
        # A pipe or a device could be waited for without end.
        if path.exists() and not path.is_file():
            raise UserError(str(path), "is not a file")
        with path.open("rb") as opened:
            # Of its size, since as many bytes as are asked for are allocated first; a growing file
            # has more.
            size = os.fstat(opened.fileno()).st_size
            content = opened.read(min(size, most) + 1)
            if size < len(content) <= most:
                content += opened.read(most + 1 - len(content))
    except FileNotFoundError as error:
        raise UserError(str(path), "no such file") from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise UserError(repr(str(path)), f"is no path: {error}") from error
    if len(content) > most:
        raise UserError(str(path), f"is larger than {most:,} bytes, {beyond}")
    return content


def read_json(path: Path, *, max_bytes: int = 50_000_000) -> dict[str, Any]:
    """
    Raises:
        UserError: as ``read_bytes``; it does not hold one JSON object.
    """
    content = read_bytes(path, most=max_bytes)
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(str(path), f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(str(path), "must hold one JSON object")
    return value

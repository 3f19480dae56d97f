"""Configurations from YAML files and the command line, with all faults at once."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from unet_dist.config import Config
from unet_dist.config_data import Section
from unet_dist.errors import UserError

MAX_YAML_BYTES = 1_000_000


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, applies ``a.b=c`` overrides and checks everything.

    Raises:
        UserError: with all faults at once, each with the closest known key.
    """
    return build_config(read_yaml_mapping(path), overrides, where=str(path))


def build_config(tree: Mapping[str, Any], overrides: Sequence[str], *, where: str) -> Config:
    merged = _deep_copy(tree)
    faults = [fault for override in overrides if (fault := _apply_override(merged, override))]
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        known = [name for name, _ in known_keys()]
        faults += [explain(item, known) for item in error.errors()]
    if faults:
        raise UserError(where, faults)
    return config


def dump_config(config: Config) -> str:
    """YAML text with every key, which ``load_config`` reads back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Reads one YAML mapping, without aliases, which could grow without limit."""
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise UserError(str(path), f"larger than {MAX_YAML_BYTES} bytes: not a configuration")
        text = path.read_text(encoding="utf-8")
        # Scanning takes as long as loading, and without a star there is nothing to find.
        for token in yaml.scan(text, Loader=yaml.SafeLoader) if "*" in text else ():
            if isinstance(token, yaml.AliasToken):
                line = token.start_mark.line + 1
                raise UserError(str(path), f"line {line}: YAML aliases (*name) are not accepted")
        tree = yaml.safe_load(text)
    except IsADirectoryError as error:
        # As data synth, data convert and a run leave them.
        inside = [path / name for name in ("config.yaml", "data.yaml")]
        found = next((f": its configuration is {file}" for file in inside if file.is_file()), "")
        raise UserError(str(path), f"is a folder, not a configuration file{found}") from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"not UTF-8 text at byte {error.start}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(str(path), f"not valid YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(str(path), "must be a mapping of keys to values, such as `train: {lr: 1}`")
    return tree


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key as ``a.b`` with its pydantic field, sections themselves left out."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from known_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def value_of(config: BaseModel, key: str) -> Any:
    """The value of ``a.b``."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def with_absolute_paths(config: Config) -> Config:
    """The same, readable from every working directory."""
    split = config.data.split
    if split.file:
        # An order belongs to the data set; a list, to whoever divides it anew.
        below = Path(config.data.root) if split.rule == "order" else Path()
        split = split.model_copy(update={"file": str((below / split.file).resolve())})
    root = str(Path(config.data.root).resolve()) if config.data.root else ""
    data = config.data.model_copy(update={"root": root, "split": split})
    start = config.train.start_from
    train = config.train.model_copy(update={"start_from": start and str(Path(start).resolve())})
    return config.model_copy(update={"data": data, "train": train})


def _deep_copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _deep_copy(v) if isinstance(v, Mapping) else v for k, v in tree.items()}


def _apply_override(tree: dict[str, Any], override: str) -> str | None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"{override!r} is not of the form key=value, such as train.lr=0.001"
    try:
        value = yaml.safe_load(text)
        # YAML 1.1 reads 1e-3 as text; on a command line it is a number.
        if isinstance(value, str):
            value = float(value) if _is_number(value) else value
    except yaml.YAMLError:
        return f"{override!r}: the value is not valid YAML"
    *parents, leaf = key.split(".")
    node: Any = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            return f"{override!r}: {parent} is a value, not a section"
    node[leaf] = "" if value is None else value
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return any(character.isdigit() for character in text)


def explain(item: Any, known: Sequence[str]) -> str:
    """One of pydantic's errors in words; an unknown key with the closest known one."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return unknown_key(key, known)
    if item["type"] == "value_error":
        return f"{key + ': ' if key else ''}{item['ctx']['error']}"
    message = item["msg"][0].lower() + item["msg"][1:]
    return f"{key}: {message}, not {item['input']!r:.80}"


def unknown_key(key: str, known: Sequence[str]) -> str:
    leaf = key.rpartition(".")[2]
    depth = key.count(".") + 1
    parts = [name.split(".") for name in known]
    # A section first for what stands where sections do: retrian is retrain, not retrain.top.
    there = dict.fromkeys(".".join(part[:depth]) for part in parts if len(part) >= depth)
    beside = [name for name in there if name != key]  # a section where a value should be
    close = (
        difflib.get_close_matches(key, beside, n=1, cutoff=0.6)
        or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        or [name for name in known if name.rpartition(".")[2] == leaf][:1]
    )
    return f"{key}: unknown key" + (f"; did you mean {close[0]}?" if close else "")

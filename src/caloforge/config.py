"""Reading of configurations: strict pydantic models, YAML files and `--set` overrides.

Unknown keys are refused with the nearest valid name. No setting can name a Python object or run code.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from caloforge.errors import ConfigError, nearest
from caloforge.yaml_loader import MAX_BYTES, StrictLoader

T = TypeVar("T", bound="StrictModel")
# problems of pydantic: a value in place of a mapping, or of a list
NO_MAPPING, NO_LIST = ("model_type", "model_attributes_type", "dict_type"), ("tuple_type", "list_type")


class StrictModel(BaseModel):
    """Base of all configuration classes: frozen, no unknown keys, no conversion of numbers to text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: The file is missing, unreadable, not YAML, or not a mapping; duplicate keys.
    """
    path = Path(path)
    try:
        text = _read_bounded(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{path}: cannot read this configuration ({reason})") from error
    return parse_yaml(text, str(path))


def _read_bounded(path: Path) -> str:
    # the shell's <(...) is read; a named pipe without a writer would block for ever
    if path.is_fifo() and path.parts[:2] not in (("/", "dev"), ("/", "proc")):
        raise ConfigError(f"{path}: cannot read this configuration (a pipe, expected a file)")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES // 1000} kB, which no configuration is")
    return content.decode("utf-8")


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Parse YAML text whose top level is a mapping; `name` is used in messages."""
    document = _load_yaml(text, name)
    if not isinstance(document, dict):
        got = "nothing" if document is None else type(document).__name__
        raise ConfigError(f"{name}: got {got} at the top level, expected 'key: value' lines")
    return document


def _load_yaml(text: str, name: str) -> Any:
    """Any YAML value; raises a ConfigError that begins with `name`."""
    try:
        return yaml.load(text, Loader=StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{name}{where}: not valid YAML: {problem}") from error
    except (ValueError, OverflowError) as error:
        # text that looks like a date or a number but is not a valid one
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply to be a configuration") from error


def apply_overrides(document: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `--set a.b=c` settings, each value read as YAML, to a copy of a document.

    Args:
        document: The parsed configuration.
        overrides: Settings such as "training.batch_size=64" or "beam.energy.min=5 GeV".

    Raises:
        ConfigError: A setting without "=", an empty key, or a path through something that is no mapping.
    """
    result: dict[str, Any] = _copy(document)
    for setting in overrides:
        path, sign, raw = setting.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not sign or not all(keys):
            raise ConfigError(f"--set {setting}: expected KEY=VALUE such as training.batch_size=64")
        _assign(result, keys, _load_yaml(raw, f"--set {setting}:"), setting)
    return result


def _assign(target: Any, keys: list[str], value: Any, setting: str) -> None:
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            if not is_index(key, target):
                raise ConfigError(f"--set {setting}: {key!r} is no index of a list of {len(target)} entries")
            index = int(key)
            if last:
                target[index] = value
            else:
                target = target[index]
        elif isinstance(target, dict):
            if last:
                target[key] = value
            else:
                target = target.setdefault(key, {})
        else:
            path = ".".join(keys[:depth])
            raise ConfigError(f"--set {setting}: {path} is a plain value and has no {key!r}")


def is_index(key: str, target: list[Any]) -> bool:
    """Whether a part of a dotted key is the number of an entry of a list."""
    return key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < len(target)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A document with changes: mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def build(model: type[T], document: Mapping[str, Any], name: str) -> T:
    """Validate a document against a model; every problem is reported at once.

    Args:
        model: The configuration class.
        document: The parsed document.
        name: File name or other origin, for messages.

    Raises:
        ConfigError: With one line per problem: path, what, got, expected, nearest valid name.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [_problem_text(model, problem, name) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def _problem_text(model: type[BaseModel], problem: Any, name: str) -> str:
    whole = problem["type"] in ("value_error", *NO_MAPPING)
    location = _without_tags(model, [str(part) for part in problem["loc"]], last=whole)
    where = f"{name} › {'.'.join(location)}" if location else name
    message = problem["msg"].removeprefix("Value error, ")
    got = problem.get("input")
    if problem["type"] == "extra_forbidden":
        hint = _hint(model, [str(part) for part in problem["loc"]])
        return f"{where}: unknown setting (got {_short(got)}). {hint}".rstrip()
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        key = problem["ctx"]["discriminator"].strip("'")
        # that of a function, as "_kind()"
        key = "kind" if key.endswith("()") else key
        if problem["type"] == "union_tag_not_found":
            return f"{where}.{key}: this setting is required but absent"
        valid = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{where}.{key}: got {problem['ctx']['tag']!r}. {nearest(problem['ctx']['tag'], valid)}"
    if problem["type"] == "missing":
        if isinstance(problem["loc"][-1], int):
            count = problem["loc"][-1] + 1
            where = where.rpartition(".")[0]
            return f"{where}: got {_short(list(got))}, expected at least {count} values"
        return f"{where}: this setting is required but absent"
    if problem["type"] in NO_MAPPING:
        return f"{where}: got {_short(got)}, expected settings, each as 'key: value'"
    if problem["type"] in NO_LIST:
        return f"{where}: got {_short(got)}, expected a list, which is given as a whole"
    if problem["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message} (got {_short(got)})"


def _without_tags(model: type[BaseModel], location: list[str], *, last: bool) -> list[str]:
    """The path as the user wrote it, without the union tags that pydantic inserts between the keys.

    A final part is removed as a tag only where a whole mapping is refused (`last`).
    """
    models: list[type[BaseModel]] = [model]
    path = []
    for depth, part in enumerate(location):
        following = [
            m for c in models if part in c.model_fields for m in _models_in(c.model_fields[part].annotation)
        ]
        tags = {tag for candidate in models for tag in _tags(candidate)}
        known = any(part in c.model_fields for c in models)
        if part in tags and not known and (last or depth < len(location) - 1):
            continue
        path.append(part)
        models = following or models
    return path


def _tags(model: type[BaseModel]) -> set[str]:
    """Values of `kind` or `family` that choose this model in a union."""
    fields = [field for name, field in model.model_fields.items() if name in ("kind", "family")]
    return {str(tag) for f in fields for tag in (f.default, *typing.get_args(f.annotation))}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(model: type[BaseModel], location: Sequence[str]) -> str:
    """The nearest valid name of an unknown setting: of the same level, or one that is nested deeper.

    Args:
        model: The configuration class.
        location: Keys, indices of lists and union tags that lead to the setting, and its name.
    """
    *path, name = location
    models = [model]
    for part in path:
        following = [
            m for c in models if part in c.model_fields for m in _models_in(c.model_fields[part].annotation)
        ]
        # an index of a list leads to no other model, the tag of a union to one of those of its key
        models = following or [m for m in models if part in _tags(m)] or models
    deeper = [found for candidate in models for found in _nested(candidate, name)]
    if deeper:
        return f"Did you mean {' or '.join(repr(found) for found in list(dict.fromkeys(deeper))[:3])}?"
    return nearest(name, {field for candidate in models for field in candidate.model_fields})


def _nested(model: type[BaseModel], name: str, depth: int = 2) -> list[str]:
    """Dotted paths, in models inside a model, of settings of a name."""
    found = []
    for key, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            if name in inner.model_fields:
                found.append(f"{key}.{name}")
            elif depth > 1:
                found += [f"{key}.{path}" for path in _nested(inner, name, depth - 1)]
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    if isinstance(annotation, types.GenericAlias | types.UnionType) or typing.get_origin(annotation):
        for argument in typing.get_args(annotation):
            found += _models_in(argument)
    return found


def to_yaml(model: BaseModel) -> str:
    """The model as YAML text in field order; reading it back gives an equal model."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

"""Every key of run.yaml as Markdown, from the classes that read it."""

import inspect
import json
import typing
from typing import Any

from markdown_table import table
from pydantic import BaseModel

from caloforge.beam import PARTICLES
from caloforge.fullsim.config import PHYSICS
from caloforge.models.presets import FamilyConfig
from caloforge.run import RunConfig
from caloforge.tuning.config import StudyConfig

Models = tuple[type[BaseModel], ...]
# text that is checked against a list, which its JSON schema does not say
CHOICES = {"beam.particle": tuple(PARTICLES), "fullsim.physics": PHYSICS}
# the longest list of choices that a table shows
MOST_CHOICES = 9


def run_yaml() -> str:
    """A section for each mapping in a run.yaml: what it is and its keys."""
    return _Keys("run").document(RunConfig)


def study_yaml() -> str:
    """The same for a study.yaml."""
    return _Keys("study").document(StudyConfig)


class _Keys:
    """Writes each configuration class once, where it is met first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._written: dict[Models, str] = {}

    def document(self, root: type[BaseModel]) -> str:
        return "\n\n".join(self._sections((root,), ""))

    def _sections(self, models: Models, path: str) -> list[str]:
        """The section of some alternatives, then those of what their keys hold."""
        self._written[models] = path
        inner = {
            _join(path, key): _models_in(field.annotation)
            for model in models
            for key, field in model.model_fields.items()
        }
        texts = [self._heading(path) if path else "## The document"]
        for model in models:
            if path:
                kind = f"`{_tag(model)}: {_kind(model)}`: " if len(models) > 1 else ""
                texts.append(kind + (inspect.getdoc(model) or ""))
            texts.append(self._table(model, path, inner, hide_kind=len(models) > 1))
            if issubclass(model, FamilyConfig):
                texts.append(_presets(model))
        for where, found in inner.items():
            if found and found not in self._written:
                texts += self._sections(found, where)
        return [text for text in texts if text]

    def _table(self, model: type[BaseModel], path: str, inner: dict[str, Models], *, hide_kind: bool) -> str:
        defaults = model.model_construct().model_dump(mode="json")
        properties = model.model_json_schema()["properties"]
        rows = []
        for key, field in model.model_fields.items():
            if hide_kind and key == _tag(model):
                continue
            where = _join(path, key)
            if found := inner[where]:
                # keys of one kind share the section of the first
                target = self._written.get(found) or next(k for k, v in inner.items() if v == found)
                value = f"{_container(properties[key])}[{target}](#{self._anchor(target)})"
            else:
                value = _choices(CHOICES[where]) if where in CHOICES else _value(properties[key])
            rows.append([f"`{key}`", value, _default(model, key, defaults, required=field.is_required())])
        return table(["Key", "Value", "Default"], rows) if rows else ""

    def _heading(self, path: str) -> str:
        return f"({self._anchor(path)})=\n{'#' * (2 if '.' not in path else 3)} {path}"

    def _anchor(self, path: str) -> str:
        return f"{self._name}-{path.replace('.', '-').replace('_', '-')}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _tag(model: type[BaseModel]) -> str:
    """The key that tells alternatives apart."""
    return "family" if issubclass(model, FamilyConfig) else "kind"


def _kind(model: type[BaseModel]) -> str:
    return str(typing.get_args(model.model_fields[_tag(model)].annotation)[0])


def _models_in(annotation: Any) -> Models:
    """Configuration classes that a type holds, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for argument in typing.get_args(annotation) for model in _models_in(argument))


def _container(schema: dict[str, Any]) -> str:
    return {"array": "list of ", "object": "names and their "}.get(schema.get("type", ""), "")


def _value(schema: Any) -> str:
    """What may stand for a key, in words."""
    if schema in ({}, True):
        return "any value"
    if "anyOf" in schema:
        return ", or ".join(_value(part) for part in schema["anyOf"])
    if "enum" in schema:
        return _choices(tuple(schema["enum"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} times: {_value(schema['prefixItems'][0])}"
    if schema.get("type") == "array":
        return f"list of: {_value(schema['items'])}"
    if schema.get("type") == "object":
        return f"names and: {_value(schema['additionalProperties'])}"
    if "examples" in schema:
        return f"{schema['description'].split()[0]}, such as `{schema['examples'][0]}`"
    names = {"string": "text", "boolean": "`true` or `false`", "null": "`null`"}
    return names.get(schema["type"], schema["type"]) + _limits(schema)


def _limits(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    # the end of 64 bits says nothing to a reader
    return "".join(
        f", {word} {schema[key]:g}" for key, word in words.items() if key in schema and schema[key] < 2**31
    )


def _choices(values: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{value}`" for value in values[:MOST_CHOICES])
    return shown + (" and more: `caloforge list`" if len(values) > MOST_CHOICES else "")


def _default(model: type[BaseModel], key: str, defaults: dict[str, Any], *, required: bool) -> str:
    if required:
        return "from the preset" if issubclass(model, FamilyConfig) else "required"
    if len(_models_in(model.model_fields[key].annotation)) == 1:
        return ""
    return "none" if defaults[key] in ("", [], {}) else f"`{_inline(defaults[key])}`"


def _inline(value: Any) -> str:
    """A value as it would be written on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _presets(family: type[FamilyConfig]) -> str:
    """What the presets of a family set, besides the layers of its networks."""
    flat = {name: dict(_scalars(preset)) for name, preset in family.presets.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    rows = [
        [f"`{key}`", *(f"`{_inline(s[key])}`" if key in s else "default" for s in flat.values())]
        for key in keys
    ]
    layers = ", besides the layers of their networks" if "generator.latent" in keys else ""
    return f"What the presets set{layers}:\n\n" + table(["Key", *flat], rows)


def _scalars(settings: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            found += _scalars(value, _join(path, key))
        elif key != "blocks":
            found.append((_join(path, key), value))
    return found

"""The run configuration: detector, beam, full simulation, model and training in one document."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from caloforge.beam import BeamConfig
from caloforge.config import StrictModel, apply_overrides, build, parse_yaml, read_yaml
from caloforge.errors import ConfigError, nearest
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector, detector_document, preset_names
from caloforge.models.registry import ModelConfig
from caloforge.names import is_path, shipped_name
from caloforge.training.config import TrainingConfig

RECIPES = Path(__file__).parent / "recipes"
STUDIES = RECIPES / "studies"
# settings that choose a detector; others change it
CHOOSES = ("detector", "detector.preset", "detector.random")


class RunConfig(StrictModel):
    """The root of every run.yaml. Each section is documented at its class."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    description: str = ""
    seed: int = Field(default=0, ge=0, lt=2**63)
    detector: Detector
    beam: BeamConfig
    fullsim: FullSimConfig = FullSimConfig()
    model: ModelConfig
    training: TrainingConfig = TrainingConfig()


def run_schema() -> dict[str, Any]:
    """The JSON schema of a run.yaml as it is written, for editors."""
    # defaults with their units, as a document has them
    schema = RunConfig.model_json_schema(mode="serialization")
    by_name = {"type": "string", "description": "a preset, or a YAML file beside this one"}
    changed = {"type": "object", "properties": {"preset": by_name}, "required": ["preset"]}
    number = {"type": "integer", "description": "of a random detector, from 0"}
    drawn = {"type": "object", "properties": {"random": number}, "required": ["random"]}
    schema["properties"]["detector"] = {"anyOf": [by_name, changed, drawn, schema["properties"]["detector"]]}
    return schema


def recipe_names() -> list[str]:
    """Names of the recipes: complete run.yaml files that come with caloforge."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def study_names() -> list[str]:
    """Names of the studies that come with caloforge; to list them must not import what a study uses."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def recipe_text(name: str) -> str:
    """The commented YAML of a recipe, by its name or by the detector preset it is for.

    Raises:
        ConfigError: Neither exists; with the nearest name.
    """
    if name in recipe_names():
        return (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    for recipe in recipe_names():
        text = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")
        if parse_yaml(text, recipe).get("detector") == name and name in preset_names():
            return text
    hint = nearest(name, [*recipe_names(), *preset_names()])
    raise ConfigError(f"no recipe or detector preset is called {name!r}. {hint}")


def run_file(source: str | Path) -> Path | None:
    """The file of a run, or None where the source is the name of a recipe."""
    return None if shipped_name(source, recipe_names(), "recipe") else Path(source)


def load_run(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Read a run.yaml, or a recipe by name, with `--set` overrides.

    Args:
        source: The name of a recipe, or the path of a YAML file.
        overrides: Settings such as "training.batch_size=64".

    Raises:
        ConfigError: Unreadable, or with settings that are unknown, missing or out of range; all at once.
    """
    path = run_file(source)
    if path is None:
        document = parse_yaml(recipe_text(str(source)), str(source))
    elif is_path(source) or os.path.lexists(path):
        document = read_yaml(path)
    else:
        hint = nearest(str(source), recipe_names())
        raise ConfigError(f"{source}: no such file, and no recipe has this name. {hint}")
    return build(RunConfig, _expand(document, overrides, Path(source).parent), str(source))


def _expand(document: dict[str, Any], overrides: list[str] | tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Resolve the preset of the detector, so that overrides and messages reach all of its keys."""
    chooses = [s for s in overrides if s.partition("=")[0].strip() in CHOOSES]
    document = apply_overrides(_with_preset(document), chooses)
    document = _with_preset(document)
    detector = document.get("detector")
    if isinstance(detector, dict):
        preset = str(detector.get("preset", ""))
        if preset not in preset_names() and is_path(preset):
            target = (folder / preset).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise ConfigError(
                    f"detector: {preset} lies outside the folder of the run file; copy it there"
                )
            changes = {key: value for key, value in detector.items() if key != "preset"}
            detector = {**read_yaml(target), **changes}
        document["detector"], _ = detector_document(detector)
    return apply_overrides(document, [setting for setting in overrides if setting not in chooses])


def _with_preset(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a detector name replaced by `{preset: name}`, to which overrides can be added."""
    if isinstance(name := document.get("detector"), str):
        return {**document, "detector": {"preset": name}}
    return document

"""Configuration of a study; importing it imports neither Ray nor Optuna nor torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from caloforge.config import StrictModel, build, read_yaml
from caloforge.errors import ConfigError, nearest
from caloforge.names import is_path, shipped_name
from caloforge.run import STUDIES, study_names
from caloforge.tuning.objective import check_figure
from caloforge.tuning.parameters import Parameter
from caloforge.tuning.samplers.config import SamplerConfig, several_objectives

# what a study may search or change: the showers were made with the rest
SECTIONS = ("model", "training")


class ObjectiveConfig(StrictModel):
    """A figure to make small or large.

    `figure` is `merit` (P + E of the training's own evaluation), `ms_per_shower`, or a number of
    metrics.json: `merit_sum` and the like for those of whole showers, `response.inclusive.mean_shift` for
    observable, bin and metric. Signed shifts count by their size.
    """

    figure: str
    direction: Literal["minimize", "maximize"] = "minimize"

    @field_validator("figure")
    @classmethod
    def _known(cls, value: str) -> str:
        check_figure(value)
        return value


class PrunerConfig(StrictModel):
    """Which trials are stopped early, judged by the merit of the first fold's evaluations.

    `asha` lets the best 1/`reduction` of the trials go on after `first`, `first` x `reduction`, ...
    evaluations; `hyperband` does so in several brackets up to `last` evaluations.
    """

    kind: Literal["none", "asha", "hyperband"] = "none"
    reduction: int = Field(default=3, ge=2, le=16)
    first: int = Field(default=1, ge=1, le=100_000)
    last: int = Field(default=9, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"last: got {self.last}, expected at least first ({self.first})")
        return self


class LayoutConfig(StrictModel):
    """How many trials run at once, and on what.

    `groups` trials run side by side, each with `workers` data-parallel processes of `cores` cores and `gpus`
    GPUs. With `k_folds` of 2 and more every trial trains as many models, each with another part of the data
    held out, at the same time where there are resources for it.
    """

    groups: int = Field(default=1, ge=1, le=100_000)
    workers: int = Field(default=1, ge=1, le=100_000)
    k_folds: int = Field(default=1, ge=1, le=100)
    cores: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)


class StudyConfig(StrictModel):
    """The root of every study.yaml.

    `run` is a run.yaml beside the study, or the name of a recipe, and `changes` are made to it first: by keys
    with dots, as `--set` does, or nested as in a run.yaml, in which case what is not named stays as it is.
    `data` is the shower file to train on, and `test` one that the search never sees: at its end the best
    trial and the run it started from are compared on it. Both may be given on the command line instead.
    `retries` is how often a failed trial is tried again. The search ends after `max_trials` or `max_minutes`.
    """

    name: str = Field(default="study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    description: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    run: str
    changes: dict[str, Any] = Field(default_factory=dict)
    data: str | None = None
    test: str | None = None
    space: dict[str, Annotated[Parameter, Field(discriminator="kind")]] = Field(min_length=1)
    objectives: tuple[ObjectiveConfig, ...] = Field(
        default=(ObjectiveConfig(figure="merit"),), min_length=1, max_length=4
    )
    sampler: SamplerConfig = SamplerConfig()
    pruner: PrunerConfig = PrunerConfig()
    layout: LayoutConfig = LayoutConfig()
    retries: int = Field(default=1, ge=0, le=100)
    max_trials: int = Field(default=50, ge=1, le=1_000_000)
    max_minutes: float | None = Field(default=None, gt=0)

    @field_validator("changes", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        flat: dict[str, Any] = {}
        for key, change in value.items():
            nested = key in SECTIONS and isinstance(change, dict)
            for path, leaf in _leaves(key, change) if nested else [(key, change)]:
                if path in flat:
                    raise ValueError(f"{path} is changed twice")
                flat[path] = leaf
        return flat

    @field_validator("space", "changes")
    @classmethod
    def _of_model_or_training(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            section, dot, rest = key.partition(".")
            if section not in SECTIONS or not dot or not all(rest.split(".")):
                hint = nearest(section, SECTIONS) if section not in SECTIONS else ""
                raise ValueError(
                    f"{key!r} is no key below model or training, expected one such as "
                    f"training.optimizer.learning_rate. {hint}".rstrip()
                )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        figures = [o.figure for o in self.objectives]
        if len(set(figures)) < len(figures):
            raise ValueError(f"objectives: got {figures}, expected each figure once")
        if len(figures) > 1 and self.pruner.kind != "none":
            raise ValueError(
                f"pruner.kind: {self.pruner.kind!r} stops trials by one figure; with {len(figures)} "
                "objectives take 'none'"
            )
        if len(figures) > 1 and self.sampler.kind not in (able := several_objectives()):
            raise ValueError(
                f"sampler.kind: {self.sampler.kind!r} knows one objective, got {len(figures)}; take one of "
                f"{', '.join(able)}"
            )
        for key, parameter in self.space.items():
            for parent, values in parameter.when.items():
                self._check_condition(key, parent, values)
        return self

    def _check_condition(self, key: str, parent: str, values: tuple[Any, ...]) -> None:
        if parent not in self.space:
            hint = nearest(parent, set(self.space) - {key})
            raise ValueError(f"space.{key}.when: {parent!r} is no parameter of the space. {hint}".rstrip())
        for value in values:
            if not self.space[parent].holds(value):
                raise ValueError(f"space.{key}.when: {parent} never is {value!r}")


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The settings of nested mappings, each by its key with dots."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}", inner)


def study_file(source: Path | str) -> Path:
    """The file of a study, given by its name or its path."""
    name = shipped_name(source, study_names(), "study")
    return Path(source) if name is None else STUDIES / f"{name}.yaml"


def load_study(source: Path | str) -> StudyConfig:
    """Read a study.yaml.

    Args:
        source: The name of a study that comes with caloforge, or the path of a YAML file.

    Raises:
        ConfigError: Unreadable, or with settings that are unknown, missing or out of range; all at once.
    """
    path = study_file(source)
    if not is_path(source) and not os.path.lexists(path):
        raise ConfigError(
            f"{source}: no such file, and no study has this name. {nearest(str(source), study_names())}"
        )
    return build(StudyConfig, read_yaml(path), str(source))

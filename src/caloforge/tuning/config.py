"""Configuration of a study (study.yaml); importing it imports neither Ray nor Optuna nor torch."""

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

# sections that a study may search or change; the other ones describe the showers
SECTIONS = ("model", "training")


class ObjectiveConfig(StrictModel):
    """A figure to minimise or maximise.

    `figure` is `merit` (P + E of the evaluations during the training), `ms_per_shower`, or a number in
    metrics.json: one of whole showers such as `merit_sum`, or observable, bin and metric such as
    `response.inclusive.mean_shift`. Shifts count by their absolute value.
    """

    figure: str
    direction: Literal["minimize", "maximize"] = "minimize"

    @field_validator("figure")
    @classmethod
    def _known(cls, value: str) -> str:
        check_figure(value)
        return value


class PrunerConfig(StrictModel):
    """Early stopping of trials, by the merit of the evaluations of their first fold.

    `asha` continues the best 1/`reduction` of the trials after `first`, `first` x `reduction`, ...
    evaluations; `hyperband` does so in several brackets, up to `last` evaluations.
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
    """Number of concurrent trials, and their resources.

    `groups` trials run at the same time, each with `workers` data-parallel processes with `cores` cores and
    `gpus` GPUs each. With `k_folds` of 2 or more a trial is a cross-validation: it trains that many models,
    each with another part of the data held out, concurrently if the resources allow.
    """

    groups: int = Field(default=1, ge=1, le=100_000)
    workers: int = Field(default=1, ge=1, le=100_000)
    k_folds: int = Field(default=1, ge=1, le=100)
    cores: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)


class StudyConfig(StrictModel):
    """The root of a study.yaml.

    `run` is a run.yaml beside the study, or the name of a recipe. `changes` are applied to it first, with
    dotted keys as for `--set`, or nested as in a run.yaml; other settings stay. `data` is the shower file to
    train on. `test` is one that is not used in the search: at its end the best trial is compared with the
    starting run on these showers. Both may be given on the command line instead. A failed trial is repeated
    up to `retries` times. The search ends after `max_trials` or `max_minutes`.
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
                f"sampler.kind: {self.sampler.kind!r} supports one objective, got {len(figures)}; take one "
                f"of {', '.join(able)}"
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
    """Settings of nested mappings, with dotted keys."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}", inner)


def study_file(source: Path | str) -> Path:
    """Path of a study, given by name or path."""
    name = shipped_name(source, study_names(), "study")
    return Path(source) if name is None else STUDIES / f"{name}.yaml"


def load_study(source: Path | str) -> StudyConfig:
    """Read a study.yaml.

    Args:
        source: Name of a study shipped with caloforge, or path of a YAML file.

    Raises:
        ConfigError: It cannot be read, or settings are unknown, missing or out of range; all are listed.
    """
    path = study_file(source)
    if not is_path(source) and not os.path.lexists(path):
        raise ConfigError(
            f"{source}: no such file, and no study has this name. {nearest(str(source), study_names())}"
        )
    return build(StudyConfig, read_yaml(path), str(source))

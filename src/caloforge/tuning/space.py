"""Search space of a study: maps parameter values to runs and back."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from caloforge.config import build, is_index
from caloforge.errors import ConfigError
from caloforge.names import shipped_name
from caloforge.run import RunConfig, load_run, recipe_names
from caloforge.tuning.config import StudyConfig

if TYPE_CHECKING:
    from optuna.trial import Trial

Values = dict[str, Any]
# keys that determine which other keys a run has
STRUCTURE = ("model.family", "model.preset")
# a space counts as empty if this many random points are all refused
TRIES = 200


class Space:
    """The search space of a study.

    Attributes:
        parameters: Parameters by key of the run; parameters that others depend on come first.
        origin: Name of the study file, for messages.
    """

    def __init__(self, study: StudyConfig, folder: Path, origin: str = "study") -> None:
        """Read the run that the search starts from.

        Args:
            study: The study.
            folder: Folder of a run.yaml named in the study.
            origin: Name of the study file, for messages.

        Raises:
            ConfigError: The run is not valid, or conditions depend on each other.
        """
        self.origin = origin
        self.parameters = {key: study.space[key] for key in _ordered(study, origin)}
        named = shipped_name(study.run, recipe_names(), "recipe", folder)
        self._run = study.run if named or not (folder / study.run).is_file() else str(folder / study.run)
        self._changes = dict(study.changes)
        self._bases: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._seed = study.seed
        self._base({})

    def _base(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Document of the starting run with all defaults, for the family and preset in `values`."""
        chosen = {key: self.parameters[key].setting(values[key]) for key in STRUCTURE if key in values}
        key = tuple(chosen.items())
        if key not in self._bases:
            settings = [f"{path}={json.dumps(value)}" for path, value in (self._changes | chosen).items()]
            try:
                run = load_run(self._run, settings)
            except ConfigError as error:
                raise ConfigError(f"{self.origin} › run and changes: {error}") from error
            self._bases[key] = run.model_dump(mode="json")
        return self._bases[key]

    def base(self) -> RunConfig:
        """The run that the search starts from."""
        return build(RunConfig, self._base({}), self.origin)

    def run(self, values: Mapping[str, Any]) -> RunConfig:
        """The run with these parameter values.

        Raises:
            ConfigError: It is not valid.
        """
        document = _copied(self._base(values))
        # set a list before its entries
        for key in sorted(set(values) - set(STRUCTURE), key=lambda path: path.count(".")):
            _assign(document, key, _copied(self.parameters[key].setting(values[key])))
        return build(RunConfig, document, self.origin)

    def start(self) -> tuple[Values, list[str]]:
        """Parameter values of the starting run.

        Returns:
            The values, and a line for each parameter whose setting is outside the space.
        """
        values: Values = {}
        outside = []
        for key, parameter in self.parameters.items():
            if not parameter.active(values):
                continue
            try:
                values[key] = parameter.value(_setting(self._base({}), key))
            except (KeyError, IndexError):
                outside.append(f"{key} is not set there")
            except (TypeError, ValueError) as error:
                outside.append(f"{key}: {error}")
        return values, outside

    def suggest(self, trial: Trial) -> Values:
        """A point from Optuna's sampler."""
        values: Values = {}
        for key, parameter in self.parameters.items():
            if parameter.active(values):
                values[key] = parameter.suggest(trial, key)
        return values

    def random(self, rng: np.random.Generator) -> Values:
        """A random point."""
        values: Values = {}
        for key, parameter in self.parameters.items():
            if parameter.active(values):
                values[key] = parameter.random(rng)
        return values

    def check(self) -> None:
        """Check that all keys exist and that the space has a valid point.

        Raises:
            ConfigError: A key does not exist (with the nearest one), or no valid point is found (with the
                reasons).
        """
        for key in self.parameters:
            try:
                self.run(self._alone(key))
            except ConfigError as error:
                if _unknown_key(error):
                    raise
        rng = np.random.default_rng(self._seed)
        reasons: Counter[str] = Counter()
        for _ in range(TRIES):
            try:
                self.run(self.random(rng))
            except ConfigError as error:
                # count refusals that differ only in the value together
                reasons[re.sub(r" \(got [^()]*\)", "", str(error))] += 1
            else:
                return
        often = "\n".join(f"{count} times {reason}" for reason, count in reasons.most_common(3))
        raise ConfigError(
            f"{self.origin} › space: none of {TRIES} random points is a run that can be trained:\n{often}"
        )

    def _alone(self, key: str) -> Values:
        """A point with a single parameter, and those that its conditions need."""
        values: Values = {}
        for parent, allowed in self.parameters[key].when.items():
            values |= self._alone(parent) | {parent: allowed[0]}
        return values | {key: self.parameters[key].first}

    def describe(self) -> dict[str, Any]:
        """The space as JSON-compatible data."""
        return {key: parameter.model_dump(mode="json") for key, parameter in self.parameters.items()}


def _ordered(study: StudyConfig, origin: str) -> list[str]:
    """Sort the keys such that parameters come after those that they depend on."""
    done: list[str] = []
    waiting = list(study.space)
    while waiting:
        ready = [key for key in waiting if set(study.space[key].when) <= set(done)]
        if not ready:
            raise ConfigError(
                f"{origin} › space: the conditions of {', '.join(waiting)} depend on each other"
            )
        done += ready
        waiting = [key for key in waiting if key not in ready]
    return done


def _copied(document: Any) -> Any:
    """Deep copy without shared parts, which YAML aliases give."""
    return json.loads(json.dumps(document))


def _assign(document: Any, path: str, value: Any) -> None:
    """Set a dotted key of a document; unknown keys are created, for the validation to report.

    Raises:
        ConfigError: The path goes through a scalar, or to an entry that a list does not have.
    """
    keys = path.split(".")
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(document, list):
            if not is_index(key, document):
                raise ConfigError(
                    f"space › {path}: {key!r} is no entry of a list of {len(document)}, counted from 0"
                )
            place: Any = int(key)
        elif isinstance(document, dict):
            place = key
            if not last and document.get(key) is None:
                document[key] = {}
        else:
            raise ConfigError(f"space › {path}: {'.'.join(keys[:depth])} is a plain value and has no {key!r}")
        if last:
            document[place] = value
        document = document[place]


def _setting(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def _unknown_key(error: ConfigError) -> bool:
    """Whether a document was refused because of an unknown key."""
    cause = error.__cause__
    return not isinstance(cause, ValidationError) or any(
        problem["type"] == "extra_forbidden" for problem in cause.errors()
    )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Differences between two descriptions, one line each."""
    lines = [f"- {key}: {_inline(old[key])}" for key in old if key not in new]
    lines += [f"+ {key}: {_inline(new[key])}" for key in new if key not in old]
    lines += [
        f"~ {key}: {_inline(old[key])} -> {_inline(new[key])}"
        for key in old
        if key in new and old[key] != new[key]
    ]
    return lines


def _inline(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

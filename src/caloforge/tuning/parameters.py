"""Parameter types of a search space: float, integer and categorical."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from caloforge.config import StrictModel
from caloforge.errors import ConfigError
from caloforge.units import ANGLE_UNITS, ENERGY_UNITS, LENGTH_UNITS, parse_quantity

if TYPE_CHECKING:
    from optuna.trial import Trial

Scalar = bool | int | float | str | None
_UNITS = {"energy": ENERGY_UNITS, "length": LENGTH_UNITS, "angle": ANGLE_UNITS}
_WITH_UNIT = re.compile(r"^\s*\S+\s+(\S+)\s*$")


class _Conditional(StrictModel):
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)

    @field_validator("when", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        """Accept a single value in place of a list."""
        if not isinstance(value, Mapping):
            return value
        return {key: item if isinstance(item, list | tuple) else [item] for key, item in value.items()}

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the parameter exists in a point with these values of the other parameters."""
        return all(parent in values and values[parent] in allowed for parent, allowed in self.when.items())


class FloatParameter(_Conditional):
    """A number between `low` and `high`, on a logarithmic scale with `log`, or in steps of `step`.

    For a key with a unit both ends have one: `low: 1 MeV`. With `when` the parameter exists only if other
    parameters have one of the given values.
    """

    kind: Literal["float"]
    low: float | str
    high: float | str
    log: bool = False
    step: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        low, high = self.ends
        if not low < high:
            raise ValueError(f"low: got {self.low}, expected less than high ({self.high})")
        if self.log and low <= 0:
            raise ValueError(f"low: got {self.low}, expected more than 0 for a logarithm")
        if self.log and self.step is not None:
            raise ValueError("step: a logarithmic parameter has none")
        return self

    @property
    def unit(self) -> str | None:
        """Unit of the parameter, that of `low`; None without one."""
        match = _WITH_UNIT.match(self.low) if isinstance(self.low, str) else None
        return match[1] if match else None

    @property
    def ends(self) -> tuple[float, float]:
        """Low and high in the unit of `low`."""
        if self.unit is None:
            # YAML 1.1 reads 1e-4 as text
            return float(self.low), float(self.high)
        return self._in_unit(self.low), self._in_unit(self.high)

    def _in_unit(self, text: Any) -> float:
        """Convert a quantity to the unit of `low`."""
        for kind, units in _UNITS.items():
            if self.unit in units:
                try:
                    return float(parse_quantity(text, kind, units) / units[self.unit])
                except ConfigError as error:
                    raise ValueError(str(error)) from error
        raise ValueError(f"low: got {self.low!r}, expected a number, or one with a unit such as '1 MeV'")

    @property
    def first(self) -> float:
        """The lowest value."""
        return self.ends[0]

    def suggest(self, trial: Trial, name: str) -> float:
        """A value from Optuna's sampler."""
        low, high = self.ends
        if self.step is not None:
            # the last step that fits: Optuna would warn
            high = low + self.step * math.floor((high - low) / self.step + 1e-9)
        return trial.suggest_float(name, low, high, log=self.log, step=self.step)

    def random(self, rng: np.random.Generator) -> float:
        """A random value."""
        low, high = self.ends
        if self.step is not None:
            return float(low + self.step * rng.integers(math.floor((high - low) / self.step + 1e-9) + 1))
        return float(np.exp(rng.uniform(np.log(low), np.log(high))) if self.log else rng.uniform(low, high))

    def setting(self, value: Any) -> Any:
        """The setting of the run for a value."""
        return value if self.unit is None else f"{value!r} {self.unit}"

    def value(self, setting: Any) -> float:
        """The value for a setting of the run.

        Raises:
            ValueError: It is outside the range.
        """
        found = float(setting) if self.unit is None else self._in_unit(setting)
        low, high = self.ends
        steps = (found - low) / self.step if self.step is not None else 0.0
        if not low <= found <= high or abs(steps - round(steps)) > 1e-6:
            between = f" in steps of {self.step}" if self.step is not None else ""
            raise ValueError(f"{setting} is not within {self.low} and {self.high}{between}")
        return found

    def holds(self, _value: Scalar) -> bool:
        """Whether a condition can name this value."""
        return False


class IntParameter(_Conditional):
    """An integer from `low` to `high`, in steps of `step`, or on a logarithmic scale with `log`."""

    kind: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low: got {self.low}, expected less than high ({self.high})")
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError("log: needs a low of at least 1, and no step")
        return self

    @property
    def first(self) -> int:
        """The lowest value."""
        return self.low

    def suggest(self, trial: Trial, name: str) -> int:
        """A value from Optuna's sampler."""
        # the last step that fits: Optuna would warn
        high = self.high - (self.high - self.low) % self.step
        return trial.suggest_int(name, self.low, high, log=self.log, step=self.step)

    def random(self, rng: np.random.Generator) -> int:
        """A random value."""
        if self.log:
            return round(float(np.exp(rng.uniform(np.log(self.low), np.log(self.high)))))
        return int(self.low + self.step * rng.integers((self.high - self.low) // self.step + 1))

    def setting(self, value: Any) -> Any:
        """The setting of the run for a value."""
        return int(value)

    def value(self, setting: Any) -> int:
        """The value for a setting of the run.

        Raises:
            ValueError: It is outside the range, or between two steps.
        """
        if not self.holds(setting):
            raise ValueError(f"{setting} is not among {self.low}, {self.low + self.step}, ... {self.high}")
        return int(setting)

    def holds(self, value: Any) -> bool:
        """Whether the parameter can have this value."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0


class CategoricalParameter(_Conditional):
    """One of several values; lists and mappings may have labels: `choices: {narrow: [...]}`."""

    kind: Literal["categorical"]
    choices: dict[str, Any] | tuple[Any, ...] = Field(min_length=1)

    @property
    def settings(self) -> dict[Scalar, Any]:
        """Settings of the run, by label in the study."""
        found: dict[Scalar, Any] = {}
        if isinstance(self.choices, dict):
            found.update(self.choices.items())
        else:
            found.update((_label(choice), choice) for choice in self.choices)
        return found

    @property
    def first(self) -> Scalar:
        """The label of the first choice."""
        label: Scalar = next(iter(self.settings))
        return label

    def suggest(self, trial: Trial, name: str) -> Scalar:
        """A label from Optuna's sampler."""
        label: Scalar = trial.suggest_categorical(name, tuple(self.settings))
        return label

    def random(self, rng: np.random.Generator) -> Scalar:
        """A random label."""
        label: Scalar = list(self.settings)[int(rng.integers(len(self.settings)))]
        return label

    def setting(self, value: Any) -> Any:
        """The setting of the run for a label."""
        return self.settings[value]

    def value(self, setting: Any) -> Scalar:
        """The label of a setting.

        Raises:
            ValueError: It is none of the choices.
        """
        for label, choice in self.settings.items():
            if choice == setting:
                return label
        raise ValueError(f"{setting} is none of {', '.join(map(str, self.settings))}")

    def holds(self, value: Scalar) -> bool:
        """Whether the parameter can have this value."""
        return value in self.settings


def _label(choice: Any) -> Scalar:
    scalar = choice is None or isinstance(choice, bool | int | float | str)
    return choice if scalar else json.dumps(choice)


Parameter = FloatParameter | IntParameter | CategoricalParameter

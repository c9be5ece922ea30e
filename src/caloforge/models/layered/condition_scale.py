"""Scaled conditions, for tensors and arrays alike. Importing this does not import torch."""

from __future__ import annotations

import math
from typing import Any

from caloforge.beam import ANGLE_SLACK
from caloforge.models.training_metadata import TrainedRange


class ConditionScale:
    """Scales conditions so that the trained range is -1 to 1."""

    def __init__(self, ranges: TrainedRange) -> None:
        """Keep the ranges."""
        low, high = (math.log(end) for end in ranges.energy)
        self._middle, self._half = (low + high) / 2, max((high - low) / 2, 1e-6)
        self._angles = (ranges.theta, ranges.phi)
        self._pdg_ids = ranges.pdg_ids

    def energy_argument(self, logarithm: Any) -> Any:
        """Scaled logarithm of the energy, (N,), -1 to 1 over the trained range.

        Args:
            logarithm: (N,) in float64: in float32 libraries differ by a rounding, which may select another
                training shower.
        """
        return (logarithm - self._middle) / self._half

    def others(self, theta: Any, phi: Any, pdg_id: Any) -> list[Any]:
        """What varies besides the energy, (N,) each: scaled angles, indicators of particles but the first."""
        angles = [
            (angle - (low + high) / 2) / ((high - low) / 2)
            for (low, high), angle in zip(self._angles, (theta, phi), strict=True)
            if high - low > ANGLE_SLACK
        ]
        return angles + [pdg_id == code for code in self._pdg_ids[1:]]

    @property
    def angles(self) -> int:
        """Number of angles that vary."""
        return sum(high - low > ANGLE_SLACK for low, high in self._angles)

    def particle(self, pdg_id: Any) -> Any:
        """Index of each particle among the trained ones, (N,); callers refuse unknown ones."""
        return sum(place * (pdg_id == code) for place, code in enumerate(self._pdg_ids))

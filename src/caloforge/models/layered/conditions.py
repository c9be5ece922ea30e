"""Conditions as numbers near one, for tensors and arrays alike. Importing this does not import torch."""

from __future__ import annotations

import math
from typing import Any

from caloforge.models.training_metadata import ANGLE_SLACK, TrainedRange


class Scale:
    """The trained range as the unit in which conditions are measured."""

    def __init__(self, ranges: TrainedRange) -> None:
        """Keep the ranges."""
        low, high = (math.log(end) for end in ranges.energy)
        self._middle, self._half = (low + high) / 2, max((high - low) / 2, 1e-6)
        self._angles = (ranges.theta, ranges.phi)
        self._pdg_ids = ranges.pdg_ids

    def argument(self, logarithm: Any) -> Any:
        """(N,) -1 to 1 over the trained range, of logarithms of energies in float64.

        In float32 libraries differ by a rounding, which decides on donors.
        """
        return (logarithm - self._middle) / self._half

    def others(self, theta: Any, phi: Any, pdg_id: Any) -> list[Any]:
        """What varies besides the energy, (N,) each: angles from -1 to 1, then particles but the first."""
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
        """Which of the trained particles, (N,); an unknown one is refused before, or taken for the first."""
        return sum(place * (pdg_id == code) for place, code in enumerate(self._pdg_ids))

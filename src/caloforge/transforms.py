"""Invertible preprocessing of voxel energies.

A transform has `forward` (MeV to the units of a network) and `inverse`. Both use only arithmetic that NumPy
arrays and torch tensors share, so that a transform runs anywhere and can be traced into an exported graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Transform(Protocol):
    """The interface of a transform; `caloforge.testing.check_transform` tests it."""

    def forward(self, energy: Any) -> Any:
        """MeV to network units, same shape."""

    def inverse(self, image: Any) -> Any:
        """Network units to MeV, same shape."""


@dataclass(frozen=True)
class PowerScale:
    """(energy / unit) ^ power with cells below a threshold set to 0, as in the 3DGAN papers.

    Attributes:
        unit: Energy that becomes 1, MeV.
        power: Exponent; below 1 it lifts small energies.
        threshold: Cells below this become 0, MeV.
    """

    unit: float
    power: float
    threshold: float = 0.0

    def forward(self, energy: Any) -> Any:
        """MeV, not negative, to image units."""
        scaled = self.threshold_only(energy) / self.unit
        return scaled if self.power == 1 else scaled**self.power

    def inverse(self, image: Any) -> Any:
        """Image units, not negative, to MeV; no threshold, which would cut the gradient."""
        return (image if self.power == 1 else image ** (1 / self.power)) * self.unit

    def threshold_only(self, energy: Any) -> Any:
        """MeV with cells below the threshold 0."""
        return energy * (energy >= self.threshold)

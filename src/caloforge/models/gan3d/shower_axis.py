"""Windows around the axes of inclined or displaced showers, and what the compact networks know of an axis.

Each layer has a window of whole cells around the point where the axis crosses it (`ShowerFrame`), so that
rings, radial bins and convolutions follow the shower.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from caloforge.geometry import Detector
from caloforge.models.base import Condition
from caloforge.models.layered.shower_frame import AxisPosition, AxisTerms, ShowerFrame, window_geometry
from caloforge.models.training_metadata import TrainedRange

# groups of layers whose mean distance of the axis from the centre of its cell is known
DISTANCE_GROUPS = 5
# powers of the inclination that cells and the conditioning network see
INCLINATION_DEGREE = 2
# smallest half range of the inclination
LEAST_HALF = 1e-3
# terms of means and of standard deviations beside the powers of the energy argument, see `ShowerAxis.terms`,
# and those of them that the response has
MEAN_TERMS, WIDTH_TERMS, RESPONSE_TERMS = 5 + DISTANCE_GROUPS, 2, 5


@dataclass(frozen=True)
class ShowerAxis:
    """The axes of N showers.

    Attributes:
        position: Where they cross the layers.
        inclination: (N,) 1 / cos alpha for the angle alpha to the normal, mapped to [-1, 1] over the trained
            range.
        terms: (N, MEAN_TERMS) what means depend on: inclination v and v^2, with the energy argument a also
            v a, v^2 a and v a^2; for groups of layers the squared distance of the axis from the centre of its
            cell.
    """

    position: AxisPosition
    inclination: Tensor
    terms: Tensor

    def __getitem__(self, rows: slice | Tensor) -> ShowerAxis:
        """Select showers."""
        parts = {part.name: getattr(self.position, part.name)[rows] for part in fields(AxisPosition)}
        return ShowerAxis(AxisPosition(**parts), self.inclination[rows], self.terms[rows])

    def powers(self) -> Tensor:
        """(N, INCLINATION_DEGREE) powers of the inclination, from 1."""
        return torch.stack([self.inclination**k for k in range(1, INCLINATION_DEGREE + 1)], 1)


class AxisWindow(nn.Module):
    """Windows of showers, the cells of a window, and polynomials of the place of the axis.

    Attributes:
        geometry: The cells of a layer of a window.
        terms: Terms of the polynomials (Eq. 22 of the layered family) of the cells.
    """

    groups: Tensor

    def __init__(
        self,
        detector: Detector,
        ranges: TrainedRange,
        size: int | None,
        radial_bins: tuple[int, ...],
        *,
        energy_dependent: bool = False,
    ) -> None:
        """The windows of a cartesian mesh.

        Args:
            detector: With a cartesian mesh.
            ranges: Trained conditions.
            size: Cells across, odd; by default, and at most, a little more than the mesh.
            radial_bins: First ring of each radial bin.
            energy_dependent: Whether what the place of the axis in its cell changes depends on the energy.
        """
        super().__init__()
        self.frame = ShowerFrame(detector, ranges, None if size is None else size // 2)
        self.geometry, images = window_geometry(detector, self.frame.reach, radial_bins)
        self.terms = AxisTerms(
            self.geometry, images, inclined=self.frame.inclined, place_by_energy=energy_dependent
        )
        low, high = self.frame.inclinations
        self._middle, self._half = (low + high) / 2, max((high - low) / 2, LEAST_HALF)
        layers = detector.n_layers
        group = torch.arange(layers) * DISTANCE_GROUPS // layers
        member = nn.functional.one_hot(group, DISTANCE_GROUPS).float()
        self.register_buffer("groups", member / member.sum(0).clamp_min(1), persistent=False)

    def forward(self, condition: Condition, argument: Tensor) -> ShowerAxis:
        """The axes of showers.

        Args:
            condition: N conditions.
            argument: (N,) energy argument.
        """
        position = self.frame.position(condition)
        v = (position.inclination - self._middle) / self._half
        distance = position.remainder.square().sum(2) @ self.groups
        of_inclination = [v, v * v, v * argument, v * v * argument, v * argument * argument]
        return ShowerAxis(position, v, torch.cat([torch.stack(of_inclination, 1), distance], 1))

    def polynomial_terms(self, axis: ShowerAxis, argument: Tensor) -> Tensor:
        """Terms in the frame of each symmetry operation, (operations, N, L, terms.count)."""
        remainder = axis.position.remainder
        inclination = axis.inclination[:, None].expand(remainder.shape[:2])
        found: Tensor = self.terms(axis.position, inclination, argument)
        return found


def repeated(axis: ShowerAxis | None) -> ShowerAxis | None:
    """The axes twice, one after another."""
    if axis is None:
        return None
    parts = {part.name: torch.cat([getattr(axis.position, part.name)] * 2) for part in fields(AxisPosition)}
    return ShowerAxis(AxisPosition(**parts), axis.inclination.repeat(2), axis.terms.repeat(2, 1))

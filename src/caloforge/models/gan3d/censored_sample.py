"""Latent variables of training showers, of which only those of hit cells are known, and their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from caloforge.models.gan3d.cell_field import CellField
from caloforge.models.gan3d.latent_statistics import log_density
from caloforge.models.gan3d.shower_axis import ShowerAxis

# showers that are handled at a time
ROWS = 256
# of a latent variable whose cell is not in the mesh
NO_CELL = -1.0
LARGEST_SCORE = 5.0


@dataclass
class CensoredSample:
    """Latent variables of N training showers.

    Attributes:
        field: Whose parameters are fitted.
        argument: (N,) energy argument.
        axis: Of the showers, if their cells are those of windows.
        latent: (N, L, m) t of hit cells, 0 of the others, `NO_CELL` of cells of a window beside the mesh.
    """

    field: CellField
    argument: Tensor
    axis: ShowerAxis | None
    latent: Tensor

    def parts(self) -> Iterator[CensoredSample]:
        """A few showers at a time."""
        for first in range(0, len(self.latent), ROWS):
            yield self[slice(first, first + ROWS)]

    def __getitem__(self, rows: slice | Tensor) -> CensoredSample:
        """Select showers."""
        axis = None if self.axis is None else self.axis[rows]
        return CensoredSample(self.field, self.argument[rows], axis, self.latent[rows])

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of t of all cells, (N, L, m) each."""
        if self.axis is None:
            return self.field.moments(self.argument)
        found = [self.field.moments(part.argument, part.axis) for part in self.parts()]
        mean, sigma = map(torch.cat, zip(*found, strict=True))
        return mean, sigma

    def centred(self) -> Tensor:
        """Latent variables of hit cells less what the axis adds to them, 0 of all others, (N, L, m)."""
        hit = self.latent > 0
        if self.axis is None:
            return self.latent * hit
        shift = self.field.moments(self.argument, self.axis)[0] - self.field.moments(self.argument)[0]
        return (self.latent - shift) * hit

    def scores(self) -> tuple[Tensor, Tensor]:
        """Score of each cell for a shift of its t in units of sigma, and the information, (N, L, m) each."""
        mean, sigma = self.field.moments(self.argument, self.axis)
        edge = mean / sigma
        hit = self.latent > 0
        mills = (log_density(edge) - torch.special.log_ndtr(-edge)).exp()
        score = torch.where(hit, self.latent / sigma - edge, -mills).clamp(-LARGEST_SCORE, LARGEST_SCORE)
        known = torch.where(hit, 1.0, (mills * (mills - edge)).clamp(1e-6, 1))
        if self.axis is None:
            return score, known
        exists = self.latent > NO_CELL
        return score * exists, known * exists

"""What the student's showers are compared in: hits and energies of rings, and pairs of hits.

Cells are seen as what they have beyond the density that the summary alone gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.layered.context import Student
from caloforge.models.layered.density import CellDensity, Cells


@dataclass(frozen=True)
class Moments:
    """Means over some showers.

    Attributes:
        levels: (2, layers, rings) hits, and scores of hits, of a ring.
        pairs: (n,) products of the hits of two cells, by their displacement as the kernel has it.
    """

    levels: Tensor
    pairs: Tensor


@torch.no_grad()
def moments(cells: Cells, alone: CellDensity, student: Student) -> Moments:
    """The moments that the student's parameters move one by one.

    Args:
        cells: (N, layers, cells).
        alone: Their density from the summary.
        student: Gives rings and displacements.
    """
    hits, scores = cells.hits - alone.hit_probability(), alone.scores(cells)
    rings = F.one_hot(student.ring).to(hits)
    levels = torch.stack([hits.mean(0), scores.mean(0)]) @ rings
    return Moments(levels, student.pairs(hits))

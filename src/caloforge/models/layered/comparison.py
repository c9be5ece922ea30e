"""What the student's showers are compared in: hits and energies of rings, and pairs of hits.

Cells are seen as what they have beyond the density that the summary alone gives them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.layered.company import Company
from caloforge.models.layered.context import Student
from caloforge.models.layered.density import CellDensity, Cells


@torch.no_grad()
def moments(
    cells: Cells, alone: CellDensity, argument: Tensor, student: Student, company: Company
) -> dict[str, Tensor]:
    """Means over some showers, each of the shape of the student's parameter that moves it.

    Args:
        cells: (N, layers, cells).
        alone: Their density from the summary.
        argument: (N,) as in `Given`.
        student: Gives rings, zones and displacements.
        company: Gives neighbours in the core.

    Returns:
        "level": hits of the rings, the same weighted with the argument, scores of hits; "kernels": products
        of the hits of two cells by their displacement; "amplitude": products of the hits, and of the scores,
        of neighbours; "company": products of scores in the core.
    """
    hits, scores = cells.hits - alone.hit_probability(), alone.scores(cells)
    weighted = hits * argument[:, None, None]
    levels = torch.stack([field.mean(0) for field in (hits, weighted, scores)]) @ student.rings()
    neighbours = torch.stack([student.neighbours(field) for field in (hits, scores)])
    return {
        "level": levels,
        "kernels": student.pairs(hits),
        "amplitude": neighbours,
        "company": company.moments(scores),
    }

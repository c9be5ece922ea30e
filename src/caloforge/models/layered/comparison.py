"""What the student's showers are compared in: hits and energies of cells that are alike, and pairs of cells.

Cells are seen as what they have beyond the density that the summary alone gives them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.layered.context import Student, legendre
from caloforge.models.layered.density import CellDensity, Cells


@torch.no_grad()
def moments(cells: Cells, alone: CellDensity, argument: Tensor, student: Student) -> dict[str, Tensor]:
    """Means over some showers, each of the shape of the student's parameter that moves it.

    Args:
        cells: (N, layers, cells).
        alone: Their density from the summary.
        argument: (N,) as in `Given`.
        student: Gives rings, zones and displacements.

    Returns:
        "level": of cells that are images of each other the hits, the scores of hits beyond those of all hits
        of the zone, the squares of scores, each by polynomials of the energy; "kernels", "turned" and
        "turning": products of the hits, and of the scores, of two cells, see `Student.pairs`; "amplitude":
        the same of neighbours; "strength": products of scores with the hits of neighbours, and nothing;
        "depth.share": see `Depth.products`.
    """
    hits, scores = cells.hits - alone.hit_probability(), alone.scores(cells)
    compared = (hits, _within_zones(scores, cells.hits, student.zone), scores * scores)
    weights = legendre(argument).T[..., None, None]
    levels = torch.stack([torch.stack([student.levels(f * w) for w in weights]) for f in compared])
    neighbours = torch.stack([student.neighbours(field, field) for field in (hits, scores)])
    strength = torch.zeros_like(student.strength)
    strength[0] = student.neighbours(scores, hits)
    pairs = [student.pairs(field) for field in (hits, scores)]
    kernels, turned, turning = (torch.stack(both) for both in zip(*pairs, strict=True))
    return {
        "level": levels,
        "kernels": kernels,
        "turned": turned,
        "turning": turning,
        "amplitude": neighbours,
        "strength": strength,
        "depth.share": student.depth.products(scores),
    }


def _within_zones(scores: Tensor, hits: Tensor, zone: Tensor) -> Tensor:
    """Scores of hits less their mean in the zone: a zone has its energy, whatever moves all of it alike."""
    members = F.one_hot(zone).to(scores)
    mean = (scores.sum(0) @ members) / (hits.sum(0) @ members).clamp_min(1.0)
    return scores - mean[:, zone] * hits

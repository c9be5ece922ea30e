"""Moments in which generated and real showers are compared, one for each parameter of the student, Eq. 20.

They are moments of what cells have beyond the density of independent cells, Eq. 10.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.layered.cell_density import CellCondition, CellDensity, Cells
from caloforge.models.layered.couplings import StudentCoupling, legendre


@torch.no_grad()
def moments(
    cells: Cells, independent: CellDensity, condition: CellCondition, student: StudentCoupling
) -> dict[str, Tensor]:
    """Means over some showers by the parameter that each rises with, and of its shape.

    Args:
        cells: (N, layers, cells).
        independent: Their density without couplings.
        condition: Of the showers.
        student: Gives classes, rings, radial bins and displacements.

    Returns:
        "offsets": hits, residuals less their mean in the radial bin, and squared residuals, by symmetry
        class, each times Legendre polynomials of the energy argument; "kernels", "anisotropy" and
        "ring_anisotropy": products of the hits, and of the residuals, of two cells, see
        `StudentCoupling.pair_products`; "log_gain": products with the eight neighbours; "residual_weight":
        products of residuals with the hits of neighbours, and zeros; "azimuthal.mode_coupling": see
        `AzimuthalCoupling.mode_products`; "axis_offsets": hits, and residuals within their bin, times the
        terms of Eq. 22.
    """
    hits, residuals = cells.hit_mask - independent.hit_probability(), independent.residuals(cells)
    compared = (hits, _within_bins(residuals, cells.hit_mask, student.radial_bin), residuals * residuals)
    weights = legendre(condition.energy_argument).T[..., None, None]
    offsets = torch.stack([torch.stack([student.class_sums(f * w) for w in weights]) for f in compared])
    log_gain = torch.stack([student.neighbour_products(field, field) for field in (hits, residuals)])
    residual_weight = torch.zeros_like(student.residual_weight)
    residual_weight[0] = student.neighbour_products(residuals, hits)
    pairs = [student.pair_products(field) for field in (hits, residuals)]
    kernels, anisotropy, ring_anisotropy = (torch.stack(both) for both in zip(*pairs, strict=True))
    found = {
        "offsets": offsets,
        "kernels": kernels,
        "anisotropy": anisotropy,
        "ring_anisotropy": ring_anisotropy,
        "log_gain": log_gain,
        "residual_weight": residual_weight,
        "azimuthal.mode_coupling": student.azimuthal.mode_products(residuals),
    }
    if student.axis is not None and condition.window is not None:
        terms = condition.window.terms
        found["axis_offsets"] = torch.stack([student.axis.sums(terms, field) for field in compared[:2]])
    return found


def _within_bins(residuals: Tensor, hits: Tensor, radial_bin: Tensor) -> Tensor:
    """Residuals of hits less their mean in the radial bin.

    Bins have their energy, so a common shift of all residuals of a bin changes no shower.
    """
    bin_membership = F.one_hot(radial_bin).to(residuals)
    mean = (residuals.sum(0) @ bin_membership) / (hits.sum(0) @ bin_membership).clamp_min(1.0)
    return residuals - mean[:, radial_bin] * hits

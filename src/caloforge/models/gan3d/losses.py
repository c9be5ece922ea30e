"""Terms of the 3DGAN loss, differentiable with respect to the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caloforge.models.gan3d.config import LossWeights

# Keras: |t - p| / max(|t|, 1e-7)
PERCENTAGE_FLOOR = 1e-7
# smallest squared distance from the barycentre in the measured angle (Keras' epsilon in the original)
ANGLE_EPSILON = 1e-7
# width of a soft bin edge in ln(energy): cells within about 10 % of an edge count in both of its bins
SOFTNESS = 0.05
# fraction of the lowest edge that cell energies are clamped to; the sigmoid there is < 1e-6
MIN_EDGE_FRACTION = 0.1


def percentage_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute percentage error, 100 <|t - p| / |t|>; both (N,) or (N, k)."""
    if predicted.shape != target.shape:
        raise ValueError(f"got {tuple(predicted.shape)} for a target of {tuple(target.shape)}")
    return 100 * ((target - predicted).abs() / target.abs().clamp_min(PERCENTAGE_FLOOR)).mean()


def measured_angle(energy: Tensor) -> Tensor:
    """Polar angle reconstructed from the cells: `caloforge.observables.measured_angle` in torch.

    Args:
        energy: (N, Z, Y, X) cell energies, any unit.

    Returns:
        (N,) rad; pi / 2 without a gradient for an empty image (the original has 100).
    """
    _, nz, ny, nx = energy.shape
    x = torch.arange(nx, device=energy.device, dtype=energy.dtype) + 0.5
    y = torch.arange(ny, device=energy.device, dtype=energy.dtype) + 0.5
    z = torch.arange(nz, device=energy.device, dtype=energy.dtype) + 0.5
    along_x, along_y = energy.sum(2) @ x, energy.sum(3) @ y
    layers = energy.sum((2, 3))
    filled = layers > 0
    safe = torch.where(filled, layers, 1.0)
    total = layers.sum(1, keepdim=True)
    safe_total = torch.where(total > 0, total, 1.0)
    x_mean, y_mean = along_x.sum(1, keepdim=True) / safe_total, along_y.sum(1, keepdim=True) / safe_total
    depth = z - (layers @ z)[:, None] / safe_total
    square = (along_x / safe - x_mean) ** 2 + depth**2
    slope = (along_y / safe - y_mean) / square.clamp_min(ANGLE_EPSILON).sqrt()
    slope = torch.where(depth < 0, -slope, slope)
    weight = z * filled
    angle = (weight * (math.pi / 2 - torch.atan(slope))).sum(1)
    return torch.where(total.squeeze(1) > 0, angle / weight.sum(1).clamp_min(0.5), math.pi / 2)


def spectrum_counts(energy: Tensor, edges: tuple[float, ...], softness: float = SOFTNESS) -> Tensor:
    """Histogram of the cell energies of each shower, differentiable by soft bin edges.

    A cell of energy e counts sigmoid(ln(e / edge) / softness) above an edge. The original has hard edges,
    and so no gradient.

    Args:
        energy: (N, Z, Y, X) cell energies, MeV.
        edges: k rising edges, MeV.
        softness: Width of an edge in ln(energy).

    Returns:
        (N, k): between edges 0 and 1, ..., above the last.
    """
    flat = energy.flatten(1)
    log_energy = flat.clamp_min(MIN_EDGE_FRACTION * edges[0]).log()
    above = torch.stack(
        [torch.sigmoid((log_energy - math.log(edge)) / softness).sum(1) for edge in edges], dim=1
    )
    return torch.cat([above[:, :-1] - above[:, 1:], above[:, -1:]], dim=1)


def image_terms(
    images: Tensor, real: Tensor, weights: LossWeights, edges: tuple[float, ...]
) -> dict[str, Tensor]:
    """The terms of the loss that compare generated images with real showers, those of weight 0 left out.

    Args:
        images: (N, Z, Y, X) generated cell energies, MeV.
        real: The same of real showers.
        weights: Weights of the loss.
        edges: Rising edges of the spectrum, MeV.

    Returns:
        Scalars: `angle`, mean absolute difference of the measured angles, rad; `spectrum`, MAPE of counts.
    """
    terms = {}
    if weights.angle:
        terms["angle"] = (measured_angle(images) - measured_angle(real)).abs().mean()
    if weights.spectrum:
        terms["spectrum"] = spectrum_error(images, real, edges)
    return terms


def spectrum_error(images: Tensor, real: Tensor, edges: tuple[float, ...]) -> Tensor:
    """MAPE of the counts of `spectrum_counts`; empty bins count as one cell, as in the original."""
    return percentage_error(spectrum_counts(images, edges), spectrum_counts(real, edges).clamp_min(1.0))


def detached(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Terms of a loss without gradients, for metrics.jsonl."""
    return {name: value.detach() for name, value in parts.items()}

"""Regression of the latent variables of cells on the axis of a shower, with censored observations."""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.gan3d.cell_field import inclination_design
from caloforge.models.gan3d.censored_sample import CensoredSample
from caloforge.models.gan3d.energy_argument import ENERGY_KNOTS, hats
from caloforge.models.gan3d.shower_axis import INCLINATION_DEGREE

# Newton steps, and the largest change of a coefficient in one
STEPS, LARGEST_STEP = 2, 1.0
# information of coefficients before any shower, and of their second differences from knot to knot, in cells
PRIOR_CELLS, SMOOTHNESS = 5.0, 20.0


@torch.no_grad()
def fit_axis(sample: CensoredSample) -> None:
    """Fit `inclined_mean` and `axis_mean`, and `mean` with them, by maximum likelihood (Tobin 1958).

    Newton steps, each a weighted least squares with the scores and informations of all cells.
    """
    field = sample.field
    window = field.window
    assert window is not None
    knots = ENERGY_KNOTS * (INCLINATION_DEGREE + 1)
    prior = _prior(knots, window.terms.count)
    for _ in range(STEPS):
        gram, moments = _normal_equations(sample)
        rotation = window.terms.averages
        for values in (gram, gram.transpose(2, 3), moments[..., None]):
            # the images of a cell that is its own image share their coefficients
            values[:, :, knots:] = rotation.transpose(1, 2) @ values[:, :, knots:].clone()
        gram = gram + prior
        moments = moments - _coefficients(sample) @ prior
        change = torch.linalg.solve(gram, moments).clamp(-LARGEST_STEP, LARGEST_STEP)
        field.mean.add_(field.log_sigma.exp() * change[..., :ENERGY_KNOTS])
        inclined = change[..., ENERGY_KNOTS:knots].unflatten(2, (INCLINATION_DEGREE, ENERGY_KNOTS))
        field.inclined_mean.add_(inclined.permute(2, 0, 1, 3))
        field.axis_mean.add_(change[..., knots:].permute(2, 0, 1))


def _coefficients(sample: CensoredSample) -> Tensor:
    """(L, K, coefficients) of the present fit; 0 for those of the mean, which are not drawn to anything."""
    field = sample.field
    inclined = field.inclined_mean.permute(1, 2, 0, 3).flatten(2)
    return torch.cat([torch.zeros_like(field.mean), inclined, field.axis_mean.permute(1, 2, 0)], 2)


def _prior(knots: int, terms: int) -> Tensor:
    """(coefficients, coefficients) information that draws coefficients to 0, and neighbours to each other."""
    rough = torch.diff(torch.eye(ENERGY_KNOTS), n=2, dim=0)
    prior = PRIOR_CELLS * torch.eye(knots + terms)
    for first in range(0, knots, ENERGY_KNOTS):
        own = slice(first, first + ENERGY_KNOTS)
        prior[own, own] += SMOOTHNESS * rough.T @ rough
    return prior


def _normal_equations(sample: CensoredSample) -> tuple[Tensor, Tensor]:
    """Information of the coefficients of each class, (L, K, J, J), and their scores, (L, K, J)."""
    field, window = sample.field, sample.field.window
    assert window is not None
    layers, classes = field.mean.shape[:2]
    size = ENERGY_KNOTS * (INCLINATION_DEGREE + 1) + window.terms.count
    first, second = torch.triu_indices(size, size)
    products = torch.zeros(layers, classes, len(first))
    moments = torch.zeros(layers, classes, size)
    for part in sample.parts():
        assert part.axis is not None
        score, known = (window.terms.by_operation(values) for values in part.scores())
        of_shower = torch.cat([hats(part.argument), inclination_design(part.argument, part.axis)], 1)
        terms = window.polynomial_terms(part.axis, part.argument)
        for layer in range(layers):
            for operation, own in enumerate(terms[:, :, layer]):
                design = torch.cat([of_shower, own], 1)
                moments[layer] += score[:, layer, operation].T @ design
                pairs = design[:, first] * design[:, second]
                products[layer] += known[:, layer, operation].T @ pairs
    gram = torch.zeros(layers, classes, size, size)
    gram[..., first, second] = products
    gram[..., second, first] = products
    return gram, moments

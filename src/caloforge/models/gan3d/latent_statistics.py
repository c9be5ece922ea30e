"""Estimators of the closed-form start: factor analysis, probit regression, smooth lines in the energy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caloforge.models.gan3d.energy_argument import ENERGY_KNOTS, hats

# EM steps of loadings that depend on the energy, and rows handled at a time
EM_STEPS, EM_ROWS = 30, 512
# information on a loading before any shower, and on its second differences between energies; range of the
# variance of the noise over the given one
LOADING_PRIOR, LOADING_SMOOTHNESS, EXCESS = 10.0, 10.0, (0.3, 10.0)
# hit probabilities above this are fitted by the moments of t, without the normal tail
NEARLY_ALWAYS = 0.97
# iterations of the factor analysis, and the smallest variance of its noise
FACTOR_STEPS, LEAST_NOISE = 60, 1e-3
# iterations of the probit regression, and its largest |mu / sigma|
PROBIT_STEPS, LARGEST_EDGE = 6, 4.5
# penalty on second differences of piecewise linear functions
SMOOTHING = 0.03


def factor_analysis(values: Tensor, factors: int) -> tuple[Tensor, Tensor, Tensor]:
    """Factor analysis by maximum likelihood (Lawley 1940): values = loading u + independent noise.

    Given the noise, the loadings are eigenvectors of the covariance in units of the noise; the noise is what
    is left of the variances. The two are found in turn.

    Args:
        values: (N, k), mean 0.
        factors: Number of factors; their variance is 1. Those beyond k have no loadings.

    Returns:
        Loadings (k, factors), mean factors of each row (N, factors) and their covariance given a row.
    """
    values = values.double()
    covariance = values.T @ values / len(values)
    covariance.diagonal().clamp_(min=LEAST_NOISE)
    noise = 0.5 * covariance.diag()
    for _ in range(FACTOR_STEPS):
        unit = noise.sqrt()
        size, vectors = torch.linalg.eigh(covariance / unit / unit[:, None])
        loading = unit[:, None] * vectors[:, -factors:] * (size[-factors:] - 1).clamp_min(0).sqrt()
        left = covariance.diag() - loading.square().sum(1)
        noise = torch.maximum(left, LEAST_NOISE * covariance.diag().clamp_min(1))
    loading = torch.nn.functional.pad(loading, (max(factors - loading.shape[1], 0), 0))
    weighted = loading / noise[:, None]
    spread = torch.linalg.inv(torch.eye(loading.shape[1], dtype=torch.float64) + loading.T @ weighted)
    return loading.float(), (values @ weighted @ spread).float(), spread.float()


def factors_by_energy(values: Tensor, variance: Tensor, weights: Tensor, loading: Tensor) -> Tensor:
    """Factor analysis whose loadings are interpolated between T energies, by the EM algorithm.

    values = sum_t weights_t loading_t u + noise, with normal factors u of variance 1.

    Args:
        values: (N, k), mean 0.
        variance: (N, k) of the noise, to a factor for each of the k.
        weights: (N, T) of the energies.
        loading: (k, factors) to start from.

    Returns:
        Loadings (T, k, factors).
    """
    count, factors = weights.shape[1], loading.shape[1]
    found, excess = loading.repeat(count, 1, 1), torch.ones(values.shape[1])
    rough = torch.diff(torch.eye(count), n=2, dim=0)
    prior = torch.kron(
        LOADING_PRIOR * torch.eye(count) + LOADING_SMOOTHNESS * rough.T @ rough, torch.eye(factors)
    )
    for _ in range(EM_STEPS):
        gram = torch.zeros(values.shape[1], *prior.shape)
        moments = torch.zeros(values.shape[1], len(prior))
        squares = torch.zeros(values.shape[1])
        for first in range(0, len(values), EM_ROWS):
            rows = slice(first, first + EM_ROWS)
            own, weight, precision = values[rows], weights[rows], 1 / (variance[rows] * excess)
            at = torch.einsum("nt,tkf->nkf", weight, found)
            inner = torch.einsum("nkf,nk,nkg->nfg", at, precision, at) + torch.eye(factors)
            spread = torch.linalg.inv(inner)
            mean = torch.einsum("nfg,nkg,nk->nf", spread, at, precision * own)
            second = spread + mean[:, :, None] * mean[:, None]
            pairs = torch.einsum("ns,nt,nfg->nsftg", weight, weight, second).flatten(3).flatten(1, 2)
            gram += (precision.T @ pairs.flatten(1)).view_as(gram)
            moments += (precision * own).T @ (weight[:, :, None] * mean[:, None]).flatten(1)
            residual = (own - torch.einsum("nkf,nf->nk", at, mean)).square()
            residual = residual + torch.einsum("nkf,nfg,nkg->nk", at, spread, at)
            squares += (residual / variance[rows]).sum(0)
        found = torch.linalg.solve(gram + prior, moments).unflatten(1, (count, factors)).transpose(0, 1)
        excess = (squares / len(values)).clamp(*EXCESS)
    return found


def probit_regression(
    centres: Tensor, chance: Tensor, cells: Tensor, height: Tensor, sigma: Tensor
) -> Tensor:
    """(L, K, ENERGY_KNOTS) mu at the knots, from the fractions of cells that are hit.

    Maximum likelihood of the numbers of hits, by iteratively reweighted least squares; where nearly all cells
    are hit, their mean height is fitted instead.

    Args:
        centres: (intervals,) energy argument.
        chance: (intervals, L, K) fraction of cells that are hit.
        cells: (intervals, 1, K) number of cells.
        height: (intervals, L, K) mean t of hits.
        sigma: (intervals, L, K).
    """
    always = chance > NEARLY_ALWAYS
    edge = torch.special.ndtri(torch.maximum(torch.minimum(chance, 1 - 0.5 / cells), 0.5 / cells))
    precise = torch.where(always, cells, chance * cells + 1) / sigma.square()
    solution = interpolations(centres, torch.where(always, height, edge * sigma), precise)
    for _ in range(PROBIT_STEPS):
        found = torch.einsum("bd,lkd->blk", hats(centres), solution) / sigma
        found = found.clamp(-LARGEST_EDGE, LARGEST_EDGE)
        expected, density = torch.special.ndtr(found), log_density(found).exp()
        edge = found + ((chance - expected) / density).clamp(-1, 1)
        weight = cells * density.square() / (expected * (1 - expected)).clamp_min(1e-6)
        precise = (torch.where(always, cells, weight) + 1e-3) / sigma.square()
        solution = interpolations(centres, torch.where(always, height, edge * sigma), precise)
    return solution


def interpolations(centres: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """(L, K, ENERGY_KNOTS) smooth lines through values (intervals, L, K) at the centres of the intervals."""
    design = hats(centres)
    weight = weight.permute(1, 2, 0)
    rough = torch.diff(torch.eye(ENERGY_KNOTS), n=2, dim=0)
    penalty = SMOOTHING * rough.T @ rough + 1e-6 * torch.eye(ENERGY_KNOTS)
    gram = torch.einsum("bi,lkb,bj->lkij", design, weight, design)
    gram = gram + weight.mean(2)[..., None, None] * penalty
    target = torch.einsum("bi,lkb,lkb->lki", design, weight, values.permute(1, 2, 0))
    solution: Tensor = torch.linalg.solve(gram, target)
    return solution


def log_density(x: Tensor) -> Tensor:
    """Logarithm of the standard normal density."""
    return -0.5 * (x.square() + math.log(2 * math.pi))

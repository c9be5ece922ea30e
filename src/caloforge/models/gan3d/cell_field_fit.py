"""Closed-form fit of a `CellField` to showers.

Tables of energies and moments of the latent variables t are found in turn; then what cells, radial bins and
the response have in common. Shapes: N showers, L layers, K symmetry classes, B radial bins, F factors, m
cells in a layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from caloforge.models.gan3d.axis_fit import fit_axis
from caloforge.models.gan3d.cell_field import (
    DIPOLES,
    LARGEST_EXPLAINED,
    TABLE_ENERGIES,
    CellField,
    response_designs,
)
from caloforge.models.gan3d.censored_sample import NO_CELL, CensoredSample
from caloforge.models.gan3d.energy_argument import (
    ENERGY_KNOTS,
    hats,
    least_squares,
    log_widths,
    powers,
)
from caloforge.models.gan3d.latent_statistics import (
    NEARLY_ALWAYS,
    factor_analysis,
    factors_by_energy,
    interpolations,
    log_density,
    probit_regression,
)
from caloforge.models.gan3d.shower_axis import ShowerAxis
from caloforge.models.gan3d.table_fit import FEWEST_HITS, fit_tables

# energy intervals of the fit; rounds between latent moments and tables
INTERVALS, ROUNDS = 16, 3
SIGMA_RANGE = (0.05, 4.0)
# a radial bin whose shift is less well known than this, in most showers, has no loadings
MOST_VARIANCE = 30.0
# smallest variance of a factor at an end of the energies, over that of all
LEAST_VARIANCE = 0.1
# largest t of a bin in which no cell is hit near a knot
LEAST_CEILING = 0.5
# neighbouring cells of a bin, weighted by their information, from which a correlation is believed
FEWEST_PAIRS = 300.0
# of the response; a Cornish-Fisher expansion is monotone up to about this
LARGEST_SKEWNESS = 1.0


@torch.no_grad()
def fit_cell_field(
    field: CellField, showers: Tensor, energy: Tensor, argument: Tensor, axis: ShowerAxis | None = None
) -> tuple[Tensor, Tensor]:
    """Fit all parameters and buffers of a field to showers.

    Args:
        field: The field, on the CPU; it is changed.
        showers: (N, L, m) MeV; negative for cells of a window that are not in the mesh.
        energy: (N,) incident energy, MeV.
        argument: (N,) energy argument.
        axis: Of the showers, if they are in windows.

    Returns:
        Correlation of the noise of neighbouring cells in the layer, and in depth, (L, B, 2) each: at the
        lowest and at the highest energy; between, it is a straight line in the energy argument.
    """
    intervals = _intervals(argument)
    sample = CensoredSample(field, argument, axis, fit_tables(field, showers, argument))
    for _ in range(ROUNDS):
        _fit_moments(sample, intervals)
        sample.latent = fit_tables(field, showers, argument, sample.moments())
    _fit_moments(sample, intervals)
    _fit_ceiling(sample)
    standard = _fit_response(field, showers.clamp_min(0).sum((1, 2)) / energy, argument, axis)
    _fit_factors(sample, standard)
    _fit_dipoles(sample)
    return _neighbour_correlations(sample)


def _fit_response(field: CellField, response: Tensor, argument: Tensor, axis: ShowerAxis | None) -> Tensor:
    """Fit mean, spread and skewness of the logarithm of the response (N,); returns it standardised, (N,)."""
    ratio = response.clamp_min(1e-9).log()
    of_mean, of_spread = response_designs(argument, axis)
    field.response.copy_(least_squares(of_mean, ratio))
    residual = ratio - of_mean @ field.response
    spread = log_widths(of_spread, residual, residual.new_tensor(1e-5))
    standard = (residual / (of_spread @ spread).exp()).clamp(-4, 4)
    field.response_spread.copy_(spread)
    skewness = least_squares(powers(argument, 1), standard**3)
    field.response_skewness.copy_(skewness.clamp(-LARGEST_SKEWNESS, LARGEST_SKEWNESS))
    return standard


def _fit_moments(sample: CensoredSample, intervals: Tensor) -> None:
    """Mu and log sigma from the moments of t in each energy interval."""
    field = sample.field
    member = nn.functional.one_hot(field.symmetry_class, field.mean.shape[1]).float()
    parts = [sample[intervals == k] for k in range(int(intervals.max()) + 1)]
    centres = torch.stack([part.argument.mean() for part in parts])
    cells, chance, first, level, square = (
        torch.stack(sums) for sums in zip(*(_class_sums(part, member) for part in parts), strict=True)
    )
    cells = cells.clamp_min(1)
    chance, first, level, second = (values / cells for values in (chance, first, level, square))
    hit = chance.clamp_min(1e-9)
    edge = torch.special.ndtri(torch.maximum(torch.minimum(chance, 1 - 0.5 / cells), 0.5 / cells))
    mills = log_density(edge).exp() / torch.special.ndtr(edge)
    always = chance > NEARLY_ALWAYS
    height = torch.where(always, level, first) / hit
    # t of hits is a normal number above 0: its mean is sigma * (mu / sigma + mills)
    sigma = torch.where(
        always, (second / hit - height**2).clamp_min(1e-4).sqrt(), height / (edge + mills)
    ).clamp(*SIGMA_RANGE)
    # a class with few hits in an energy interval has sigma 1
    sigma = torch.where(chance * cells < FEWEST_HITS, 1.0, sigma)
    # the square root: lines do not fit exactly, and low energies count as well
    weight = (chance * cells + 1).clamp_max(1e5).sqrt()
    field.log_sigma.copy_(interpolations(centres, sigma.log(), weight))
    sigma = torch.einsum("bd,lkd->blk", hats(centres), field.log_sigma).exp()
    field.mean.copy_(probit_regression(centres, chance, cells, height, sigma))
    if sample.axis is not None:
        fit_axis(sample)


def _class_sums(sample: CensoredSample, member: Tensor) -> tuple[Tensor, ...]:
    """Sums over showers and the cells of a class, (L, K) each.

    Returns:
        Cells; hits; t of the hits; t less what the axis adds, and its square.
    """
    latent, centred = sample.latent, sample.centred()
    hits = latent > 0
    parts = (latent > NO_CELL).float(), hits.float(), latent * hits, centred, centred.square()
    return tuple(part.sum(0) @ member for part in parts)


def _fit_ceiling(sample: CensoredSample) -> None:
    """Largest t of each radial bin near each knot; a normal tail would reach too far at low energies."""
    field, latent = sample.field, sample.latent
    near = hats(sample.argument) > 0
    for knot in range(ENERGY_KNOTS):
        if bool(near[:, knot].any()):
            largest = latent[near[:, knot]].amax(0)
            for number in range(field.ceiling.shape[1]):
                own = largest[:, field.radial_bin == number].amax(1)
                field.ceiling[:, number, knot] = own.clamp_min(LEAST_CEILING)


def _fit_factors(sample: CensoredSample, response: Tensor) -> None:
    """Loadings by factor analysis of the common shifts of radial bins, and of the response."""
    field, argument = sample.field, sample.argument
    shift, variance = _shifts(sample)
    known = (variance.flatten(1) < MOST_VARIANCE).float().mean(0) > 0.5
    joined = torch.cat([shift.flatten(1) * known, response[:, None]], 1)
    loading, scores, spread = factor_analysis(joined, field.factors)
    # a step of the EM algorithm, with loadings that are straight lines in the energy argument
    both = torch.cat([scores, scores * argument[:, None]], 1)
    moments = powers(argument, 1)
    gram = torch.kron((moments.T @ moments).contiguous(), spread.contiguous()) + both.T @ both
    gram = gram + 1e-3 * len(both) * torch.eye(len(gram))
    solution = torch.linalg.solve(gram, both.T @ joined)[:, :-1]
    plain, slope = solution.reshape(2, field.factors, *shift.shape[1:])
    # the variance of the factors, too
    second = least_squares(moments, scores.square() + spread.diag())
    ends = (moments.new_tensor([[1.0, -1.0], [1.0, 1.0]]) @ second).clamp_min(LEAST_VARIANCE).sqrt()
    middle, tilt = (ends.sum(0) / 2)[:, None, None], ((ends[1] - ends[0]) / 2)[:, None, None]
    plain, slope = plain * middle, slope * middle + plain * tilt
    field.loadings.copy_(torch.stack([plain, slope], -1))
    found = loading[-1]
    field.response_loadings.copy_(
        found * min(1.0, math.sqrt(LARGEST_EXPLAINED) / max(float(found.norm()), 1e-9))
    )


def _fit_dipoles(sample: CensoredSample) -> None:
    """Loadings by factor analysis of the shifts of radial bins to one side, along x and y alike."""
    field = sample.field
    sides = [_shifts(sample, direction) for direction in field.direction]
    shift, variance = (torch.cat(parts).flatten(1) for parts in zip(*sides, strict=True))
    known = (variance < MOST_VARIANCE).float().mean(0) > 0.5
    loading, _, _ = factor_analysis(shift * known, DIPOLES)
    if field.energy_dependent:
        weights = hats(sample.argument, TABLE_ENERGIES).repeat(len(sides), 1)
        loading = factors_by_energy(shift, variance, weights, loading)
    field.dipole.copy_(loading.transpose(-2, -1).reshape(field.dipole.shape))


def _neighbour_correlations(sample: CensoredSample) -> tuple[Tensor, Tensor]:
    """Correlation of neighbours by the mean score of each cell, for what the bins do not have in common.

    The score is the expected noise of a cell given whether it is hit, and how strongly. For a small
    correlation rho, the mean of the product of two scores is rho times that of the information.
    """
    field = sample.field
    member = field.bin_member
    # of products by argument^0 and argument^1, of information by argument^0 to argument^2
    sums = torch.zeros(2, 2, 3, field.layers, member.shape[1])
    for some in sample.parts():
        score, known = some.scores()
        shift = (score @ member) / (known @ member).clamp_min(1)
        rest = score - shift[..., field.radial_bin] * known
        for part, values in enumerate((rest, known)):
            plane = values.unflatten(2, field.transverse)  # type: ignore[no-untyped-call]
            across = nn.functional.pad(plane[..., :-1] * plane[..., 1:], (0, 1))
            across = across + nn.functional.pad(plane[..., :-1, :] * plane[..., 1:, :], (0, 0, 0, 1))
            deep = nn.functional.pad(values[:, :-1] * values[:, 1:], (0, 0, 0, 1))
            for kind, product in enumerate((across.flatten(2), deep)):
                by_power = torch.einsum("np,nlm->plm", powers(some.argument, 2), product)
                sums[part, kind] += by_power @ member
    return _line(*sums[:, 0]), _line(*sums[:, 1])


def _line(product: Tensor, information: Tensor) -> Tensor:
    """Ends of the straight line rho in the energy argument for which product = rho * information.

    Args:
        product: (3, L, B) sums weighted by powers of the argument.
        information: The same.

    Returns:
        (L, B, 2) at the arguments -1 and 1.
    """
    own = torch.stack([information[:2], information[1:]]).permute(2, 3, 0, 1)
    # FEWEST_PAIRS without correlation, at both ends
    own = own + FEWEST_PAIRS * torch.eye(2)
    line = torch.linalg.solve(own, product[:2].permute(1, 2, 0))
    ends: Tensor = line @ line.new_tensor([[1.0, 1.0], [-1.0, 1.0]])
    return ends


def _shifts(sample: CensoredSample, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One Newton step of the likelihood for a common shift of the cells of a bin, and its variance.

    The shift of a cell is multiplied by `direction` (m,), 1 by default.
    """
    member = sample.field.bin_member
    member = member if direction is None else member * direction[:, None]
    scores, information = [], []
    for part in sample.parts():
        score, known = part.scores()
        scores.append(score @ member)
        information.append(known @ member.square())
    weight = torch.cat(information).clamp_min(1e-6)
    return (torch.cat(scores) / weight).clamp(-4, 4), 1 / weight


def _intervals(argument: Tensor) -> Tensor:
    """Number of the energy interval of each shower: narrow both in rank and in log energy."""
    rank = torch.argsort(torch.argsort(argument)) / max(len(argument) - 1, 1)
    width = (argument.max() - argument.min()).clamp_min(1e-9)
    place = (rank + (argument - argument.min()) / width) / 2
    found = (place * INTERVALS).floor().long().clamp_max(INTERVALS - 1)
    numbers: Tensor = torch.unique(found, return_inverse=True)[1]
    return numbers

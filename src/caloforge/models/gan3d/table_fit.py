"""Fit of the tables of a `CellField`: energies of hits as monotone functions of their latent variables t.

The quantiles of the energies of hits are matched to those that t of hits has in the cells of a radial bin.
Shapes: N showers, L layers, B radial bins, T energies of the tables, m cells in a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.gan3d.cell_field import KNOTS, TABLE_ENERGIES, CellField, table_knots
from caloforge.models.gan3d.censored_sample import NO_CELL
from caloforge.models.gan3d.energy_argument import hats
from caloforge.models.gan3d.latent_statistics import NEARLY_ALWAYS

# hits of a radial bin from which a table is fitted, and those near one energy
FEWEST_HITS, FEWEST_HITS_NEAR = 8, 200
# hits per radial bin from which quantiles are taken, and cells from which their latent distribution is
QUANTILE_HITS, QUANTILE_CELLS = 200_000, 5_000
Moments = tuple[Tensor, Tensor] | None


@torch.no_grad()
def fit_tables(field: CellField, showers: Tensor, argument: Tensor, moments: Moments = None) -> Tensor:
    """Match the quantiles of hits to those of t.

    Args:
        field: The field.
        showers: (N, L, m) MeV, negative where there is no cell.
        argument: (N,) energy argument.
        moments: Means and standard deviations of t of all cells, (N, L, m) each; at first none.

    Returns:
        t of all cells, 0 where there is no hit, `NO_CELL` where there is no cell.
    """
    latent = torch.where(showers < 0, NO_CELL, 0.0)
    nearest = hats(argument, TABLE_ENERGIES).argmax(1)
    for layer in range(field.layers):
        for number in range(field.log_energy.shape[-2]):
            cells = (field.radial_bin == number).nonzero().squeeze(1)
            energy = showers[:, layer, cells]
            own = None if moments is None else (moments[0][:, layer, cells], moments[1][:, layer, cells])
            table = _table(energy, own, showers[:, :, cells])
            if table is None:
                continue
            if field.energy_dependent:
                table = _tables_by_energy(energy, own, nearest, table)
            field.log_energy[..., layer, number, :] = table
            hit = energy > 0
            value = _inverse(field.at_energy(table, argument), energy.clamp_min(1e-12).log())
            latent[:, layer, cells] = torch.where(hit, value.clamp_min(1e-3), latent[:, layer, cells])
    return latent


def _tables_by_energy(energy: Tensor, moments: Moments, nearest: Tensor, common: Tensor) -> Tensor:
    """Tables of hit energies at T incident energies, (T, KNOTS), each fitted to the nearest showers.

    Where these have too few hits, the table `common` (KNOTS,) of all energies is taken.
    """
    tables = []
    for number in range(TABLE_ENERGIES):
        rows = nearest == number
        own = None if moments is None else (moments[0][rows], moments[1][rows])
        enough = int((energy[rows] > 0).sum()) >= FEWEST_HITS_NEAR
        found = _table(energy[rows], own) if enough else None
        tables.append(common if found is None else found)
    return torch.stack(tables)


def _table(energy: Tensor, moments: Moments, everywhere: Tensor | None = None) -> Tensor | None:
    """Table of hit energies, (KNOTS,): logarithm of the energy in MeV at the knots of t; None without hits.

    Args:
        energy: (N, cells) MeV.
        moments: Means and standard deviations of t, (N, cells) each; at first none.
        everywhere: Cells whose hits are taken where there are too few.
    """
    exists = energy >= 0
    hits = _sample(energy[energy > 0], QUANTILE_HITS).sort().values
    if len(hits) < FEWEST_HITS and everywhere is not None:
        hits = _sample(everywhere[everywhere > 0], QUANTILE_HITS).sort().values
    if len(hits) < FEWEST_HITS:
        return None
    if moments is None:
        below = _first_distribution(float((energy[exists] > 0).float().mean()), table_knots())
    else:
        mean, sigma = (_sample(part[exists], QUANTILE_CELLS) for part in moments)
        below = _hit_distribution(mean, sigma, table_knots())
    return _quantile_table(hits.log(), below)


def _inverse(table: Tensor, log_energy: Tensor) -> Tensor:
    """Latent variables t (N, cells) of the logarithms of cell energies, the inverse of the table.

    `table` is one for all showers, (KNOTS,), or one for each, (N, KNOTS).
    """
    table = table.expand(len(log_energy), KNOTS).contiguous()
    upper = torch.searchsorted(table, log_energy.contiguous()).clamp(1, KNOTS - 1)
    low, high = table.gather(1, upper - 1), table.gather(1, upper)
    grid = table_knots()
    return grid[upper - 1] + (log_energy - low) / (high - low) * (grid[upper] - grid[upper - 1])


def _sample(values: Tensor, most: int) -> Tensor:
    return values[:: max(1, -(-len(values) // most))]


def _first_distribution(chance: float, grid: Tensor) -> Tensor:
    """Distribution function of t of hits at `grid`, all cells being hit with probability `chance`."""
    chance = min(max(chance, 1e-4), 1 - 1e-4)
    edge = torch.special.ndtri(torch.tensor(chance)) if chance < NEARLY_ALWAYS else torch.tensor(4.5)
    below: Tensor = 1 - torch.special.ndtr(edge - grid) / torch.special.ndtr(edge)
    return below


def _hit_distribution(mean: Tensor, sigma: Tensor, grid: Tensor) -> Tensor:
    """Distribution function of t of hits at `grid`, for cells of mean and standard deviation (cells,)."""
    above = torch.special.ndtr((mean - grid[:, None]) / sigma).sum(1)
    below: Tensor = 1 - above / above[0].clamp_min(1e-9)
    return below


def _quantile_table(hits: Tensor, below: Tensor) -> Tensor:
    """Monotone table (KNOTS,) that maps the distribution `below` of t to the quantiles of `hits`.

    Args:
        hits: Logarithms of the energies of hits, in order.
        below: (KNOTS,) probability that t of a hit is below each knot.
    """
    place = below.clamp(0, 1) * (len(hits) - 1)
    lower = place.floor().long().clamp_max(len(hits) - 2)
    knots = hits[lower] + (hits[lower + 1] - hits[lower]) * (place - lower)
    # beyond the strongest hits the table goes on with a slope
    beyond = below > 1 - 3 / len(hits)
    rise = torch.cumsum(beyond * torch.diff(table_knots(), prepend=torch.zeros(1)), 0) * 0.25
    last = knots[~beyond][-1] if bool((~beyond).any()) else knots[0]
    knots = torch.where(beyond, last + rise, knots)
    # log E gains at least this between knots
    least = 1e-3 * torch.arange(KNOTS)
    return torch.cummax(knots - least, 0).values + least

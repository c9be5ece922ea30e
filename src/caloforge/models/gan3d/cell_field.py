"""Cells from independent normal variables: the closed-form start of the compact generator.

A cell has a latent variable t, and energy if t > 0:

    t = mu(E) + sigma(E) * (rest * eps + sum_k A_k(E) u_k + sum_k P_k (v_k cos phi + w_k sin phi)),
    energy = table(t) for t > 0, else 0,

with one normal number eps per cell, and normal factors u_k and dipoles v_k, w_k per shower (a factor analysis
with censored observations); phi is the azimuth of the cell. mu and log sigma are piecewise linear in the
logarithm of the incident energy for each symmetry class of cells of each layer; the table is a monotone map
for each radial bin of each layer, so that the spectrum of hits is that of the training showers; the loadings
A_k hold how layers and radial bins fluctuate together, P_k how they move to one side. Over a wide range of
energies the table and P_k depend on the energy as well, and are interpolated between a few energies.
`cell_field_fit` fits all of it to showers, and the training of the network starts from there.

For inclined or displaced showers the cells are those of a window around the axis. mu then depends on the
inclination as well, with coefficients that are piecewise linear in the logarithm of the energy, and on where
the axis lies in its cell and on its direction, by a polynomial.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.gan3d.energy_argument import ENERGY_KNOTS, hats, powers
from caloforge.models.gan3d.shower_axis import (
    INCLINATION_DEGREE,
    RESPONSE_TERMS,
    WIDTH_TERMS,
    AxisWindow,
    ShowerAxis,
)
from caloforge.models.layered.geometry import LayerGeometry

# degrees of the polynomials of the energy argument
RESPONSE_DEGREE, SPREAD_DEGREE = 3, 2
# the table has so many knots up to this t, and continues in a straight line; they are equidistant in
# sqrt(t + KNOT_OFFSET), since the weakest hits, near t = 0, have the widest range of energies
KNOTS, LAST_KNOT, KNOT_OFFSET = 41, 8.0, 0.01
# largest fraction of the variance of a cell that its shower's factors explain
LARGEST_EXPLAINED = 0.98
# factors of the displacement to one side
DIPOLES = 3
# scale of trained changes of the table against those of other parameters
TABLE_SCALE = 0.1
# energies, equidistant in the energy argument, of the tables and dipoles that depend on the energy
TABLE_ENERGIES = 5


class CellField(nn.Module):
    """Means, widths, energy tables and factor loadings of the latent variables of all cells.

    L layers, K symmetry classes, B radial bins, F factors, m cells in a layer.

    Attributes:
        mean: (L, K, ENERGY_KNOTS) mu at the knots of the energy argument.
        log_sigma: (L, K, ENERGY_KNOTS) logarithm of sigma there.
        loadings: (F, L, B, 2) coefficients of A, degree 1.
        dipole: (DIPOLES, L, B) loadings P; (TABLE_ENERGIES, DIPOLES, L, B) if they depend on the energy.
        log_energy: (L, B, KNOTS) logarithm of the energy in MeV at the knots of t; (TABLE_ENERGIES, L, B,
            KNOTS) if it depends on the energy.
        table_change: Trained change of `log_energy`.
        ceiling: (L, B, ENERGY_KNOTS) largest t at the knots of the energy argument.
        response: (RESPONSE_DEGREE + 1,) coefficients of the mean logarithm of visible over incident energy;
            with a window RESPONSE_TERMS more.
        response_spread: (SPREAD_DEGREE + 1,) of the logarithm of its standard deviation; with a window
            WIDTH_TERMS more.
        response_skewness: (2,) third cumulant of the standardised response, as a straight line.
        response_loadings: (F,) correlation of the response with the factors.
        inclined_mean: (INCLINATION_DEGREE, L, K, ENERGY_KNOTS) coefficients of mu / sigma for the powers of
            the inclination; with a window only.
        axis_mean: (terms, L, K) likewise for the place and direction of the axis.
    """

    inclined_mean: Tensor
    axis_mean: Tensor

    log_energy: Tensor
    ceiling: Tensor
    response: Tensor
    response_spread: Tensor
    response_skewness: Tensor
    response_loadings: Tensor
    symmetry_class: Tensor
    radial_bin: Tensor
    bin_member: Tensor
    direction: Tensor
    bin_of_class: Tensor
    _first_knot: Tensor

    def __init__(
        self,
        layers: int,
        geometry: LayerGeometry,
        factors: int,
        window: AxisWindow | None = None,
        *,
        energy_dependent: bool = False,
    ) -> None:
        """Zeros; `fit_cell_field` gives the values.

        Args:
            layers: Of the detector.
            geometry: The cells of a layer, of the mesh or of a window.
            factors: Number of factors.
            window: Windows around the axes of inclined or displaced showers.
            energy_dependent: Whether tables and dipoles depend on the energy.
        """
        super().__init__()
        self.layers, self.factors, self.window = layers, factors, window
        self.energy_dependent = energy_dependent
        energies = (TABLE_ENERGIES,) if energy_dependent else ()
        self.transverse = (geometry.rows, geometry.columns)
        classes, bins = geometry.symmetry_classes, len(geometry.radial_bin_sizes)
        self.mean = nn.Parameter(torch.zeros(layers, classes, ENERGY_KNOTS))
        self.log_sigma = nn.Parameter(torch.zeros(layers, classes, ENERGY_KNOTS))
        self.loadings = nn.Parameter(torch.zeros(factors, layers, bins, 2))
        self.dipole = nn.Parameter(torch.zeros(*energies, DIPOLES, layers, bins))
        self.register_buffer("log_energy", torch.zeros(*energies, layers, bins, KNOTS))
        self.register_buffer("ceiling", torch.full((layers, bins, ENERGY_KNOTS), LAST_KNOT))
        self.table_change = nn.Parameter(torch.zeros(*energies, layers, bins, KNOTS))
        # fitted, not trained: in the energy distance it is one feature of many, and would drift
        inclined = window is not None
        self.register_buffer("response", torch.zeros(RESPONSE_DEGREE + 1 + RESPONSE_TERMS * inclined))
        self.register_buffer("response_spread", torch.zeros(SPREAD_DEGREE + 1 + WIDTH_TERMS * inclined))
        self.register_buffer("response_skewness", torch.zeros(2))
        self.register_buffer("response_loadings", torch.zeros(factors))
        if window is not None:
            of_inclination = torch.zeros(INCLINATION_DEGREE, layers, classes, ENERGY_KNOTS)
            self.inclined_mean = nn.Parameter(of_inclination)
            self.axis_mean = nn.Parameter(torch.zeros(window.terms.count, layers, classes))
        symmetry_class = torch.from_numpy(geometry.symmetry_class)
        radial_bin = torch.from_numpy(geometry.radial_bin)
        self.register_buffer("symmetry_class", symmetry_class, persistent=False)
        # cells of a class are in one ring, and so in one bin
        first = np.unique(geometry.symmetry_class, return_index=True)[1]
        bin_of_class = torch.from_numpy(geometry.radial_bin[first])
        self.register_buffer("bin_of_class", bin_of_class, persistent=False)
        self.register_buffer("radial_bin", radial_bin, persistent=False)
        self.register_buffer("direction", _directions(*self.transverse), persistent=False)
        bin_member = nn.functional.one_hot(radial_bin, bins).float()
        self.register_buffer("bin_member", bin_member, persistent=False)
        bin_of_layer = np.arange(layers)[:, None] * bins + geometry.radial_bin
        self.register_buffer("_first_knot", torch.from_numpy(bin_of_layer * KNOTS), persistent=False)

    # ---- evaluation

    def class_moments(self, argument: Tensor, axis: ShowerAxis | None = None) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of t of each symmetry class, (N, L, K) each."""
        weights = hats(argument)
        mean = torch.einsum("nd,lkd->nlk", weights, self.mean)
        sigma = torch.einsum("nd,lkd->nlk", weights, self.log_sigma).exp()
        if axis is None:
            return mean, sigma
        design = inclination_design(argument, axis)
        return mean + sigma * torch.einsum("nd,lkd->nlk", design, _joined(self.inclined_mean)), sigma

    def axis_displacement(self, argument: Tensor, axis: ShowerAxis) -> Tensor:
        """What place and direction of the axis add to mu / sigma, (N, L, m)."""
        assert self.window is not None
        terms = self.window.polynomial_terms(axis, argument)
        return self.window.terms.values(terms, self.axis_mean)

    def moments(self, argument: Tensor, axis: ShowerAxis | None = None) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of t of all cells, (N, L, m) each."""
        mean, sigma = map(self._of_classes, self.class_moments(argument, axis))
        return mean if axis is None else mean + sigma * self.axis_displacement(argument, axis), sigma

    def latent(
        self,
        moments: tuple[Tensor, Tensor],
        argument: Tensor,
        common: Tensor,
        rest: Tensor,
        own: Tensor,
        local: Tensor,
    ) -> Tensor:
        """Latent variables of all cells, (N, L, m).

        Args:
            moments: Of the symmetry classes.
            argument: (N,) energy argument.
            common: (N, L, B) displacement of each radial bin.
            rest: (N, L, B) standard deviation that is left for the noise of the cells.
            own: (N, L, m) noise.
            local: (N, L, m) displacement of each cell.
        """
        mean, sigma = moments
        mean = mean + sigma * common.index_select(-1, self.bin_of_class)
        width = sigma * rest.index_select(-1, self.bin_of_class)
        latent = self._of_classes(mean) + self._of_classes(width) * own + self._of_classes(sigma) * local
        ceiling = torch.einsum("nd,lbd->nlb", hats(argument), self.ceiling)
        return torch.minimum(latent, self.of_bins(ceiling))

    def factor_field(
        self, argument: Tensor, factors: Tensor, dipoles: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Displacements of each radial bin, and the standard deviation left to the cells.

        Args:
            argument: (N,) energy argument.
            factors: (N, F) standard normal.
            dipoles: (N, DIPOLES, 2) standard normal, along x and y.

        Returns:
            Displacement by the factors, (N, L, B), and by the dipoles, (2, N, L, B), which a cell has times
            its `direction`; standard deviation (N, L, B). All are in units of sigma.
        """
        loadings = self.loadings[..., 0] + argument[:, None, None, None] * self.loadings[..., 1]
        dipole = self.at_energy(self.dipole, argument)
        explained = loadings.square().sum(1) + dipole.square().sum(-3)
        within = (LARGEST_EXPLAINED / explained.clamp_min(LARGEST_EXPLAINED)).sqrt()
        rest = (1 - explained * within.square()).sqrt()
        equation = "nka,nklb->anlb" if self.energy_dependent else "nka,klb->anlb"
        aside = torch.einsum(equation, dipoles, dipole) * within
        return (loadings * factors[:, :, None, None]).sum(1) * within, aside, rest

    def at_energy(self, values: Tensor, argument: Tensor) -> Tensor:
        """Tables or dipoles at the energies of N showers, (N, ...); unchanged where there is one for all."""
        if not self.energy_dependent:
            return values
        return torch.einsum("nt,t...->n...", hats(argument, TABLE_ENERGIES), values)

    def energies(self, latent: Tensor, argument: Tensor) -> Tensor:
        """Cell energies in MeV of t, (N, L, m) each, with the energy argument (N,)."""
        # a comparison with NaN is false, so that no weights lead beyond the table
        position = knot_position(torch.where(latent > 0, latent, 0.0).clamp_max(2 * LAST_KNOT))
        knot = position.detach().floor().clamp_max(KNOTS - 2)
        tables = self.at_energy(self.log_energy + TABLE_SCALE * self.table_change, argument)
        table = tables.flatten(-3)
        index = self._first_knot + knot.long()
        low, high = _look_up(table, index), _look_up(table, index + 1)
        return (low + (high - low) * (position - knot)).exp() * (latent > 0)

    # index_select along the last axis: other ways to index are exported with two transpositions

    def of_bins(self, values: Tensor) -> Tensor:
        """Values of radial bins (..., B) for each cell, (..., m)."""
        return values.index_select(-1, self.radial_bin)

    def _of_classes(self, values: Tensor) -> Tensor:
        """Values of symmetry classes (..., K) for each cell, (..., m)."""
        return values.index_select(-1, self.symmetry_class)

    def bin_sums(self, cells: Tensor) -> Tensor:
        """(N, L, B) sums over the radial bins of each layer, of (N, L, m)."""
        return cells @ self.bin_member

    def log_response(
        self, argument: Tensor, factors: Tensor, noise: Tensor, axis: ShowerAxis | None = None
    ) -> Tensor:
        """Logarithm of visible over incident energy, (N,).

        Args:
            argument: (N,) energy argument.
            factors: (N, F).
            noise: (N,) what does not follow from the factors, normal.
            axis: Of the showers, with a window.
        """
        mean, spread = self._response_moments(argument, axis)
        rest = (1 - self.response_loadings.square().sum()).clamp_min(1 - LARGEST_EXPLAINED).sqrt()
        normal = factors @ self.response_loadings + rest * noise
        # first terms of a Cornish-Fisher expansion
        skewness = powers(argument, 1) @ self.response_skewness
        skewed = normal + skewness / 6 * (normal.square() - 1)
        return mean + spread * skewed / (1 + skewness.square() / 18).sqrt()

    def response_score(
        self, log_response: Tensor, argument: Tensor, axis: ShowerAxis | None = None
    ) -> Tensor:
        """Logarithms of the response (N,), less their mean, over their spread."""
        mean, spread = self._response_moments(argument, axis)
        return ((log_response - mean) / spread).clamp(-4, 4)

    def _response_moments(self, argument: Tensor, axis: ShowerAxis | None) -> tuple[Tensor, Tensor]:
        """Mean and spread of the logarithm of the response, (N,) each."""
        of_mean, of_spread = response_designs(argument, axis)
        return of_mean @ self.response, (of_spread @ self.response_spread).exp()


def response_designs(argument: Tensor, axis: ShowerAxis | None) -> tuple[Tensor, Tensor]:
    """Functions of energy and axis for the mean and the spread of the response, (N, coefficients) each."""
    designs = powers(argument, RESPONSE_DEGREE), powers(argument, SPREAD_DEGREE)
    if axis is None:
        return designs
    return (
        torch.cat([designs[0], axis.terms[:, :RESPONSE_TERMS]], 1),
        torch.cat([designs[1], axis.terms[:, :WIDTH_TERMS]], 1),
    )


def inclination_design(argument: Tensor, axis: ShowerAxis) -> Tensor:
    """(N, INCLINATION_DEGREE * ENERGY_KNOTS) powers of the inclination times weights of the knots."""
    return (axis.powers()[:, :, None] * hats(argument)[:, None]).flatten(1)


def _joined(coefficients: Tensor) -> Tensor:
    """(L, K, powers * knots) from (powers, L, K, knots)."""
    return coefficients.permute(1, 2, 0, 3).flatten(2)


def _directions(rows: int, columns: int) -> Tensor:
    """(2, m) cos phi and sin phi of the cells around the middle of the window; 0 on the axis."""
    y, x = (np.arange(size) - (size - 1) / 2 for size in (rows, columns))
    place = np.stack(np.broadcast_arrays(x, y[:, None])).reshape(2, -1)
    radius = np.hypot(*place)
    return torch.from_numpy((place / np.where(radius > 0, radius, 1)).astype(np.float32))


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    """Values at (N, L, m) of a table (entries,), or of one for each shower (N, entries)."""
    found = table.index_select(0, index.flatten()) if table.dim() == 1 else table.gather(1, index.flatten(1))
    return found.view_as(index)


def table_knots() -> Tensor:
    """(KNOTS,) t at the knots of the energy table."""
    first, last = math.sqrt(KNOT_OFFSET), math.sqrt(LAST_KNOT + KNOT_OFFSET)
    return torch.linspace(first, last, KNOTS).square() - KNOT_OFFSET


def knot_position(latent: Tensor) -> Tensor:
    """Position of t, not negative, in the table, in knots."""
    first, last = math.sqrt(KNOT_OFFSET), math.sqrt(LAST_KNOT + KNOT_OFFSET)
    return ((latent + KNOT_OFFSET).sqrt() - first) * ((KNOTS - 1) / (last - first))

"""Differentiable physics features of a shower, and their standardisation given the incident energy.

The energy distance compares their distributions: sums of layers and rings, hits, positions and widths,
products of neighbouring cells, the spectrum of cells. Roots and logarithms make them nearly normal.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.gan3d.energy_argument import EnergyArgument, least_squares, log_widths, powers
from caloforge.models.gan3d.shower_axis import MEAN_TERMS, WIDTH_TERMS, ShowerAxis
from caloforge.models.layered.geometry import LayerGeometry

RINGS = 10
# first rings of the three zones of neighbour products and spectra, and the number of depth groups
ZONES, GROUPS = (0, 2, 5), 5
# quantiles of the hits of all showers at which cells are counted
SPECTRUM = (0.05, 0.2, 0.4, 0.6, 0.8, 0.93, 0.99)
# width of a soft edge: of the latent variable at 0, and of ln(energy)
HIT_WIDTH, EDGE_WIDTH = 0.5, 0.2
# MeV; keep roots and logarithms of empty sums finite
SMALL, SMALL_CELL = 1e-3, 1e-6
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
DEPTH_SHIFTS = (1, 2, 4)
MEAN_DEGREE, WIDTH_DEGREE, PENALTY = 4, 2, 1e-4
# smallest width of a feature, over that of all showers, and at all
LEAST_WIDTH, SMALLEST_WIDTH = 0.3, 1e-4
LARGEST = 6.0
SPECTRUM_HITS = 1_000_000
# cells
CENTRE_SCALE = 6.0
# weight of a sum over the whole shower
SHOWER_WEIGHT = 10.0


class PhysicsFeatures(nn.Module):
    """Features of showers, (N, size); those of one kind are adjacent.

    Attributes:
        edges: (len(SPECTRUM),) MeV.
        importance: (size,) weight of each feature in a mean over all: sums over the whole shower, which are
            few, have a larger one.
    """

    edges: Tensor
    importance: Tensor
    sums: Tensor
    zones: Tensor
    groups: Tensor
    depth: Tensor

    def __init__(self, layers: int, geometry: LayerGeometry) -> None:
        """Weights of sums over cells; `fit` sets the edges."""
        super().__init__()
        self.layers, self.rows, self.columns = layers, geometry.rows, geometry.columns
        zone = np.searchsorted(ZONES, geometry.ring, side="right") - 1
        group = np.eye(GROUPS, dtype=np.float32)[np.arange(layers) * GROUPS // layers]
        constants = {
            "sums": _sums(geometry),
            "zones": np.eye(len(ZONES), dtype=np.float32)[zone],
            "groups": (group / group.sum(0).clip(min=1)).T,
            "depth": np.arange(layers, dtype=np.float32),
        }
        for name, values in constants.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)
        self.register_buffer("edges", torch.ones(len(SPECTRUM)))
        importance = np.ones(self.size, np.float32)
        of_layers = layers * (2 * RINGS + 2)
        for first, count in ((of_layers, 2), (of_layers + 2 + 12 * layers, 2 * RINGS + 10)):
            importance[first : first + count] = SHOWER_WEIGHT
        self.register_buffer("importance", torch.from_numpy(importance / importance.mean()), persistent=False)

    @property
    def size(self) -> int:
        """Number of features."""
        of_layers = self.layers * (2 * RINGS + 15)
        of_showers = 2 * RINGS + 13
        of_zones = GROUPS * (len(SHIFTS) + 2 + len(SPECTRUM)) + sum(k < self.layers for k in DEPTH_SHIFTS)
        return of_layers + of_showers + len(ZONES) * of_zones

    def fit(self, showers: Tensor) -> None:
        """Set the edges of the spectrum to quantiles of the hits of showers (N, L, m) in MeV."""
        hits = showers[showers > 0]
        hits = hits[:: max(1, len(hits) // SPECTRUM_HITS)]
        if len(hits):
            self.edges.copy_(torch.quantile(hits[:SPECTRUM_HITS], torch.tensor(SPECTRUM)))

    def forward(self, showers: Tensor, energy: Tensor, latent: Tensor | None = None) -> Tensor:
        """The features.

        Args:
            showers: (N, L, m) MeV.
            energy: (N,) incident energy, MeV.
            latent: (N, L, m) latent variables of generated cells, positive where hit: counts get a gradient.
        """
        hits = (showers > 0).float() if latent is None else hit_indicator(latent)
        sums, counts = showers @ self.sums, hits @ self.sums
        rings, moments, signs = sums[..., :RINGS], sums[..., RINGS:-3], sums[..., -3:]
        layer = rings.sum(2)
        total = layer.sum(1, keepdim=True).clamp_min(SMALL)
        in_layer = layer.clamp_min(10 * SMALL)[..., None]
        root_hits = _root(counts[..., :RINGS].sum(2), 0.5)
        depth = (layer @ self.depth)[:, None] / total
        parts = [
            _root(layer, 1 / 3),
            _root(rings, 1 / 3),
            _root(counts[..., :RINGS], 0.5),
            root_hits,
            depth,
            ((layer * (self.depth - depth).square()).sum(1, keepdim=True) / total + 0.1).log(),
            moments[..., :2] / in_layer,
            _root(moments[..., 2:4] / in_layer, 0.5),
            moments[..., 4:] / in_layer,
            signs / in_layer,
            counts[..., RINGS + 6 :] / root_hits[..., None],
            sums[..., RINGS:].sum(1) / total,
            _root(rings.sum(1), 1 / 3),
            _root(counts[..., :RINGS].sum(1), 0.5),
            hits.sum((1, 2))[:, None].sqrt(),
            _root(showers.amax(2), 1 / 3),
            (total[:, 0] / energy).log(),
            *self._neighbours(showers, hits),
            *self._spectrum(showers, latent is not None),
        ]
        return torch.cat([part.reshape(len(showers), -1) for part in parts], 1)

    def _neighbours(self, showers: Tensor, hits: Tensor) -> list[Tensor]:
        """Sums over zones of products of neighbouring cells (square roots of energy) and hits."""
        root = (showers + SMALL_CELL).sqrt()
        plane = root.view(len(root), self.layers, self.rows, self.columns)
        struck = hits.view_as(plane)
        parts = [self._grouped(_product(plane, *shift)) for shift in SHIFTS]
        parts += [self._grouped(_product(struck, *shift)) for shift in SHIFTS[:2]]
        for shift in DEPTH_SHIFTS:
            if shift < self.layers:
                parts.append(_root(((root[:, shift:] * root[:, :-shift]) @ self.zones).sum(1), 0.5))
        return parts

    def _spectrum(self, showers: Tensor, soft: bool) -> list[Tensor]:
        """Cells above each edge by zone and depth group."""
        logs = (showers + SMALL_CELL).log()
        parts = []
        for edge in self.edges.log():
            above = _step(logs - edge, EDGE_WIDTH) if soft else (logs > edge).float()
            parts.append(_root(self.groups @ (above @ self.zones), 0.5))
        return parts

    def _grouped(self, products: Tensor) -> Tensor:
        return self.groups @ _root(products.flatten(2) @ self.zones, 0.5)


class FeatureScale(nn.Module):
    """Standardises features: less their mean, over their standard deviation.

    The mean and the logarithm of the standard deviation are polynomials of log E, and of terms of the axis.

    Attributes:
        mean: (MEAN_DEGREE + 1, size) coefficients; with an axis MEAN_TERMS more.
        log_width: (WIDTH_DEGREE + 1, size) coefficients; with an axis WIDTH_TERMS more.
        least: (size,) smallest standard deviation.
    """

    mean: Tensor
    log_width: Tensor
    least: Tensor

    def __init__(self, argument: EnergyArgument, size: int, least: float, *, inclined: bool = False) -> None:
        """Mean 0, variance 1.

        Args:
            argument: Of the energy.
            size: Number of features.
            least: Smallest width over that of all showers.
            inclined: Whether the showers have an axis.
        """
        super().__init__()
        self.argument, self._least = argument, least
        self.register_buffer("mean", torch.zeros(MEAN_DEGREE + 1 + MEAN_TERMS * inclined, size))
        self.register_buffer("log_width", torch.zeros(WIDTH_DEGREE + 1 + WIDTH_TERMS * inclined, size))
        self.register_buffer("least", torch.ones(size))

    def fit(self, features: Tensor, energy: Tensor, axis: ShowerAxis | None = None) -> None:
        """Fit both polynomials to features (N, size) of showers of energies (N,) in MeV."""
        design, squares = self._designs(energy, axis)
        self.mean.copy_(least_squares(design, features, PENALTY))
        rest = features - design @ self.mean
        self.least.copy_(self._least * rest.std(0) + SMALLEST_WIDTH)
        self.log_width.copy_(log_widths(squares, rest, self.least / 10, PENALTY))

    def forward(self, features: Tensor, energy: Tensor, axis: ShowerAxis | None = None) -> Tensor:
        """Standardised features, within +-LARGEST."""
        mean, width = self._moments(energy, axis)
        return ((features - mean) / width).clamp(-LARGEST, LARGEST)

    def restore(self, standardised: Tensor, energy: Tensor, axis: ShowerAxis | None = None) -> Tensor:
        """The inverse of `forward`."""
        mean, width = self._moments(energy, axis)
        return mean + width * standardised

    def _designs(self, energy: Tensor, axis: ShowerAxis | None) -> tuple[Tensor, Tensor]:
        """Functions of energy and axis for mean and width, (N, coefficients) each."""
        argument = self.argument(energy)
        designs = powers(argument, MEAN_DEGREE), powers(argument, WIDTH_DEGREE)
        if axis is None:
            return designs
        return torch.cat([designs[0], axis.terms], 1), torch.cat([designs[1], axis.terms[:, :WIDTH_TERMS]], 1)

    def _moments(self, energy: Tensor, axis: ShowerAxis | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (N, size) each."""
        of_mean, of_width = self._designs(energy, axis)
        return of_mean @ self.mean, torch.maximum((of_width @ self.log_width).exp(), self.least)


def _sums(geometry: LayerGeometry) -> NDArray[np.float32]:
    """(m, RINGS + 9) weights: rings; x, y, x^2, y^2, x^2 - y^2 and x y; signs of x, y and x y."""
    rings = np.eye(RINGS)[geometry.ring.clip(max=RINGS - 1)]
    place = np.indices((geometry.rows, geometry.columns)).reshape(2, -1)
    middle = np.array([geometry.rows - 1, geometry.columns - 1])[:, None] / 2
    y, x = (place - middle) / CENTRE_SCALE
    moments = np.stack([x, y, x * x, y * y, x * x - y * y, x * y], 1)
    signs = np.stack([np.sign(x), np.sign(y), np.sign(x * y)], 1)
    return np.concatenate([rings, moments, signs], 1).astype(np.float32)


def _root(values: Tensor, power: float) -> Tensor:
    return (values + SMALL).pow(power)


def hit_indicator(latent: Tensor) -> Tensor:
    """1 where the latent variable is positive, else 0, with a gradient near the edge."""
    return _step(latent, HIT_WIDTH)


def _step(values: Tensor, width: float) -> Tensor:
    """1 above 0, with the gradient of a sigmoid."""
    soft = torch.sigmoid(values / width)
    return (values > 0).float() + soft - soft.detach()


def _product(plane: Tensor, down: int, right: int) -> Tensor:
    """(N, L, Y, X) products with the cell `down` and `right`; 0 where there is none."""
    rows, columns = plane.shape[2:]
    near = plane[:, :, : rows - down, max(-right, 0) : columns - max(right, 0)]
    far = plane[:, :, down:, max(right, 0) : columns + min(right, 0)]
    return F.pad(near * far, (0, abs(right), 0, down))

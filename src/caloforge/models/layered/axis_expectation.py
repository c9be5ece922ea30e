"""What the axis predicts of the layer features, and what is left of them, Eq. 23 to 25.

Where the axis lies within a cell, and how inclined it is, changes the features of a layer: the share of the
innermost cell falls from its centre to its corner, a window is cut by the edge of the mesh. The layer sampler
splices features of showers with other axes, so it is given what is left when the prediction is taken away.
All is fitted in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.layered.constants import (
    AXIS_MEAN_DEGREE,
    AXIS_SPREAD_DEGREE,
    EMPTY_ROOT,
    LEAST_FEATURE,
    LEAST_HALF,
    LEAST_SHARE,
    LEAST_WHOLE,
    POSITION_FEATURES,
)
from caloforge.models.layered.features import FeatureLayout
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.layered.shower_frame import AxisPosition

# smallest spread of a feature over its mean one: where nothing varies the logarithm would be unbounded
LEAST_SPREAD = 1e-2
RIDGE = 1e-6


@dataclass(frozen=True)
class Shares:
    """Expected shares of the radial bins that lie in the mesh, (N, layers, bins) each.

    Attributes:
        energy: Of their energy.
        hits: Of their hits.
        cells: Number of their cells.
    """

    energy: Tensor
    hits: Tensor
    cells: Tensor


class AxisExpectation(nn.Module):
    """Expected shares, means and spreads of features given the axis; `fit` fills the buffers.

    Attributes:
        class_hits: (layers, classes) mean hits of a cell in the mesh.
        class_energy: (layers, classes) mean energy, MeV.
        mean: (terms, size) coefficients of the means; columns of position features are not used.
        spread: (terms, size) of the logarithms of spreads.
        position: (2, terms) of centre, and of depth covariance.
        layer_weights: (2, layers) mean share of the energy, and the same times the depth from its mean.
        least_root: () least root of the number of hits of a bin in the mesh that stays hit.
    """

    class_hits: Tensor
    class_energy: Tensor
    mean: Tensor
    spread: Tensor
    position: Tensor
    layer_weights: Tensor
    least_root: Tensor
    membership: Tensor
    symmetry_class: Tensor
    layer: Tensor

    def __init__(
        self, layout: FeatureLayout, geometry: LayerGeometry, inclination: tuple[float, float]
    ) -> None:
        """Nothing is predicted.

        Args:
            layout: Of the features.
            geometry: Of a window.
            inclination: Least and largest `AxisPosition.inclination`.
        """
        super().__init__()
        self.layout = layout
        low, high = inclination
        self._middle, self._half = (low + high) / 2, max((high - low) / 2, LEAST_HALF)
        classes, layers = geometry.symmetry_classes, layout.layers
        self.register_buffer("class_hits", torch.ones(layers, classes))
        self.register_buffer("class_energy", torch.ones(layers, classes))
        example = AxisPosition(
            torch.zeros(1, layers, 2, dtype=torch.int64),
            torch.zeros(1, layers, 2),
            torch.zeros(1, 2),
            torch.ones(1),
        )
        zero = torch.zeros(1)
        mean, spread = (x.shape[-1] for x in self._terms(example, zero, torch.zeros(1, POSITION_FEATURES)))
        self.register_buffer("mean", torch.zeros(mean, layout.size))
        self.register_buffer("spread", torch.zeros(spread, layout.size))
        self.register_buffer("layer_weights", torch.zeros(2, layers))
        self.register_buffer("position", torch.zeros(2, self._vectors(example, zero)[0].shape[-1]))
        self.register_buffer("least_root", torch.tensor(LEAST_FEATURE))
        self.register_buffer("membership", torch.from_numpy(geometry.bin_membership), persistent=False)
        self.register_buffer("symmetry_class", torch.from_numpy(geometry.symmetry_class), persistent=False)
        # features of the whole shower have the terms behind those of the layers
        layer = torch.where(layout.layer < 0, layers, layout.layer)
        self.register_buffer("layer", layer, persistent=False)

    # ---- shares

    def shares(self, available: Tensor) -> Shares:
        """Shares of the radial bins in the mesh, Eq. 23.

        Args:
            available: (N, layers, cells) 1 for cells of a window that are in the mesh, else 0.
        """
        found = []
        for table in (self.class_energy, self.class_hits):
            cells = table[:, self.symmetry_class]
            whole = (cells @ self.membership).clamp_min(LEAST_WHOLE)
            found.append(((available * cells) @ self.membership / whole).clamp_min(LEAST_SHARE))
        return Shares(found[0], found[1], available @ self.membership)

    # ---- terms

    def _scaled(self, inclination: Tensor) -> Tensor:
        return (inclination - self._middle) / self._half

    def _terms(
        self, position: AxisPosition, energy_argument: Tensor, centre: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Terms of mean and of spread, (N, layers + 1, terms) each; the last row is for the whole shower.

        Args:
            position: Of the axes.
            energy_argument: (N,).
            centre: (N, POSITION_FEATURES) what is left of centre and depth covariance.
        """
        t, c = energy_argument[:, None], self._scaled(position.inclination)[:, None]
        common = [t**k for k in range(AXIS_MEAN_DEGREE + 1)] + [c, c * c, c**3, t * c, t * t * c, t * c * c]
        x, y = position.remainder.unbind(2)
        square, product = x * x + y * y, x * x * y * y
        along = [
            (position.remainder * v[:, None]).sum(2) for v in (position.slope, centre[:, :2], centre[:, 2:])
        ]
        own = [square, square * square, product, t * square, t * t * square, t * square * square, t * product]
        own += [c * square, *along]
        spread_common = [t**k for k in range(AXIS_SPREAD_DEGREE + 1)] + [c, c * c, t * c]
        spread_own = [square, square * square, product, t * square, c * square]
        return _joined(common, own), _joined(spread_common, spread_own)

    def _vectors(self, position: AxisPosition, energy_argument: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors that predict centre and depth covariance, (N, 2, terms) each."""
        x = position.remainder
        cubes = torch.stack([x, x**3, x * x.flip(2) ** 2], dim=3)
        t, c = energy_argument[:, None], self._scaled(position.inclination)[:, None]
        slope = torch.stack([position.slope, t * position.slope, c * position.slope], dim=2)
        both = [torch.cat([torch.einsum("l,nlik->nik", w, cubes), slope], dim=2) for w in self.layer_weights]
        return both[0], both[1]

    # ---- fit

    def fit_shares(self, hits: Tensor, energy: Tensor, available: Tensor) -> None:
        """Set the mean hits and energies of cells.

        Args:
            hits: (layers, cells) sums of hits over showers.
            energy: (layers, cells) likewise, MeV.
            available: (layers, cells) number of showers where a cell was in the mesh.
        """
        sums = [
            torch.zeros_like(self.class_hits).index_add_(1, self.symmetry_class, x.float())
            for x in (hits, energy, available)
        ]
        number = sums[2].clamp_min(1.0)
        # cells that were never in the mesh have no share
        self.class_hits.copy_(sums[0] / number)
        self.class_energy.copy_(sums[1] / number)
        layers = energy.sum(1) / energy.sum().clamp_min(1e-12)
        depth = torch.arange(len(layers)) - (layers * torch.arange(len(layers))).sum()
        self.layer_weights.copy_(torch.stack([layers, layers * depth]))

    def fit(self, features: Tensor, position: AxisPosition, energy_argument: Tensor) -> None:
        """Fit means and spreads, Eq. 24.

        Args:
            features: (N, size).
            position: Of the axes of the N showers.
            energy_argument: (N,).
        """
        places = features[:, self.layout.position]
        for k, vectors in enumerate(self._vectors(position, energy_argument)):
            # components along x and y have the same coefficients
            design, wanted = vectors.flatten(0, 1).double(), places[:, 2 * k : 2 * k + 2].flatten().double()
            self.position[k] = _ridge(design, wanted[:, None])[:, 0].float()
        rest = self._position_rest(places, position, energy_argument)
        mean, spread = self._terms(position, energy_argument, rest)
        for layer in range(self.layout.layers + 1):
            own = torch.nonzero(self.layer == layer)[:, 0]
            values, design = features[:, own].double(), mean[:, layer].double()
            solution = _ridge(design, values)
            self.mean[:, own] = solution.float()
            squares = (values - design @ solution) ** 2
            floor = (LEAST_SPREAD**2 * squares.mean(0)).clamp_min(1e-12)
            logs = torch.maximum(squares, floor).log() / 2
            self.spread[:, own] = _ridge(spread[:, layer].double(), logs).float()

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # in models of earlier releases bins lose their hits, and get some, with the place of the axis
        state.setdefault(prefix + "least_root", torch.full_like(self.least_root, LEAST_FEATURE))
        super()._load_from_state_dict(state, prefix, *rest)

    # ---- use

    def position_rest(self, features: Tensor, position: AxisPosition, energy_argument: Tensor) -> Tensor:
        """Features with what is left of centre and depth covariance, along x and y."""
        places = self._position_rest(features[:, self.layout.position], position, energy_argument)
        return torch.cat([features[:, : self.layout.position.start], places], dim=1)

    def _position_rest(self, places: Tensor, position: AxisPosition, energy_argument: Tensor) -> Tensor:
        both = self._vectors(position, energy_argument)
        expected = torch.cat([vectors @ w for vectors, w in zip(both, self.position, strict=True)], dim=1)
        return places - expected

    def rest(self, features: Tensor, position: AxisPosition, energy_argument: Tensor) -> Tensor:
        """What is left of features, (N, size), Eq. 24 and 25.

        Centre and depth covariance are given along the inclination and across it.
        """
        places = self._position_rest(features[:, self.layout.position], position, energy_argument)
        mean, spread = self._mean_and_spread(position, energy_argument, places)
        rest = (features - mean) / spread
        rest[:, self.layout.position] = _turned(places, position.direction(), backwards=False)
        return rest

    def features(self, rest: Tensor, position: AxisPosition, energy_argument: Tensor) -> Tensor:
        """Features of what is left of them, (N, size); of centre and depth covariance what is left stays."""
        places = _turned(rest[:, self.layout.position], position.direction(), backwards=True)
        mean, spread = self._mean_and_spread(position, energy_argument, places)
        size = self.layout.position.start
        made = torch.where(rest < EMPTY_ROOT / 2, EMPTY_ROOT, mean + spread * rest)
        return torch.cat([made[:, :size], places], dim=1)

    def _mean_and_spread(
        self, position: AxisPosition, energy_argument: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        terms = self._terms(position, energy_argument, places)
        mean, spread = (
            (part.index_select(1, self.layer) * weights.T).sum(2)
            for part, weights in zip(terms, (self.mean, self.spread), strict=True)
        )
        return mean, spread.clamp(-20, 20).exp()


def _joined(common: list[Tensor], own: list[Tensor]) -> Tensor:
    """Terms of all layers, (N, layers + 1, terms), from those (N, 1) and (N, layers)."""
    layers = own[0].shape[1]
    shared = torch.stack([x.expand(-1, layers + 1) for x in common], dim=2)
    each = torch.nn.functional.pad(torch.stack(own, dim=2), (0, 0, 0, 1))
    return torch.cat([shared, each], dim=2)


def _turned(places: Tensor, direction: Tensor, *, backwards: bool) -> Tensor:
    """Pairs of components (N, 4) along and across a direction (N, 2), from those along x and y, or back."""
    x, y = direction[:, :1], direction[:, 1:]
    y = -y if backwards else y
    pairs = [(places[:, k : k + 1], places[:, k + 1 : k + 2]) for k in (0, 2)]
    return torch.cat([part for a, b in pairs for part in (a * x + b * y, b * x - a * y)], dim=1)


def _ridge(design: Tensor, values: Tensor) -> Tensor:
    """Coefficients (terms, columns) of values (N, columns), double."""
    normal = design.T @ design
    scale = np.maximum(float(normal.diagonal().mean()), 1e-12)
    solution: Tensor = torch.linalg.solve(
        normal + RIDGE * scale * torch.eye(len(normal), dtype=torch.float64), design.T @ values
    )
    return solution

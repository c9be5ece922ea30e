"""Layer features: the numbers that describe the layers of a shower, Eq. 1 of docs/explanation/layered.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.layered.constants import LEAST_ROOT, POSITION_FEATURES, ROOT_MEAN, ROOT_WIDTH
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.symmetries import Symmetry, transformed

# centre and depth covariance are those of the cells up to this ring, which hold most of the energy
CORE_RING = 2
# dequantisation noise keeps this far from 0 and 1, where float32 would round to the next whole number
EDGE = 1e-3


@dataclass(frozen=True)
class FeatureLayout:
    """Where each feature stands in the vector y of Eq. 1.

    In this order: the logarithm of visible over incident energy, less the leakage correction of Eq. 2
    (`Layered._fit_leakage_correction`); cube roots of the layers' energies in MeV; for each layer and each of
    its radial bins but the last the logarithm of its energy over that of the bins outside it; square roots of
    the dequantised numbers of hits of the bins; x and y of the centre in cells; x and y of the depth
    covariance, in cells times layers.

    Attributes:
        layers: Number of layers, L.
        radial_bins: Number of radial bins, B.
    """

    layers: int
    radial_bins: int

    @property
    def size(self) -> int:
        """Number of features, 2 L B + 5."""
        return 1 + 2 * self.layers * self.radial_bins + POSITION_FEATURES

    @property
    def layer_energies(self) -> slice:
        """Cube roots of the layers' energies."""
        return slice(1, 1 + self.layers)

    @property
    def log_ratios(self) -> slice:
        """Logarithms of the energy of a bin over that of the bins outside it."""
        return slice(
            self.layer_energies.stop, self.layer_energies.stop + self.layers * (self.radial_bins - 1)
        )

    @property
    def root_counts(self) -> slice:
        """Square roots of the dequantised numbers of hits of the bins."""
        return slice(self.log_ratios.stop, self.log_ratios.stop + self.layers * self.radial_bins)

    @property
    def position(self) -> slice:
        """Centre, then depth covariance."""
        return slice(self.root_counts.stop, self.root_counts.stop + POSITION_FEATURES)

    @property
    def layer(self) -> Tensor:
        """(size,) layer that each feature belongs to, -1 for those of the whole shower."""
        layers = torch.arange(self.layers)
        parts = [
            layers,
            layers.repeat_interleave(self.radial_bins - 1),
            layers.repeat_interleave(self.radial_bins),
        ]
        return torch.cat([torch.tensor([-1]), *parts, torch.full((POSITION_FEATURES,), -1)])

    def hit_counts(self, features: Tensor) -> Tensor:
        """Numbers of hits of the radial bins, (N, layers, bins), Eq. 7."""
        return (
            (features[:, self.root_counts].clamp_min(0) ** 2).floor().view(-1, self.layers, self.radial_bins)
        )

    def with_counts(self, values: Tensor, others: float) -> Tensor:
        """(N, size) with values of radial bins (N, layers, bins) at the numbers of hits, and others."""
        ends = (self.root_counts.start, self.size - self.root_counts.stop)
        return nn.functional.pad(values.flatten(1), ends, value=others)

    def bin_energy(self, features: Tensor, threshold: float) -> Tensor:
        """Energies of the radial bins in MeV, (N, layers, bins), Eq. 7 before the common factor.

        Args:
            features: (N, size).
            threshold: Least energy of a bin with hits, MeV; a bin without hits has none.
        """
        rest = features[:, self.layer_energies].clamp_min(0) ** 3
        bins = []
        if self.radial_bins > 1:
            fractions = torch.sigmoid(features[:, self.log_ratios]).view(
                -1, self.layers, self.radial_bins - 1
            )
            for fraction in fractions.unbind(2):
                bins.append(rest * fraction)
                rest = rest - bins[-1]
        energy = torch.stack([*bins, rest], dim=2).clamp_min(threshold)
        return energy * self.hit_counts(features).clamp(0, 1)

    def bin_roots(self, features: Tensor) -> Tensor:
        """Features with the cube roots of the energies of bins in place of layer energies and log ratios.

        The energies are those that `layer_features` describes, empty bins filled. There are as many numbers.
        """
        rest, energies = features[:, self.layer_energies].clamp_min(0) ** 3, []
        ratios = features[:, self.log_ratios].view(len(features), self.layers, self.radial_bins - 1)
        for ratio in ratios.unbind(2):
            energies.append(rest * torch.sigmoid(ratio))
            # not the difference, which would be 0 by rounding
            rest = rest * torch.sigmoid(-ratio)
        roots = torch.stack([*energies, rest], dim=2).flatten(1) ** (1 / 3)
        return torch.cat([features[:, :1], roots, features[:, self.log_ratios.stop :]], dim=1)

    def from_bin_roots(self, values: Tensor) -> Tensor:
        """Features of what `bin_roots` gives."""
        energies = (
            values[:, 1 : self.log_ratios.stop].clamp_min(LEAST_ROOT).view(-1, self.layers, self.radial_bins)
            ** 3
        )
        rests = [energies[:, :, -1]]
        for radial_bin in range(self.radial_bins - 2, -1, -1):
            rests.insert(0, rests[0] + energies[:, :, radial_bin])
        ratios = [(energies[:, :, k] / rests[k + 1]).log() for k in range(self.radial_bins - 1)]
        ratio = [torch.stack(ratios, dim=2).flatten(1)] if ratios else []
        root = rests[0] ** (1 / 3)
        return torch.cat([values[:, :1], root, *ratio, values[:, self.log_ratios.stop :]], dim=1)


@dataclass(frozen=True)
class WindowFacts:
    """What is known of windows around the axes of N showers.

    Attributes:
        energy_share: (N, layers, bins) expected share of the energy of a radial bin that is in the mesh.
        hit_share: (N, layers, bins) likewise of its hits.
        axis: (N, layers, 2) x and y of the axis from the centre of the window, in cells.
    """

    energy_share: NDArray[np.float32]
    hit_share: NDArray[np.float32]
    axis: NDArray[np.float32]


def layer_features(
    showers: NDArray[np.float32],
    energy: NDArray[np.float32],
    geometry: LayerGeometry,
    median_energy: float,
    rng: np.random.Generator,
    *,
    window: WindowFacts | None = None,
) -> NDArray[np.float32]:
    """Layer features of showers, Eq. 1 without the leakage correction.

    Discrete features are dequantised, so that each has a density. A bin without hits is given the energy of a
    single particle, which `FeatureLayout.bin_energy` removes again.

    Args:
        showers: (N, layers, rows, columns) MeV, 0 in cells below the threshold.
        energy: (N,) incident energy, MeV.
        geometry: Cells of a layer.
        median_energy: Median energy of a single particle in a cell, MeV.
        rng: Draws the dequantisation noise.
        window: For windows around the axes of showers: features are those of whole windows, Eq. 23.

    Returns:
        (N, `FeatureLayout.size`) float32.
    """
    count, layers = showers.shape[:2]
    flat = showers.reshape(count, layers, -1)
    energies, hits = flat @ geometry.bin_membership, (flat > 0) @ geometry.bin_membership
    if window is not None:
        energies = energies / window.energy_share
    single = median_energy * rng.normal(ROOT_MEAN, ROOT_WIDTH, energies.shape).clip(0.1) ** 3
    filled = np.where(hits > 0, energies, single)
    outward = filled[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    root_counts = np.sqrt(hits + rng.uniform(EDGE, 1 - EDGE, hits.shape))
    if window is not None:
        root_counts /= np.sqrt(window.hit_share)
    total = np.maximum((flat if window is None else energies).sum((1, 2)), 1e-6 * median_energy)
    parts = [
        np.log(total / energy)[:, None],
        np.cbrt(outward[:, :, 0]),
        np.log(filled[:, :, :-1] / outward[:, :, 1:]).reshape(count, -1),
        root_counts.reshape(count, -1),
        _position(flat, geometry) if window is None else _position_from_axis(flat, geometry, window.axis),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _position(flat: NDArray[np.float32], geometry: LayerGeometry) -> NDArray[np.float64]:
    """Energy-weighted centre of the core, in cells, and its covariance with the depth, (N, 4)."""
    core_cells = geometry.ring <= CORE_RING
    position = geometry.direction[:, core_cells] * geometry.distance[core_cells]
    core = flat[:, :, core_cells].astype(np.float64)
    return _centre_and_covariance(core.sum(2), core @ position.T)


def _position_from_axis(
    flat: NDArray[np.float32], geometry: LayerGeometry, axis: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The same from the axes (N, layers, 2), in cells."""
    y, x = np.indices((geometry.rows, geometry.columns)).reshape(2, -1)
    core_cells = geometry.ring <= CORE_RING
    position = np.stack([x - geometry.columns // 2, y - geometry.rows // 2])[:, core_cells]
    core = flat[:, :, core_cells].astype(np.float64)
    energies = core.sum(2)
    return _centre_and_covariance(energies, core @ position.T - energies[..., None] * axis)


def _centre_and_covariance(
    energies: NDArray[np.float64], moments: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Centre, and covariance with the depth, (N, 4), from sums of each layer.

    Args:
        energies: (N, layers) of the core.
        moments: (N, layers, 2) sums of energy times position.
    """
    layers = np.arange(energies.shape[1])
    total = np.maximum(energies.sum(1), 1e-12)
    depth = layers - (energies @ layers / total)[:, None]
    centre = moments.sum(1) / total[:, None]
    depth_covariance = (moments * depth[:, :, None]).sum(1) / total[:, None]
    return np.concatenate([centre, depth_covariance], axis=1)


def feature_images(
    features: NDArray[np.float32],
    showers: NDArray[np.float32],
    geometry: LayerGeometry,
    group: tuple[Symmetry, ...],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Features of the images of showers under symmetry operations, (operations * N, size).

    Centre and depth covariance differ between images. Numbers of hits are dequantised anew for each: the mean
    of a number that hardly varies is known better so, above all at the edges of the range of energies.

    Args:
        features: (N, size), from `layer_features`.
        showers: (N, layers, rows, columns).
        geometry: Cells of a layer.
        group: The operations; on a cylinder each image is rotated by a random number of sectors as well.
        rng: Draws the dequantisation noise, and the rotations.
    """
    images: list[NDArray[np.float32]] = []
    first = features.shape[1] - POSITION_FEATURES
    counts = slice(first - showers.shape[1] * len(geometry.radial_bin_sizes), first)
    for operation in group:
        image = transformed(showers, operation)
        if geometry.circular and len(group) > 1:
            image = np.roll(image, int(rng.integers(geometry.rows)), axis=2)
        rows = features.copy()
        if images:
            hits = np.floor(rows[:, counts] ** 2)
            rows[:, counts] = np.sqrt(hits + rng.uniform(EDGE, 1 - EDGE, hits.shape))
        rows[:, -POSITION_FEATURES:] = _position(image.reshape(*image.shape[:2], -1), geometry)
        images.append(rows)
    return np.concatenate(images)

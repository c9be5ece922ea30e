"""What the first stage makes: a few numbers for each layer of a shower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.layered.plane import Plane
from caloforge.models.symmetries import Symmetry, moved

# centre and slope along x and y
TRANSVERSE = 4
# the centre is that of the cells up to this ring, where the energy is
CENTRE_RING = 2


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a summary stand.

    One row: log of visible over incident energy; cube roots of the zone energies in MeV, layer by layer;
    square roots of the hits of the layers; centre x, centre y, slope x, slope y in cells and cells a layer.
    """

    layers: int
    zones: int

    @property
    def size(self) -> int:
        """Numbers of a summary."""
        return 1 + self.layers * (self.zones + 1) + TRANSVERSE

    @property
    def energies(self) -> slice:
        """Zone energies."""
        return slice(1, 1 + self.layers * self.zones)

    @property
    def hits(self) -> slice:
        """Hits of the layers."""
        return slice(self.energies.stop, self.energies.stop + self.layers)

    @property
    def transverse(self) -> slice:
        """Centre and slope."""
        return slice(self.hits.stop, self.size)

    def zone_energy(self, summary: Tensor, threshold: float) -> Tensor:
        """Energies of the zones, (N, layers, zones) MeV; below the threshold of a cell there is none."""
        energy = summary[:, self.energies].clamp_min(0) ** 3
        energy = torch.where(energy < threshold, 0.0, energy)
        return energy.view(-1, self.layers, self.zones)

    def hit_counts(self, summary: Tensor) -> Tensor:
        """Hits of the layers, (N, layers), to the nearest half."""
        return (summary[:, self.hits].clamp_min(0) ** 2 - 0.5).clamp_min(0)


def summarise(
    showers: NDArray[np.float32],
    energy: NDArray[np.float32],
    plane: Plane,
    threshold: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Summaries of showers.

    What is discrete is spread out: hits by a uniform number, empty zones over what is below the threshold,
    so that each number has a density.

    Args:
        showers: (N, layers, rows, columns) MeV, cells below the threshold 0.
        energy: (N,) incident, MeV.
        plane: Cells of a layer.
        threshold: Smallest energy of a cell, MeV.
        rng: Spreads.

    Returns:
        (N, `Layout.size`) float32.
    """
    count, layers = showers.shape[:2]
    flat = showers.reshape(count, layers, -1)
    member = (plane.zone[None] == np.arange(len(plane.zone_sizes))[:, None]).astype(np.float32)
    zones = np.cbrt(flat @ member.T)
    floor = np.cbrt(threshold)
    zones = np.where(zones < floor, floor * rng.random(zones.shape), zones)
    hits = np.sqrt((flat > 0).sum(2) + rng.random((count, layers)))
    total = np.maximum(flat.sum((1, 2)), threshold)
    parts = [np.log(total / energy)[:, None], zones.reshape(count, -1), hits, _transverse(flat, plane)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _transverse(flat: NDArray[np.float32], plane: Plane) -> NDArray[np.float64]:
    """Centre of the core and its slope along the depth, (N, 4), in cells."""
    near = plane.ring <= CENTRE_RING
    position = plane.direction[:, near] * np.maximum(plane.ring[near], 0.5 * (plane.ring[near] > 0))
    core = flat[:, :, near].astype(np.float64)
    total = np.maximum(core.sum((1, 2)), 1e-12)
    depth = np.arange(flat.shape[1]) - (core.sum(2) @ np.arange(flat.shape[1]) / total)[:, None]
    moments = core @ position.T
    centre = moments.sum(1) / total[:, None]
    slope = (moments * depth[:, :, None]).sum(1) / total[:, None]
    return np.concatenate([centre, slope], axis=1)


def summary_images(
    summary: NDArray[np.float32],
    showers: NDArray[np.float32],
    plane: Plane,
    group: tuple[Symmetry, ...],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Summaries of every image of some showers, (operations * N, size): only centre and slope differ.

    Args:
        summary: (N, size), from `summarise`.
        showers: (N, layers, rows, columns).
        plane: Cells of a layer.
        group: The operations; on a cylinder each image is turned by a random number of sectors.
        rng: Draws the turns.
    """
    images = []
    for operation in group:
        image = moved(showers, operation)
        if plane.circular and len(group) > 1:
            image = np.roll(image, int(rng.integers(plane.rows)), axis=2)
        rows = summary.copy()
        rows[:, -TRANSVERSE:] = _transverse(image.reshape(*image.shape[:2], -1), plane)
        images.append(rows)
    return np.concatenate(images)

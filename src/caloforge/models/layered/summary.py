"""What the first stage makes: a few numbers for each layer of a shower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.layered.constants import CENTRE, TRANSVERSE, WIDTH
from caloforge.models.layered.plane import Plane
from caloforge.models.symmetries import Symmetry, moved

# the centre is that of the cells up to this ring, where the energy is
CENTRE_RING = 2
# whole numbers are spread over this much less than one on either side, which float32 would round to the next
EDGE = 1e-3


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a summary stand.

    One row: log of visible over incident energy, less what the depth says of it (`Layered._fit_balance`);
    cube roots of the layers' energies in MeV; for each layer and zone but the last the log of its energy over
    that of the zones outside it; square roots of the hits of the zones; centre x, centre y, slope x, slope y
    in cells and cells a layer.
    """

    layers: int
    zones: int

    @property
    def size(self) -> int:
        """Numbers of a summary."""
        return 1 + 2 * self.layers * self.zones + TRANSVERSE

    @property
    def energies(self) -> slice:
        """Layer energies."""
        return slice(1, 1 + self.layers)

    @property
    def splits(self) -> slice:
        """How the zones share them."""
        return slice(self.energies.stop, self.energies.stop + self.layers * (self.zones - 1))

    @property
    def hits(self) -> slice:
        """Hits of the zones."""
        return slice(self.splits.stop, self.splits.stop + self.layers * self.zones)

    @property
    def transverse(self) -> slice:
        """Centre and slope."""
        return slice(self.hits.stop, self.hits.stop + TRANSVERSE)

    @property
    def layer(self) -> Tensor:
        """(size,) layer of each number, -1 of those that belong to the whole shower."""
        layers = torch.arange(self.layers)
        parts = [layers, layers.repeat_interleave(self.zones - 1), layers.repeat_interleave(self.zones)]
        return torch.cat([torch.tensor([-1]), *parts, torch.full((TRANSVERSE,), -1)])

    def zone_hits(self, summary: Tensor) -> Tensor:
        """Hits of the zones, (N, layers, zones), whole numbers."""
        return (summary[:, self.hits].clamp_min(0) ** 2).floor().view(-1, self.layers, self.zones)

    def zone_energy(self, summary: Tensor, threshold: float) -> Tensor:
        """Energies of the zones, (N, layers, zones) MeV: none without hits, at least the threshold with."""
        rest = summary[:, self.energies].clamp_min(0) ** 3
        zones = []
        if self.zones > 1:
            shares = torch.sigmoid(summary[:, self.splits]).view(-1, self.layers, self.zones - 1)
            for share in shares.unbind(2):
                zones.append(rest * share)
                rest = rest - zones[-1]
        energy = torch.stack([*zones, rest], dim=2).clamp_min(threshold)
        return energy * self.zone_hits(summary).clamp(0, 1)


def summarise(
    showers: NDArray[np.float32],
    energy: NDArray[np.float32],
    plane: Plane,
    unit: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Summaries of showers.

    What is discrete is spread out, so that each number has a density: hits by a uniform number; a zone
    without hits, which has no energy, is given that of a single particle, which nobody will see.

    Args:
        showers: (N, layers, rows, columns) MeV, cells below the threshold 0.
        energy: (N,) incident, MeV.
        plane: Cells of a layer.
        unit: Median energy of a single particle in a cell, MeV.
        rng: Spreads.

    Returns:
        (N, `Layout.size`) float32; of the visible energy nothing is taken away.
    """
    count, layers = showers.shape[:2]
    flat = showers.reshape(count, layers, -1)
    energies, hits = flat @ plane.members, (flat > 0) @ plane.members
    single = unit * rng.normal(CENTRE, WIDTH, energies.shape).clip(0.1) ** 3
    filled = np.where(hits > 0, energies, single)
    outward = filled[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    counts = np.sqrt(hits + rng.uniform(EDGE, 1 - EDGE, hits.shape))
    total = np.maximum(flat.sum((1, 2)), 1e-6 * unit)
    parts = [
        np.log(total / energy)[:, None],
        np.cbrt(outward[:, :, 0]),
        np.log(filled[:, :, :-1] / outward[:, :, 1:]).reshape(count, -1),
        counts.reshape(count, -1),
        _transverse(flat, plane),
    ]
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

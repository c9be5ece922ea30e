"""Resampling of layer features: a shower is spliced from three training showers, Eq. 4 and 5.

A training shower of about the asked energy gives the middle layers, two of its nearest neighbours the front
and the back layers. Neighbours are nearest in the leading principal coordinates of their normal scores (how
deep, how long and how wide a shower is). The parts are shifted so that they agree in these coordinates, and a
fraction of the difference between front and back is added, so that a shower does not have the leading
coordinates of a training shower. All other directions are noise that neighbouring layers share; they are kept
unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from caloforge.models.checks import check_between, check_shape
from caloforge.models.layered.constants import (
    EMPTY_SCORE,
    FIRST_JOINT,
    FOLD,
    JITTER,
    LEADING,
    NEIGHBOURS,
    RESAMPLER_NOISE,
    SPAN,
    WINDOW_KNOTS,
)

# a difference of this fraction of the energy ranks, or of the range of another condition, counts as much as
# one standard deviation of a leading coordinate, Eq. 4
METRIC_SCALE = 0.15
# showers near an energy: this fraction of all, and at least so many where there are enough, see
# `_neighbourhood`: of fewer, the same parts come again and again at one energy
NEIGHBOURHOOD, FEW_SHOWERS, LARGEST_NEIGHBOURHOOD, LEAST_NEIGHBOURHOOD = 1 / 64, 512, 1 / 16, 4
# rows whose distances are computed at once
ROWS = 512
# in place of a layer, for features of the whole shower: they come from the middle shower for any joint
BEYOND_ALL_JOINTS = 1e6


class NeighbourResampler(nn.Module):
    """Normal scores of training showers, and their nearest neighbours; `fit` fills the buffers.

    Attributes:
        normal_scores: (showers, size) float16, grouped by particle, in the order of energy; EMPTY_SCORE for
            numbers of hits that stay 0.
        neighbours: (showers, NEIGHBOURS) int16 indices of the nearest neighbours of each shower.
        coordinates: (showers, LEADING) leading principal coordinates.
        directions: (LEADING, size) leading principal directions.
        windows: (particles, 2, WINDOW_KNOTS) index of the first and the last shower near each tabulated
            energy.
        front: (size,) layer of each feature, behind all joints for features of the whole shower.
        back: (size,) likewise, before all joints.
    """

    noise_size = RESAMPLER_NOISE
    normal_scores: Tensor
    neighbours: Tensor
    coordinates: Tensor
    directions: Tensor
    windows: Tensor
    front: Tensor
    back: Tensor

    def __init__(self, layer: Tensor, particles: int) -> None:
        """No showers.

        Args:
            layer: (size,) layer that each feature belongs to; -1 for those of the whole shower, which come
                from the middle shower.
            particles: Number of kinds of particles.
        """
        super().__init__()
        size = len(layer)
        self.layers = int(layer.max()) + 1
        self.register_buffer("normal_scores", torch.zeros(1, size, dtype=torch.float16))
        self.register_buffer("neighbours", torch.zeros(1, NEIGHBOURS, dtype=torch.int16))
        self.register_buffer("coordinates", torch.zeros(1, LEADING))
        self.register_buffer("directions", torch.zeros(LEADING, size))
        self.register_buffer("windows", torch.zeros(particles, 2, WINDOW_KNOTS))
        without = layer < 0
        self.register_buffer(
            "front", torch.where(without, BEYOND_ALL_JOINTS, layer.float()), persistent=False
        )
        self.register_buffer(
            "back", torch.where(without, -BEYOND_ALL_JOINTS, layer.float()), persistent=False
        )

    def fit(
        self, normal_scores: Tensor, columns: Tensor, angles: int, particle: Tensor, shower: Tensor
    ) -> None:
        """Keep training showers, and find their nearest neighbours.

        Args:
            normal_scores: (N, size), grouped by particle, in the order of energy.
            columns: (N, ...) energy argument, then angles that vary.
            angles: Number of these angles.
            particle: (N,) index of the particle, rising.
            shower: (N,) index of the shower; images of one shower are not spliced with each other.
        """
        self.normal_scores = normal_scores.half()
        kept = self.normal_scores.double()
        vectors = torch.linalg.eigh(kept.T @ kept).eigenvectors
        self.directions = vectors[:, -LEADING:].T.float().contiguous()
        self.coordinates = (kept @ vectors[:, -LEADING:]).float()
        self.neighbours = torch.zeros(len(normal_scores), NEIGHBOURS, dtype=torch.int16)
        for particle_index in range(len(self.windows)):
            own = torch.nonzero(particle == particle_index)[:, 0]
            first, energy_argument = int(own[0]), columns[own, 0].contiguous()
            self.windows[particle_index] = first + _energy_windows(energy_argument)
            # showers of one energy have one rank
            rank = torch.searchsorted(energy_argument, energy_argument).float() / len(own)
            leading = self.coordinates[own]
            position = [leading / leading.std(0).clamp_min(1e-6), rank[:, None] / METRIC_SCALE]
            position.append(columns[own, 1 : 1 + angles] / (2 * METRIC_SCALE))
            nearest = first + _nearest_neighbours(torch.cat(position, dim=1), shower[own])
            self.neighbours[own] = nearest.short()

    def keep_empty(self, empty: Tensor) -> None:
        """Mark numbers of hits that are 0 at any energy, where (showers, size) is true."""
        self.normal_scores = self.normal_scores.masked_fill(empty, EMPTY_SCORE)

    def check(self, name: str) -> None:
        """Refuse indices of showers that are not there.

        Args:
            name: Of this module, for the message.

        Raises:
            ValueError: With the name of the buffer.
        """
        count = len(self.normal_scores)
        check_shape(f"{name}.normal_scores", self.normal_scores, count, len(self.front))
        check_shape(f"{name}.neighbours", self.neighbours, count, NEIGHBOURS)
        check_shape(f"{name}.coordinates", self.coordinates, count, LEADING)
        check_between(
            f"the size of {name}.normal_scores", torch.tensor(count), 1, torch.iinfo(torch.int16).max
        )
        check_between(f"{name}.neighbours", self.neighbours, 0, count - 1)
        check_between(f"{name}.windows", self.windows, 0, count - 1)

    def forward(self, noise: Tensor, columns: Tensor, particle: Tensor) -> Tensor:
        """Spliced normal scores, (N, size), Eq. 5.

        Args:
            noise: (N, RESAMPLER_NOISE) standard normal.
            columns: (N, at least 1) energy argument, then conditions that are not used.
            particle: (N,) index of the particle.
        """
        uniform = uniform_from_normal(noise)
        first, last = self._window(columns[:, 0], particle)
        own = (first + uniform[:, 0] * (last - first)).round().long()
        which = (uniform[:, 1:3] * NEIGHBOURS).floor().clamp(0, NEIGHBOURS - 1).long()
        flat = self.neighbours.reshape(-1)
        # one flat index: runtimes gather by one index much faster than by two
        front, back = (flat.index_select(0, own * NEIGHBOURS + which[:, k]).long() for k in (0, 1))
        joint = (FIRST_JOINT[0] + (FIRST_JOINT[1] - FIRST_JOINT[0]) * uniform[:, 3:]) * self.layers
        places = torch.stack([own, front, back])
        coordinates = self.coordinates.index_select(0, places.view(-1)).view(3, -1, self.coordinates.shape[1])
        leading = coordinates[0] + JITTER * (coordinates[1] - coordinates[2])
        normal_scores = (
            self.normal_scores.index_select(0, places.view(-1))
            .float()
            .view(3, -1, self.normal_scores.shape[1])
        )
        middle, before, behind = (normal_scores + (leading - coordinates) @ self.directions).unbind(0)
        spliced = torch.where(self.back > joint + SPAN * self.layers, behind, middle)
        return torch.where(self.front <= joint, before, spliced)

    def _window(self, energy_argument: Tensor, particle: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the first and the last shower near an energy, (N,) each, interpolated linearly."""
        knot = (energy_argument.clamp(-1, 1) + 1) * ((WINDOW_KNOTS - 1) / 2)
        lower = knot.floor().clamp(0, WINDOW_KNOTS - 2)
        inside, place = knot - lower, particle * (2 * WINDOW_KNOTS) + lower.long()
        flat = self.windows.reshape(-1)
        ends = torch.stack([place, place + WINDOW_KNOTS])
        lower_ends, upper_ends = (flat.index_select(0, (ends + k).view(-1)).view(2, -1) for k in (0, 1))
        first, last = (lower_ends + inside * (upper_ends - lower_ends)).unbind(0)
        return first, last

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # the number of stored showers is that of the file
        for name in ("normal_scores", "neighbours", "coordinates"):
            stored = state.get(prefix + name)
            if stored is not None and stored.shape[1:] == getattr(self, name).shape[1:]:
                setattr(self, name, getattr(self, name).new_empty(stored.shape))
        super()._load_from_state_dict(state, prefix, *rest)


def uniform_from_normal(x: Tensor) -> Tensor:
    """Numbers uniform on [0, 1], to 3e-5, from standard normal ones, stretched and folded."""
    stretched = FOLD * x + 1
    return (stretched - 4 * (stretched / 4).floor() - 2).abs() / 2


def _neighbourhood(showers: int) -> int:
    """Number of stored showers near an energy, of all."""
    wanted = max(NEIGHBOURHOOD * showers, min(FEW_SHOWERS, LARGEST_NEIGHBOURHOOD * showers))
    return min(showers, max(LEAST_NEIGHBOURHOOD, round(wanted)))


def _energy_windows(energy_argument: Tensor) -> Tensor:
    """First and last of the sorted energy arguments near each knot, (2, WINDOW_KNOTS), with ties."""
    knots = torch.linspace(-1, 1, WINDOW_KNOTS)[:, None]
    near = _neighbourhood(len(energy_argument))
    # as well as all that are as far within rounding
    far = (energy_argument - knots).abs().kthvalue(near, dim=1).values[:, None] + 1e-6
    first = torch.searchsorted(energy_argument, knots - far)
    last = torch.searchsorted(energy_argument, knots + far, right=True) - 1
    return torch.cat([first, last], dim=1).T.float()


def _nearest_neighbours(position: Tensor, shower: Tensor) -> Tensor:
    """(N, NEIGHBOURS) rows nearest to each row, none of the same shower.

    Where there are fewer, they are repeated; where there is none, it is the row itself.

    Args:
        position: (N, coordinates) in the metric of Eq. 4.
        shower: (N,) index of the shower.
    """
    count = len(position)
    found = torch.empty(count, NEIGHBOURS, dtype=torch.int64)
    for start in range(0, count, ROWS):
        rows = torch.arange(start, min(start + ROWS, count))
        away = torch.cdist(position[rows], position).masked_fill(shower[rows, None] == shower, torch.inf)
        near = away.topk(min(NEIGHBOURS, count), largest=False)
        # fewer neighbours than asked for are repeated
        others = (near.values < torch.inf).sum(1, keepdim=True).clamp_min(1)
        index = torch.where(near.values < torch.inf, near.indices, rows[:, None])
        found[rows] = index.gather(1, torch.arange(NEIGHBOURS) % others)
    return found

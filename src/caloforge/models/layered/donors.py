"""How the numbers of a summary depend on each other: a drawn shower is joined from three real ones.

One shower of about the energy gives the middle of the depth, two that are like it the front and the back.
They are alike in the leading principal coordinates of their scores (how deep, how long, how wide a shower
is), and what is left of a difference there is added to the scores, so that there is no step at the joints;
some of what the two differ by from each other is added everywhere, so that no shower has the leading
coordinates of a real one. The other directions, nearly all, are noise that neighbouring layers share: they
are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from caloforge.models.checks import check_between, check_shape
from caloforge.models.layered.constants import (
    FIRST_JOINT,
    FOLD,
    JITTER,
    LEADING,
    RELATIVES,
    RUNGS,
    SPAN,
)

# showers this far apart in the order of energy, or in the range of another condition, are as different as
# those one standard deviation apart in a leading coordinate
ALIKE = 0.15
# showers of about an energy: this share of all, and at least so many
NEIGHBOURHOOD, LEAST_NEIGHBOURHOOD = 1 / 64, 4
# rows that are compared with all others at once
ROWS = 512
# of layers that are always in front of, and behind, every joint
NOWHERE = 1e6


class Donors(nn.Module):
    """Scores of training showers; `fit` fills the buffers.

    Attributes:
        scores: (donors, size) float16, those of a particle together, in the order of energy.
        relatives: (donors, RELATIVES) int16, numbers of the donors most like each.
        coordinates: (donors, LEADING).
        directions: (LEADING, size).
        windows: (particles, 2, RUNGS) first and last donor of about an energy.
    """

    scores: Tensor
    relatives: Tensor
    coordinates: Tensor
    directions: Tensor
    windows: Tensor
    front: Tensor
    back: Tensor

    def __init__(self, layer: Tensor, particles: int) -> None:
        """No showers.

        Args:
            layer: (size,) layer of each number of a summary, -1 where it has none and stays with the middle.
            particles: Kinds of particles.
        """
        super().__init__()
        size = len(layer)
        self.layers = int(layer.max()) + 1
        self.register_buffer("scores", torch.zeros(1, size, dtype=torch.float16))
        self.register_buffer("relatives", torch.zeros(1, RELATIVES, dtype=torch.int16))
        self.register_buffer("coordinates", torch.zeros(1, LEADING))
        self.register_buffer("directions", torch.zeros(LEADING, size))
        self.register_buffer("windows", torch.zeros(particles, 2, RUNGS))
        without = layer < 0
        self.register_buffer("front", torch.where(without, NOWHERE, layer.float()), persistent=False)
        self.register_buffer("back", torch.where(without, -NOWHERE, layer.float()), persistent=False)

    def fit(self, scores: Tensor, columns: Tensor, angles: int, particle: Tensor, shower: Tensor) -> None:
        """Take showers over.

        Args:
            scores: (N, size), those of a particle together, in the order of energy.
            columns: (N, ...) argument of the energy, then angles that vary.
            angles: Number of these.
            particle: (N,) which of the particles, rising.
            shower: (N,) which shower; images of one are not joined.
        """
        self.scores = scores.half()
        kept = self.scores.double()
        vectors = torch.linalg.eigh(kept.T @ kept).eigenvectors
        self.directions = vectors[:, -LEADING:].T.float().contiguous()
        self.coordinates = (kept @ vectors[:, -LEADING:]).float()
        self.relatives = torch.zeros(len(scores), RELATIVES, dtype=torch.int16)
        for number in range(len(self.windows)):
            own = torch.nonzero(particle == number)[:, 0]
            first, argument = int(own[0]), columns[own, 0].contiguous()
            self.windows[number] = first + _windows(argument)
            # showers of one energy have one place in its order
            order = torch.searchsorted(argument, argument).float() / len(own)
            leading = self.coordinates[own]
            place = [leading / leading.std(0).clamp_min(1e-6), order[:, None] / ALIKE]
            place.append(columns[own, 1 : 1 + angles] / (2 * ALIKE))
            relatives = first + _most_alike(torch.cat(place, dim=1), shower[own])
            self.relatives[own] = relatives.short()

    def check(self, name: str) -> None:
        """Refuse numbers of donors that there are none of.

        Args:
            name: Of this module, for the message.

        Raises:
            ValueError: With the buffer.
        """
        count = len(self.scores)
        check_shape(f"{name}.scores", self.scores, count, len(self.front))
        check_shape(f"{name}.relatives", self.relatives, count, RELATIVES)
        check_shape(f"{name}.coordinates", self.coordinates, count, LEADING)
        check_between(f"the size of {name}.scores", torch.tensor(count), 1, torch.iinfo(torch.int16).max)
        check_between(f"{name}.relatives", self.relatives, 0, count - 1)
        check_between(f"{name}.windows", self.windows, 0, count - 1)

    def forward(self, noise: Tensor, argument: Tensor, particle: Tensor) -> Tensor:
        """Scores (N, size).

        Args:
            noise: (N, CHOICES) standard normal.
            argument: (N,) of the energy.
            particle: (N,) which of the particles.
        """
        uniform = uniform_of_normal(noise)
        first, last = self._window(argument, particle)
        own = (first + uniform[:, 0] * (last - first)).round().long()
        which = (uniform[:, 1:3] * RELATIVES).floor().clamp(0, RELATIVES - 1).long()
        flat = self.relatives.reshape(-1)
        # runtimes look one index up much faster than several
        front, back = (flat.index_select(0, own * RELATIVES + which[:, k]).long() for k in (0, 1))
        joint = (FIRST_JOINT[0] + (FIRST_JOINT[1] - FIRST_JOINT[0]) * uniform[:, 3:]) * self.layers
        places = torch.stack([own, front, back])
        coordinates = self.coordinates.index_select(0, places.view(-1)).view(3, -1, self.coordinates.shape[1])
        leading = coordinates[0] + JITTER * (coordinates[1] - coordinates[2])
        scores = self.scores.index_select(0, places.view(-1)).float().view(3, -1, self.scores.shape[1])
        middle, before, behind = (scores + (leading - coordinates) @ self.directions).unbind(0)
        joined = torch.where(self.back > joint + SPAN * self.layers, behind, middle)
        return torch.where(self.front <= joint, before, joined)

    def _window(self, argument: Tensor, particle: Tensor) -> tuple[Tensor, Tensor]:
        """First and last donor of about an energy, (N,) each, between the tabulated ones."""
        rung = (argument.clamp(-1, 1) + 1) * ((RUNGS - 1) / 2)
        lower = rung.floor().clamp(0, RUNGS - 2)
        inside, place = rung - lower, particle * (2 * RUNGS) + lower.long()
        flat = self.windows.reshape(-1)
        ends = torch.stack([place, place + RUNGS])
        lower_ends, upper_ends = (flat.index_select(0, (ends + k).view(-1)).view(2, -1) for k in (0, 1))
        first, last = (lower_ends + inside * (upper_ends - lower_ends)).unbind(0)
        return first, last

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # there are as many donors as there were
        for name in ("scores", "relatives", "coordinates"):
            stored = state.get(prefix + name)
            if stored is not None and stored.shape[1:] == getattr(self, name).shape[1:]:
                setattr(self, name, getattr(self, name).new_empty(stored.shape))
        super()._load_from_state_dict(state, prefix, *rest)


def uniform_of_normal(x: Tensor) -> Tensor:
    """Numbers uniform between 0 and 1, to 3e-5, from standard normal ones: stretched, folded to and fro."""
    turned = FOLD * x + 1
    return (turned - 4 * (turned / 4).floor() - 2).abs() / 2


def _windows(argument: Tensor) -> Tensor:
    """First and last of the rising arguments that are near each rung, (2, RUNGS); equal ones all or none."""
    rungs = torch.linspace(-1, 1, RUNGS)[:, None]
    near = min(len(argument), max(LEAST_NEIGHBOURHOOD, round(NEIGHBOURHOOD * len(argument))))
    # and all within rounding of as far
    far = (argument - rungs).abs().kthvalue(near, dim=1).values[:, None] + 1e-6
    first = torch.searchsorted(argument, rungs - far)
    last = torch.searchsorted(argument, rungs + far, right=True) - 1
    return torch.cat([first, last], dim=1).T.float()


def _most_alike(place: Tensor, shower: Tensor) -> Tensor:
    """(N, RELATIVES) rows nearest to each, none of the same shower; a row itself where there is no other."""
    count = len(place)
    found = torch.empty(count, RELATIVES, dtype=torch.int64)
    for start in range(0, count, ROWS):
        rows = torch.arange(start, min(start + ROWS, count))
        away = torch.cdist(place[rows], place).masked_fill(shower[rows, None] == shower, torch.inf)
        near = away.topk(min(RELATIVES, count), largest=False)
        # fewer relatives than asked for are repeated
        others = (near.values < torch.inf).sum(1, keepdim=True).clamp_min(1)
        index = torch.where(near.values < torch.inf, near.indices, rows[:, None])
        found[rows] = index.gather(1, torch.arange(RELATIVES) % others)
    return found

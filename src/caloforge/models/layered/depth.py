"""What the energies of a zone say of each other around the axis, to other zones and along the depth.

A shower that is wide in one direction is so at every distance from the axis and in neighbouring layers, which
no sum and no neighbour tells. The energies of a zone are seen as waves around the axis: one period (to which
side they lie) and two (in which direction), each with cosine and sine.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.layered.constants import FADE, PERIODS, SOURCES, WAVES
from caloforge.models.layered.plane import Plane

# what is said is a few hundredths of what is heard; see SCALES in context.py
SCALE = 0.1
# beyond, what is said changes what is heard
SHARE_RANGE = (-3.0, 3.0)


class Depth(nn.Module):
    """How much a zone takes over of the waves of all zones, in its own layer and in those in front.

    Attributes:
        share: (SOURCES, periods, zones, zones) of what hears and what is heard, in units of SCALE.
    """

    waves: Tensor
    memory: Tensor

    def __init__(self, layers: int, plane: Plane) -> None:
        """Nothing is taken over.

        Args:
            layers: Layers of a shower.
            plane: Their cells.
        """
        super().__init__()
        zones = len(plane.zone_sizes)
        apart = np.subtract.outer(np.arange(layers), np.arange(layers))
        self.register_buffer("waves", torch.from_numpy(_of_zones(plane)), persistent=False)
        self.register_buffer("memory", torch.from_numpy(_memory(apart)), persistent=False)
        self.share = nn.Parameter(torch.zeros(SOURCES, len(PERIODS), zones, zones))

    def forward(self, scores: Tensor) -> Tensor:
        """What moves the energies, in widths, (N, layers, cells), from scores of the same shape."""
        heard = self.memory @ (scores @ self.waves)[:, None]
        apart = torch.eye(WAVES, device=scores.device)[:, None, :, None]
        taken = (self.shares().mT[:, :, :, None] * apart).flatten(3).flatten(1, 2)
        return (heard @ taken).sum(1) @ self.waves.T

    def shares(self) -> Tensor:
        """Of each wave, (SOURCES, WAVES, zones, zones)."""
        return SCALE * self.share.repeat_interleave(2, dim=1)

    @torch.no_grad()
    def products(self, scores: Tensor) -> Tensor:
        """Mean products of the waves of a layer with what it hears; of the shape of `share`."""
        heights = scores @ self.waves
        heard = self.memory @ heights[:, None]
        # cosines and sines of a wave side by side
        heights, heard = (x.reshape(*x.shape[:-1], len(PERIODS), 2, -1) for x in (heights, heard))
        products: Tensor = torch.einsum("nlpci,nslpcj->spij", heights, heard) / len(scores)
        return products


def _of_zones(plane: Plane) -> NDArray[np.float32]:
    """Each wave of each zone, of length one, (cells, WAVES * zones)."""
    parts = (plane.waves(PERIODS)[:, None] * plane.members.T).reshape(-1, plane.cells)
    length = np.sqrt((parts**2).sum(axis=1, keepdims=True))
    return np.ascontiguousarray((parts / np.maximum(length, 1e-6)).T.astype(np.float32))


def _memory(apart: NDArray[np.int64]) -> NDArray[np.float32]:
    """(SOURCES, layers, layers) what a layer hears of others that are so far in front of it."""
    in_front = np.where(apart > 0, np.power(FADE, np.maximum(apart - 1.0, 0)), 0.0)
    return np.stack([apart == 0, in_front]).astype(np.float32)

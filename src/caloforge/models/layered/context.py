"""What the cells around a cell say of it: a small convolution, with or without an order among the cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.layered.density import CellDensity, step
from caloforge.models.layered.plane import Plane

KERNEL = 5


class Context(nn.Module):
    """Corrections to the density of every cell from the hits of other cells.

    Each layer has a few hidden channels. What they see of other layers is a sum over layers spread by a
    kernel of 3 x 3 cells, and of their own layer a kernel of 5 x 5.

    Attributes:
        ordered: Whether a cell sees only what comes before it: layers before, and in its own layer the cells
            before it in reading order. Then the corrections make a density of the whole shower.
    """

    orbit: Tensor
    layer_mask: Tensor
    cell_mask: Tensor

    def __init__(
        self,
        layers: int,
        plane: Plane,
        condition: int,
        *,
        channels: int,
        reach: int,
        width: int,
        ordered: bool,
    ) -> None:
        """Weights with which nothing is corrected.

        Args:
            layers: Layers of a shower.
            plane: Their cells.
            condition: Size of `Given.condition`.
            channels: Hidden channels of each layer.
            reach: Layers that are seen on either side.
            width: Hidden width of what modulates the channels by the condition.
            ordered: See the class.
        """
        super().__init__()
        self.layers, self.plane, self.channels, self.ordered = layers, plane, channels, ordered
        hidden = channels * layers
        self.register_buffer("orbit", torch.from_numpy(plane.orbit), persistent=False)
        self.layerwise = nn.Parameter(0.05 * torch.randn(hidden, 2 * layers))
        self.spread = nn.Parameter(1 / 9 + 0.1 * torch.randn(hidden, 1, 3, 3))
        self.beside = nn.Parameter(0.05 * torch.randn(2 * layers, 1, KERNEL, KERNEL))
        self.mix = nn.Parameter(0.5 * torch.randn(channels, 2, layers, 1))
        self.bias = nn.Parameter(torch.zeros(channels, layers, plane.orbits))
        last = nn.Linear(width, 2 * hidden)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.modulation = nn.Sequential(nn.Linear(condition, width), nn.SiLU(), last)
        self.out = nn.Parameter(torch.zeros(3, channels, layers, 1))
        self.register_buffer("layer_mask", _layers_seen(channels, layers, reach, ordered), persistent=False)
        self.register_buffer("cell_mask", _cells_seen(ordered), persistent=False)

    def forward(self, coordinate: Tensor, condition: Tensor) -> CellDensity:
        """Corrections, (N, layers, cells) each.

        Args:
            coordinate: (N, layers, cells), 0 where there is no hit.
            condition: (N, k).
        """
        plane, layers = self.plane, self.layers
        seen = torch.cat([step(coordinate), coordinate], dim=1)
        far = torch.matmul(self.layerwise * self.layer_mask, seen)
        far = self._convolve(far.view(-1, self.channels * layers, plane.rows, plane.columns), self.spread)
        far = far.view(-1, self.channels, layers, plane.cells)
        beside = seen.view(-1, 2 * layers, plane.rows, plane.columns)
        beside = self._convolve(beside, self.beside * self.cell_mask).view(-1, 2, layers, plane.cells)
        modulation = self.modulation(condition).view(-1, 2, self.channels, layers, 1)
        parts: list[list[Tensor]] = [[], [], []]
        for channel in range(self.channels):
            near = self.mix[channel, 0] * beside[:, 0] + self.mix[channel, 1] * beside[:, 1]
            scale, shift = modulation[:, 0, channel], modulation[:, 1, channel]
            bias = self.bias[channel][:, self.orbit]
            hidden = F.silu((far[:, channel] + near) * (1 + scale) + (shift + bias))
            for part, weight in zip(parts, self.out, strict=True):
                part.append(weight[channel] * hidden)
        rate, mean, log_width = (sum(part[1:], start=part[0]) for part in parts)
        return CellDensity(rate, mean, log_width)

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """One kernel for each channel; the size stays."""
        pad = kernel.shape[-1] // 2
        # an order must not run in a circle
        if self.plane.circular and not self.ordered:
            x = F.pad(F.pad(x, (0, 0, pad, pad), mode="circular"), (pad, pad, 0, 0))
            return F.conv2d(x, kernel, groups=len(kernel))
        return F.conv2d(x, kernel, padding=pad, groups=len(kernel))


def _layers_seen(channels: int, layers: int, reach: int, ordered: bool) -> Tensor:
    """Which layers a channel of a layer sees through `layerwise`: (channels * layers, 2 * layers)."""
    own, other = torch.arange(layers)[:, None], torch.arange(layers)[None]
    seen = ((own - other).abs() <= reach) & ((other < own) if ordered else (other != own))
    return seen.float().repeat(channels, 2)


def _cells_seen(ordered: bool) -> Tensor:
    """Which cells of a kernel around a cell it sees; never itself."""
    place, centre = torch.arange(KERNEL * KERNEL).view(KERNEL, KERNEL), KERNEL * KERNEL // 2
    return ((place < centre) if ordered else (place != centre)).float()

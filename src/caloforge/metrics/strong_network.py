"""The network of the strong classifier, and what it sees of a shower."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

# channels of the stem and of the stages, each of which halves the image
STEM = 64
STAGES = ((96, 2), (128, 1))
HEAD = 128
# unit of the logarithms in median filled cells of the truth: some 20 keV in 0.5 mm of silicon
CELL_UNIT = 0.05
# planes that vary less are not divided by their spread
MIN_SPREAD = 0.02


@dataclass(frozen=True)
class Images:
    """How the layers of a mesh are images, and which images of a shower are equally likely.

    Attributes:
        shape: Layers, rows and columns.
        periodic: The rows are a circle (sectors): turned at random, and padded by one another.
        flip_rows: A mirrored shower is a shower: rows reversed.
        flip_columns: The same of columns.
        swap: Rows and columns may be exchanged.
    """

    shape: tuple[int, int, int]
    periodic: bool = False
    flip_rows: bool = True
    flip_columns: bool = True
    swap: bool = True

    def __len__(self) -> int:
        """Number of mirror images."""
        return 1 << (self.flip_rows + self.flip_columns + self.swap)

    def image(self, showers: Tensor, number: int) -> Tensor:
        """One image of showers (b, layers, rows, columns); number 0 changes nothing."""
        for allowed, axes in ((self.flip_rows, (-2,)), (self.flip_columns, (-1,))):
            if allowed:
                if number % 2:
                    showers = showers.flip(axes)
                number //= 2
        return showers.transpose(-1, -2) if number else showers

    def draw(self, showers: Tensor, rng: np.random.Generator) -> Tensor:
        """Each shower in a random image."""
        choice = rng.integers(len(self), size=len(showers))
        result = torch.empty_like(showers)
        for number in range(len(self)):
            rows = torch.from_numpy(np.flatnonzero(choice == number))
            result[rows] = self.image(showers[rows], number)
        if self.periodic:
            for row, turn in enumerate(rng.integers(self.shape[1], size=len(showers))):
                result[row] = result[row].roll(int(turn), dims=-2)
        return result


@dataclass(frozen=True)
class Scales:
    """Mean and spread of the planes of a shower at each incident energy.

    Attributes:
        unit: MeV: cell energy at which logarithms begin to compress.
        mean: (3, planes, rows, columns) coefficients of 1, x, x^2 with x = log10 E.
        spread: (planes, rows, columns) of what the mean leaves.
    """

    unit: float
    mean: Tensor
    spread: Tensor


def planes(showers: Tensor, unit: float) -> Tensor:
    """Logarithms of the cells, and which of them are filled: (b, 2 layers, rows, columns)."""
    return torch.cat([torch.log1p(showers / unit), (showers > 0).to(showers)], dim=1)


def fit_scales(blocks: Iterable[tuple[Tensor, Tensor]], images: Images) -> Scales:
    """What cells are like at each incident energy: least squares on powers of log10 E.

    Args:
        blocks: log10 E (b,) and showers (b, layers, rows, columns), MeV; the first block sets the unit.
        images: Shape and symmetries.
    """
    unit, fit = 0.0, _Fit(images)
    for energy, showers in blocks:
        if not unit:
            filled = showers[showers > 0]
            unit = CELL_UNIT * float(filled.median()) if len(filled) else 1.0
        fit.add(energy, planes(showers, unit))
    return fit.scales(unit)


class _Fit:
    """Least squares of planes on powers of log10 E, block by block."""

    def __init__(self, images: Images) -> None:
        layers, rows, columns = images.shape
        self._images = images
        self._normal = torch.zeros(3, 3, dtype=torch.float64)
        self._right = torch.zeros(3, 2 * layers, rows, columns, dtype=torch.float64)
        self._square = torch.zeros(2 * layers, rows, columns, dtype=torch.float64)

    def add(self, energy: Tensor, seen: Tensor) -> None:
        powers = _powers(energy).double()
        self._normal += powers.T @ powers
        self._right += torch.einsum("bp,bzyx->pzyx", powers, seen.double())
        self._square += seen.double().square().sum(dim=0)

    def scales(self, unit: float) -> Scales:
        """The fit, the same for all images of a shower."""
        right, square = self._symmetric(self._right), self._symmetric(self._square[None])[0]
        # a ridge keeps a single incident energy solvable
        normal = self._normal + 1e-6 * self._normal[0, 0] * torch.eye(3)
        mean = torch.linalg.solve(normal, right.flatten(1)).reshape(right.shape)
        left = (square - (mean * right).sum(dim=0)) / self._normal[0, 0]
        # cells that are hardly ever filled do not become the largest inputs
        spread = left.clamp(min=0).sqrt().clamp(min=MIN_SPREAD)
        return Scales(unit, mean.float(), spread.float())

    def _symmetric(self, maps: Tensor) -> Tensor:
        if self._images.periodic:
            maps = maps.mean(dim=-2, keepdim=True).expand_as(maps)
        count = len(self._images)
        return torch.stack([self._images.image(maps, number) for number in range(count)]).mean(dim=0)


def _powers(energy: Tensor) -> Tensor:
    # around 10 GeV, of order 1
    x = energy - 4
    return torch.stack([torch.ones_like(x), x, x * x], dim=1)


class StrongNetwork(nn.Module):
    """Residual network over the images of the layers, one logit; 0.6 million parameters for 25 layers."""

    def __init__(self, images: Images, scales: Scales) -> None:
        """Fresh weights.

        Args:
            images: Shape and symmetries.
            scales: What to subtract from planes and to divide them by.
        """
        super().__init__()
        layers, rows, columns = images.shape
        self.unit = scales.unit
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", scales.mean)
        self.register_buffer("spread", scales.spread)
        # cells, which of them are filled, and the incident energy
        self.stem = _Convolution(2 * layers + 1, STEM, periodic=images.periodic)
        self.norm = nn.BatchNorm2d(STEM)
        # where a cell is: on a circle every row is as good as any other
        self.position = nn.Parameter(torch.zeros(STEM, 1 if images.periodic else rows, columns))
        blocks: list[nn.Module] = []
        before = STEM
        for channels, count in STAGES:
            for number in range(count):
                blocks.append(_Block(before, channels, 1 if number else 2, images.periodic))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.square_norm = nn.BatchNorm1d(STEM)
        self.facts_norm = nn.BatchNorm1d(2 * layers + 2)
        self.head = nn.Sequential(
            nn.Linear(2 * before + STEM + 2 * layers + 2, HEAD),
            nn.ReLU(),
            nn.Linear(HEAD, 1),
        )

    def forward(self, energy: Tensor, showers: Tensor) -> Tensor:
        """Logits (b,) of log10 E (b,) and showers (b, layers, rows, columns), MeV."""
        seen = planes(showers, self.unit)
        filled = seen[:, showers.shape[1] :]
        seen = (seen - torch.einsum("bp,pzyx->bzyx", _powers(energy), self.mean)) / self.spread
        plane = (energy - 4).reshape(-1, 1, 1, 1).expand(-1, 1, *showers.shape[2:])
        seen = torch.cat([seen, plane], dim=1).contiguous(memory_format=torch.channels_last)
        stem = self.norm(self.stem(seen))
        seen = self.blocks(torch.relu(stem + self.position))
        layers = torch.log1p(showers.sum(dim=(2, 3)) / self.unit)
        total = torch.log1p(showers.sum(dim=(1, 2, 3)) / self.unit)
        facts = torch.cat([energy[:, None], total[:, None], layers, filled.mean(dim=(2, 3)).sqrt()], dim=1)
        pooled = [
            seen.mean(dim=(2, 3)),
            seen.amax(dim=(2, 3)),
            # products of neighbours, which a texture is made of, in reach from the first step
            self.square_norm(stem.square().mean(dim=(2, 3))),
            self.facts_norm(facts),
        ]
        logits: Tensor = self.head(torch.cat(pooled, dim=1))[:, 0]
        return logits


class _Convolution(nn.Conv2d):
    """3 x 3, zeros around the image; on a circle of rows the image goes on at its other end."""

    def __init__(self, before: int, after: int, *, stride: int = 1, periodic: bool = False) -> None:
        super().__init__(before, after, 3, stride, padding=(0 if periodic else 1, 1), bias=False)
        self.periodic = periodic

    def forward(self, image: Tensor) -> Tensor:
        if self.periodic:
            image = nn.functional.pad(image, (0, 0, 1, 1), mode="circular")
        return super().forward(image)


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int, periodic: bool) -> None:
        super().__init__()
        self.path = nn.Sequential(
            _Convolution(before, after, stride=stride, periodic=periodic),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            _Convolution(after, after, periodic=periodic),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, image: Tensor) -> Tensor:
        return torch.relu(self.path(image) + self.shortcut(image))

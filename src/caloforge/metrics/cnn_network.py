"""The network of the CNN classifier, and the preparation of its input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
# smallest standard deviation that inputs are divided by
MIN_SPREAD = 0.02


@dataclass(frozen=True)
class Images:
    """Layers of a mesh as images, and the symmetry operations under which showers are equally likely.

    Attributes:
        shape: Layers, rows and columns.
        periodic: Rows are azimuthal sectors: rotated at random in training, and padded circularly.
        flip_rows: Reversing the rows is a symmetry.
        flip_columns: Reversing the columns is a symmetry.
        swap: Exchanging rows and columns is a symmetry.
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
        """Mirror image number `number` of showers (b, layers, rows, columns); 0 is the identity."""
        for allowed, axes in ((self.flip_rows, (-2,)), (self.flip_columns, (-1,))):
            if allowed:
                if number % 2:
                    showers = showers.flip(axes)
                number //= 2
        return showers.transpose(-1, -2) if number else showers

    def draw(self, showers: Tensor, rng: np.random.Generator) -> Tensor:
        """Each shower in a random mirror image, rotated at random where rows are periodic."""
        choice = rng.integers(len(self), size=len(showers))
        result = torch.empty_like(showers)
        for number in range(len(self)):
            rows = torch.from_numpy(np.flatnonzero(choice == number))
            result[rows] = self.image(showers[rows], number)
        if self.periodic:
            for row, turn in enumerate(rng.integers(self.shape[1], size=len(showers))):
                result[row] = result[row].roll(int(turn), dims=-2)
        return result

    def average(self, maps: Tensor) -> Tensor:
        """Maps (n, layers, rows, columns), averaged over all symmetry operations."""
        if self.periodic:
            maps = maps.mean(dim=-2, keepdim=True).expand_as(maps)
        return torch.stack([self.image(maps, number) for number in range(len(self))]).mean(dim=0)


class Whitening(nn.Module):
    """Standardisation at fixed incident energy: subtracts the mean, divides by the residual deviation."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        """Store the coefficients; the inputs of a shower may have any shape.

        Args:
            mean: (3, ...) coefficients of 1, x, x^2 with x = log10(E / 10 GeV).
            spread: (...) standard deviation around the mean.
        """
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, energy: Tensor, numbers: Tensor) -> Tensor:
        """Standardised inputs (b, ...) from log10 E (b,) and inputs (b, ...)."""
        white: Tensor = (numbers - torch.tensordot(_powers(energy), self.mean, 1)) / self.spread
        return white


class _Fit:
    """Least squares on powers of log10 E, block by block."""

    def __init__(self) -> None:
        self._normal = torch.zeros(3, 3, dtype=torch.float64)
        self._right = self._square = torch.zeros(1, dtype=torch.float64)

    def add(self, energy: Tensor, numbers: Tensor) -> None:
        powers, numbers = _powers(energy).double(), numbers.double()
        self._normal += powers.T @ powers
        self._right = self._right + torch.tensordot(powers.T, numbers, 1)
        self._square = self._square + numbers.square().sum(dim=0)

    def whitening(self, symmetric: Callable[[Tensor], Tensor] = lambda maps: maps) -> Whitening:
        """The result; `symmetric` averages maps (n, ...) over the mirror images."""
        right, square = symmetric(self._right), symmetric(self._square[None])[0]
        # ridge regularisation: one incident energy alone would be singular
        normal = self._normal + 1e-6 * self._normal[0, 0] * torch.eye(3)
        mean = torch.linalg.solve(normal, right.flatten(1)).reshape(right.shape)
        left = (square - (mean * right).sum(dim=0)) / self._normal[0, 0]
        # or rarely filled cells would be the largest inputs
        return Whitening(mean.float(), left.clamp(min=0).sqrt().clamp(min=MIN_SPREAD).float())


def _powers(energy: Tensor) -> Tensor:
    x = energy - 4
    return torch.stack([torch.ones_like(x), x, x * x], dim=1)


@dataclass(frozen=True)
class Scales:
    """Means and standard deviations of the inputs at each incident energy, from the truth.

    Attributes:
        unit: Scale of log(1 + E / unit), MeV.
        planes: Of `cell_planes`.
        sums: Of `layer_sums`.
    """

    unit: float
    planes: Whitening
    sums: Whitening


def cell_planes(showers: Tensor, unit: float) -> Tensor:
    """Log energies of the cells, and the mask of filled ones: (b, 2 layers, rows, columns)."""
    return torch.cat([torch.log1p(showers / unit), (showers > 0).to(showers)], dim=1)


def layer_sums(showers: Tensor, unit: float) -> Tensor:
    """Logs of the energies of shower and layers, and of the numbers of filled cells: (b, 1 + 2 layers)."""
    energy = showers.sum(dim=(2, 3))
    energies = torch.cat([energy.sum(dim=1, keepdim=True), energy], dim=1)
    filled = (showers > 0).to(showers).sum(dim=(2, 3))
    return torch.cat([torch.log1p(energies / unit), torch.log1p(filled)], dim=1)


def fit_scales(blocks: Iterable[tuple[Tensor, Tensor]], images: Images) -> Scales:
    """Means and spreads from showers of the truth.

    Args:
        blocks: log10 E (b,) and showers (b, layers, rows, columns), MeV; the first block sets the unit.
        images: Shape and symmetries.
    """
    unit, planes, sums = 0.0, _Fit(), _Fit()
    for energy, showers in blocks:
        if not unit:
            filled = showers[showers > 0]
            unit = CELL_UNIT * float(filled.median()) if len(filled) else 1.0
        planes.add(energy, cell_planes(showers, unit))
        sums.add(energy, layer_sums(showers, unit))
    return Scales(unit, planes.whitening(images.average), sums.whitening())


class StrongNetwork(nn.Module):
    """Residual network over the images of the layers, one logit; 0.6 million parameters for 25 layers."""

    def __init__(self, images: Images, scales: Scales) -> None:
        """Initialise the weights.

        Args:
            images: Shape and symmetries.
            scales: Standardisation of the inputs.
        """
        super().__init__()
        layers, rows, columns = images.shape
        self.unit, self.white_planes, self.white_sums = scales.unit, scales.planes, scales.sums
        # the planes, and the incident energy
        self.stem = _Convolution(2 * layers + 1, STEM, periodic=images.periodic)
        self.norm = nn.BatchNorm2d(STEM)
        # position embedding; rows of a periodic image are equivalent
        self.position = nn.Parameter(torch.zeros(STEM, 1 if images.periodic else rows, columns))
        blocks: list[nn.Module] = []
        before = STEM
        for channels, count in STAGES:
            for number in range(count):
                blocks.append(_Block(before, channels, 1 if number else 2, images.periodic))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.sums = nn.Linear(1 + 2 * layers, STEM)
        self.squares_norm = nn.BatchNorm1d(2 * STEM)
        self.head = nn.Sequential(
            nn.Linear(2 * before + 2 * STEM + 2 + 2 * layers, HEAD), nn.ReLU(), nn.Linear(HEAD, 1)
        )

    def forward(self, energy: Tensor, showers: Tensor) -> Tensor:
        """Logits (b,) of log10 E (b,) and showers (b, layers, rows, columns), MeV."""
        planes = self.white_planes(energy, cell_planes(showers, self.unit))
        sums = self.white_sums(energy, layer_sums(showers, self.unit))
        plane = (energy - 4).reshape(-1, 1, 1, 1).expand(-1, 1, *showers.shape[2:])
        seen = torch.cat([planes, plane], dim=1).contiguous(memory_format=torch.channels_last)
        stem = self.norm(self.stem(seen))
        seen = self.blocks(torch.relu(stem + self.position))
        # second moments: products of neighbouring cells and of layers, available from the first step
        squares = torch.cat([stem.square().mean(dim=(2, 3)), self.sums(sums).square()], dim=1)
        pooled = [seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3)), self.squares_norm(squares), sums]
        logits: Tensor = self.head(torch.cat([*pooled, energy[:, None] - 4], dim=1))[:, 0]
        return logits


class _Convolution(nn.Conv2d):
    """3 x 3 convolution, padded with zeros; circularly along periodic rows."""

    def __init__(self, before: int, after: int, *, stride: int = 1, periodic: bool = False) -> None:
        super().__init__(before, after, 3, stride, padding=(0 if periodic else 1, 1), bias=False)
        self.periodic = periodic

    def forward(self, image: Tensor) -> Tensor:
        if self.periodic:
            image = nn.functional.pad(image, (0, 0, 1, 1), mode="circular")
        return super().forward(image)


class _Block(nn.Module):
    """Residual block of two convolutions."""

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

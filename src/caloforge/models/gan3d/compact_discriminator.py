"""The compact discriminator: 3D convolutions beside layer sums and hits; regresses energy and angle."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from caloforge.errors import ConfigError
from caloforge.models.gan3d.config import CompactDiscriminatorConfig
from caloforge.models.gan3d.energy_argument import EnergyArgument, powers
from caloforge.models.gan3d.shower_axis import MEAN_TERMS, AxisWindow, ShowerAxis
from caloforge.models.layered.geometry import LayerGeometry

CONDITION_DEGREE = 2
KERNEL, STRIDE = 4, 2
SLOPE = 0.2
# MeV; keeps the logarithm of an empty shower finite
SMALL = 1e-3
# of an image, in image units
LEAST_WIDTH = 0.05
# of a layer in the estimate of the direction, as a share of the energy
LEAST_WEIGHT = 1e-4


class CompactDiscriminator(nn.Module):
    """From showers to a real/fake score given the energy, and an estimate of the energy.

    Convolutions of stride 2 see the images of the cells and which cells are hit; a dense layer sees cube
    roots of layer sums and square roots of hits of the layers. Spectral normalisation bounds their slopes
    (Miyato et al. 2018). The energy is estimated from the sums and hits alone, not from the condition.
    With a window, which follows the axis, the score also depends on the axis, and theta is estimated from
    where the centres of the layers lie in the mesh.

    Attributes:
        sum_scale: (L,) typical cube roots of layer sums.
        hit_scale: (L,) typical square roots of hits.
        image_mean: (2, L, K) mean image of each symmetry class, as a straight line in the energy argument.
        image_width: (L, K) its standard deviation.
    """

    sum_scale: Tensor
    hit_scale: Tensor
    image_mean: Tensor
    image_width: Tensor
    symmetry_class: Tensor

    def __init__(
        self,
        config: CompactDiscriminatorConfig,
        layers: int,
        geometry: LayerGeometry,
        argument: EnergyArgument,
        image: Callable[[Tensor], Tensor],
        window: AxisWindow | None = None,
    ) -> None:
        """Random weights.

        Args:
            config: Of the network.
            layers: Of the detector.
            geometry: The cells of a layer, of the mesh or of a window.
            argument: Of the energy.
            image: Maps energies in MeV to image units.
            window: Windows around the axes of inclined or displaced showers.

        Raises:
            ConfigError: The mesh is too small for the convolutions.
        """
        super().__init__()
        self.argument, self.image, self.window = argument, image, window
        self.transverse = (geometry.rows, geometry.columns)
        shape = (layers, *self.transverse)
        sizes = list(shape)
        channels = [2, *config.channels]
        convs: list[nn.Module] = []
        for first, second in itertools.pairwise(channels):
            conv = nn.Conv3d(first, second, KERNEL, STRIDE, padding=1)
            convs += [spectral_norm(conv), nn.LeakyReLU(SLOPE)]
            sizes = [(n + 2 - KERNEL) // STRIDE + 1 for n in sizes]
        if min(sizes) < 1:
            raise ConfigError(
                f"model.discriminator.channels: a mesh of {' x '.join(map(str, shape))} cells is too small "
                f"for {len(config.channels)} convolutions of stride {STRIDE}; give fewer"
            )
        self.convs = nn.Sequential(*convs)
        width = config.width
        images = channels[-1] * sizes[0] * sizes[1] * sizes[2]
        self.image_code = spectral_norm(nn.Linear(images, width))
        self.layer_code = spectral_norm(nn.Linear(2 * layers, width))
        self.real_fake = spectral_norm(nn.Linear(2 * width, 1))
        known = CONDITION_DEGREE + MEAN_TERMS * (window is not None)
        self.projection = spectral_norm(nn.Linear(known, 2 * width, bias=False))
        self.energy = nn.Sequential(nn.Linear(2 * layers, width), nn.SiLU(), nn.Linear(width, 1))
        last = self.energy[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        if window is not None:
            self.direction = LayerDirection(window, layers, width)
        self.register_buffer("sum_scale", torch.ones(layers))
        self.register_buffer("hit_scale", torch.ones(layers))
        symmetry_class = torch.from_numpy(geometry.symmetry_class)
        self.register_buffer("symmetry_class", symmetry_class, persistent=False)
        self.register_buffer("image_mean", torch.zeros(2, layers, geometry.symmetry_classes))
        self.register_buffer("image_width", torch.ones(layers, geometry.symmetry_classes))

    @torch.no_grad()
    def fit(self, showers: Tensor, energy: Tensor) -> None:
        """Set the scales from showers (N, L, m) in MeV of energies (N,)."""
        self.sum_scale.copy_(_cube_root(showers.sum(2)).square().mean(0).sqrt())
        self.hit_scale.copy_(((showers > 0).float().sum(2).mean(0) + 1).sqrt())
        total = showers.sum((1, 2)).clamp_min(SMALL)
        last = self.energy[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, float((energy / total).log().mean()))
        member = F.one_hot(self.symmetry_class).float()
        member /= member.sum(0)
        design = powers(self.argument(energy), 1)
        gram = design.T @ design + 1e-4 * len(design) * torch.eye(2)
        image = self.image(showers)
        first = torch.einsum("nd,nlk->dlk", design, image @ member)
        self.image_mean.copy_(torch.einsum("de,elk->dlk", torch.linalg.inv(gram), first))
        expected = torch.einsum("nd,dlk->nlk", design, self.image_mean)
        variance = (image.square() @ member).mean(0) - expected.square().mean(0)
        self.image_width.copy_(variance.clamp_min(0).sqrt().clamp_min(LEAST_WIDTH))

    def forward(
        self, showers: Tensor, hits: Tensor, energy: Tensor, axis: ShowerAxis | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score and energy.

        Args:
            showers: (N, L, m) MeV.
            hits: (N, L, m) 1 where hit, else 0.
            energy: (N,) incident energy, MeV, the condition of the score.
            axis: Of the showers, with a window, likewise.

        Returns:
            Score, (N,), positive for real ones; logarithm of the estimated incident energy in MeV, (N,).
        """
        sums = showers.sum(2)
        layers = torch.cat(
            [_cube_root(sums) / self.sum_scale, (hits.sum(2) + 1e-2).sqrt() / self.hit_scale], 1
        )
        expected = torch.einsum("nd,dlk->nlk", powers(self.argument(energy), 1), self.image_mean)
        image = self.image(showers) - expected[..., self.symmetry_class]
        image = image / self.image_width[..., self.symmetry_class]
        x = torch.stack([image, hits], 1).reshape(len(showers), 2, -1, *self.transverse)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        code = F.leaky_relu(self.image_code(self.convs(x).flatten(1)), SLOPE)
        code = torch.cat([code, F.leaky_relu(self.layer_code(layers), SLOPE)], 1)
        condition = powers(self.argument(energy), CONDITION_DEGREE)[:, 1:]
        if axis is not None:
            condition = torch.cat([condition, axis.terms], 1)
        score = self.real_fake(code).squeeze(1) + (code * self.projection(condition)).sum(1)
        total = sums.sum(1).clamp_min(SMALL).log()
        return score, total + self.energy(layers).squeeze(1)


class LayerDirection(nn.Module):
    """Estimates theta from the centres of the layers: a straight line through them, corrected by a network.

    Attributes:
        place: (m, 2) x and y of the cells of a window from its centre, in cells.
    """

    place: Tensor

    def __init__(self, window: AxisWindow, layers: int, width: int) -> None:
        """No correction."""
        super().__init__()
        self.frame = window.frame
        y, x = np.indices((window.geometry.rows, window.geometry.columns)).reshape(2, -1)
        middle = [(window.geometry.columns - 1) / 2, (window.geometry.rows - 1) / 2]
        place = torch.from_numpy((np.stack([x, y], 1) - middle).astype(np.float32))
        self.register_buffer("place", place, persistent=False)
        self.correction = nn.Sequential(nn.Linear(3 * layers, width), nn.SiLU(), nn.Linear(width, 1))
        last = self.correction[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, showers: Tensor, axis: ShowerAxis) -> Tensor:
        """(N,) theta in rad of windows (N, L, m) in MeV."""
        layer = showers.sum(2)
        centre = (showers @ self.place) / layer.clamp_min(SMALL)[..., None] + axis.position.cell.float()
        centre = centre * self.frame.cell_size.float()
        depth = self.frame.depth.float()
        weight = (layer / layer.sum(1, keepdim=True).clamp_min(SMALL))[..., None]
        middle, deep = (weight * centre).sum(1, keepdim=True), (weight[..., 0] * depth).sum(1)
        away = depth - deep[:, None]
        spread = (weight[..., 0] * away.square()).sum(1).clamp_min(SMALL)
        slope = (weight * away[..., None] * (centre - middle)).sum(1) / spread[:, None]
        theta = torch.acos((slope[:, 1] / (1 + slope.square().sum(1)).sqrt()).clamp(-0.999, 0.999))
        # a root whose slope is finite where a layer is empty
        importance = (weight + LEAST_WEIGHT).sqrt()
        rest = (centre - middle - slope[:, None] * away[..., None]) * importance
        known = torch.cat([rest.flatten(1), importance[..., 0]], 1)
        corrected: Tensor = theta + self.correction(known).squeeze(1)
        return corrected


def _cube_root(sums: Tensor) -> Tensor:
    return (sums + SMALL).pow(1 / 3)

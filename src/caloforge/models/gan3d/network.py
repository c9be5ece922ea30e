"""The two networks of the 3DGAN, built from their configuration for any mesh.

Shapes: N batch, C channels, Z depth, Y and X transverse (phi and r on a cylindrical mesh).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.errors import ConfigError
from caloforge.models.gan3d.config import ConvBlock, DiscriminatorConfig, Gan3dConfig, GeneratorConfig

Shape = tuple[int, int, int]
MAX_SEED = 4096


def block_output(block: ConvBlock, size: int, axis: int) -> int:
    """Length of one axis after a block."""
    padded = size * block.upsample[axis] + sum(_margins(block, axis))
    return (padded - block.kernel[axis]) // block.stride[axis] + 1


def blocks_output(blocks: tuple[ConvBlock, ...], size: int, axis: int) -> int:
    """Length of one axis after all blocks; not positive if the kernels are too large."""
    for block in blocks:
        size = block_output(block, size, axis)
        if size < 1:
            return 0
    return size


def count_numbers(config: Gan3dConfig, shape: Shape) -> int:
    """Numbers in the weights and in the activations of one shower, of both networks.

    Raises:
        ConfigError: The blocks cannot reach the mesh.
    """
    generator, discriminator = config.generator, config.discriminator
    assert isinstance(generator, GeneratorConfig) and isinstance(discriminator, DiscriminatorConfig)
    first = tuple(seed_size(generator.blocks, shape[axis], axis) for axis in range(3))
    seed = generator.seed_channels * math.prod(first)
    made, _ = _block_numbers(generator.blocks, generator.seed_channels, first)
    judged, features = _block_numbers(discriminator.blocks, 1, shape)
    return (generator.latent + 1) * seed + made + judged + 2 * features


def _block_numbers(blocks: tuple[ConvBlock, ...], channels: int, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Numbers in the weights and activations of blocks, and in their output."""
    total, out = 0, list(sizes)
    for block in blocks:
        grown = [n * block.upsample[axis] + sum(_margins(block, axis)) for axis, n in enumerate(out)]
        out = [max(block_output(block, n, axis), 0) for axis, n in enumerate(out)]
        weights = block.filters * (channels * math.prod(block.kernel) + 5)
        total += weights + channels * math.prod(grown) + block.filters * math.prod(out)
        channels = block.filters
    return total, channels * math.prod(out)


def seed_size(blocks: tuple[ConvBlock, ...], target: int, axis: int) -> int:
    """Smallest size of the first grid for which the blocks give `target` cells along an axis.

    Raises:
        ConfigError: There is none.
    """
    for size in range(1, MAX_SEED + 1):
        if blocks_output(blocks, size, axis) >= target:
            return size
    raise ConfigError(
        f"model.generator.blocks: from no first grid do they reach the {target} cells of axis "
        f"{'zyx'[axis]}; add up-sampling or padding, or smaller kernels"
    )


class ConvLayer(nn.Module):
    """One `ConvBlock`: (N, C, Z, Y, X) to (N, filters, Z', Y', X')."""

    def __init__(self, block: ConvBlock, channels: int, config: Gan3dConfig) -> None:
        """Layers of the block; see `ConvBlock`."""
        super().__init__()
        self.upsample = block.upsample
        self.padding = [pad for axis in (2, 1, 0) for pad in _margins(block, axis)]
        self.slope = config.leaky_slope if block.activation == "leaky-relu" else 0.0
        self.conv = nn.Conv3d(channels, block.filters, block.kernel, block.stride, bias=block.bias)
        self.norm = (
            nn.BatchNorm3d(block.filters, config.batch_norm_epsilon, config.batch_norm_momentum)
            if block.batch_norm
            else None
        )
        self.dropout = nn.Dropout(block.dropout)
        _initialise(self.conv, block.init)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        for axis, times in enumerate(self.upsample, start=2):
            if times > 1:
                x = x.repeat_interleave(times, dim=axis)
        if any(self.padding):
            x = F.pad(x, self.padding)
        x = F.leaky_relu(self.conv(x), self.slope)
        if self.norm is not None:
            x = self.norm(x)
        result: Tensor = self.dropout(x)
        return result


class Generator(nn.Module):
    """The generator: from noise and condition to an image."""

    def __init__(self, config: Gan3dConfig, shape: Shape) -> None:
        """Build for showers of `shape` (Z, Y, X).

        Raises:
            ConfigError: The blocks cannot reach the mesh.
        """
        super().__init__()
        assert isinstance(config.generator, GeneratorConfig)
        blocks = config.generator.blocks
        self.shape = shape
        self.noise_shape = (config.generator.latent - 2 * (config.generator.conditioning == "concatenate"),)
        self.multiply = config.generator.conditioning == "multiply"
        self.seed_channels = config.generator.seed_channels
        self.seed_shape = tuple(seed_size(blocks, shape[axis], axis) for axis in range(3))
        self.crop = tuple(
            (blocks_output(blocks, self.seed_shape[axis], axis) - shape[axis]) // 2 for axis in range(3)
        )
        self.dense = nn.Linear(config.generator.latent, self.seed_channels * math.prod(self.seed_shape))
        nn.init.xavier_uniform_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        channels = [self.seed_channels, *(block.filters for block in blocks)]
        self.layers = nn.Sequential(
            *(ConvLayer(block, c, config) for block, c in zip(blocks, channels, strict=False))
        )

    def forward(self, energy: Tensor, theta: Tensor, noise: Tensor) -> Tensor:
        """Generate images.

        Args:
            energy: (N,) incident energy in units of `energy_unit`.
            theta: (N,) rad; used where the condition is concatenated.
            noise: (N, latent), or (N, latent - 2) where the condition is concatenated.

        Returns:
            (N, Z, Y, X) in image units, not negative.
        """
        latent = (
            noise * energy[:, None]
            if self.multiply
            else torch.cat([energy[:, None], theta[:, None], noise], dim=1)
        )
        x = self.dense(latent).unflatten(1, (self.seed_channels, *self.seed_shape))
        x = x.contiguous(memory_format=torch.channels_last_3d)
        image: Tensor = self.layers(x).squeeze(1)
        for axis, (start, length) in enumerate(zip(self.crop, self.shape, strict=True), start=1):
            image = image.narrow(axis, start, length)
        return image


class Discriminator(nn.Module):
    """The discriminator: from an image to its real/fake score and its energy."""

    def __init__(self, config: Gan3dConfig, shape: Shape) -> None:
        """Build for showers of `shape` (Z, Y, X).

        Raises:
            ConfigError: The mesh is too small for the blocks.
        """
        super().__init__()
        assert isinstance(config.discriminator, DiscriminatorConfig)
        blocks, pool = config.discriminator.blocks, config.discriminator.pool
        sizes = [blocks_output(blocks, shape[axis], axis) // pool for axis in range(3)]
        if min(sizes) < 1:
            raise ConfigError(
                f"model.discriminator: a mesh of {shape} cells is too small for these kernels; set 'same: "
                "true' in the blocks, take smaller kernels, or the preset 'debug'"
            )
        channels = [1, *(block.filters for block in blocks)]
        self.layers = nn.Sequential(
            *(ConvLayer(block, c, config) for block, c in zip(blocks, channels, strict=False))
        )
        self.pool = nn.AvgPool3d(pool)
        features = channels[-1] * math.prod(sizes)
        self.real_fake, self.energy = nn.Linear(features, 1), nn.Linear(features, 1)
        for head in (self.real_fake, self.energy):
            nn.init.xavier_uniform_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score and energy.

        Args:
            image: (N, Z, Y, X) in image units.

        Returns:
            Logit of being real, (N,), and incident energy in units of `energy_unit`, (N,).
        """
        x = image.unsqueeze(1).contiguous(memory_format=torch.channels_last_3d)
        x = self.pool(self.layers(x)).flatten(1)
        return self.real_fake(x).squeeze(1), self.energy(x).squeeze(1)


def _margins(block: ConvBlock, axis: int) -> tuple[int, int]:
    """Padding before and after an axis; "same" with an even kernel has one more after it, as in Keras."""
    extra = block.kernel[axis] - 1 if block.same else 0
    return block.pad[axis] + extra // 2, block.pad[axis] + extra - extra // 2


def _initialise(conv: nn.Conv3d, init: str) -> None:
    if init == "he-uniform":
        nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
    elif init == "glorot-normal":
        nn.init.xavier_normal_(conv.weight)
    else:
        nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)

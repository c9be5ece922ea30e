"""Configuration of the 3DGAN family; axes are (depth, y, x) or (depth, phi, r), as in the showers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from caloforge.config import StrictModel
from caloforge.models.gan3d.presets import PRESETS
from caloforge.models.presets import FILLED_FROM_PRESET, FamilyConfig
from caloforge.units import Energy

Triple = tuple[
    Annotated[int, Field(ge=0, le=64)], Annotated[int, Field(ge=0, le=64)], Annotated[int, Field(ge=0, le=64)]
]
Channels = Annotated[int, Field(ge=1, le=1024)]
Kernel = tuple[
    Annotated[int, Field(ge=1, le=32)], Annotated[int, Field(ge=1, le=32)], Annotated[int, Field(ge=1, le=32)]
]


class ConvBlock(StrictModel):
    """Up-sampling (nearest), padding, convolution, activation, batch normalisation, dropout, in this order.

    `pad` zeros are added on both sides of each axis. `same` keeps the size, otherwise a convolution shortens
    each axis by its kernel - 1; `stride` then keeps every stride-th cell.
    """

    filters: int = Field(ge=1, le=1024)
    kernel: Kernel
    upsample: Kernel = (1, 1, 1)
    stride: Kernel = (1, 1, 1)
    pad: Triple = (0, 0, 0)
    same: bool = False
    bias: bool = True
    activation: Literal["leaky-relu", "relu"] = "leaky-relu"
    batch_norm: bool = False
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    init: Literal["he-uniform", "glorot-uniform", "glorot-normal"] = "glorot-uniform"


class GeneratorConfig(StrictModel):
    """A dense layer onto a small grid of `seed_channels`, then the blocks; the last one has one filter.

    The grid is the smallest whose output covers the mesh; the surplus is cropped symmetrically.
    `conditioning` "multiply" scales the noise with the energy, "concatenate" appends energy and angle to it.
    """

    model_config = FILLED_FROM_PRESET

    kind: Literal["published"] = "published"
    latent: int = Field(ge=3, le=65536)
    conditioning: Literal["multiply", "concatenate"]
    seed_channels: int = Field(ge=1, le=1024)
    blocks: tuple[ConvBlock, ...] = Field(min_length=1, max_length=256)

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        if self.blocks[-1].filters != 1:
            raise ValueError(f"blocks: the last has {self.blocks[-1].filters} filters, expected 1, the image")
        return self


class DiscriminatorConfig(StrictModel):
    """The blocks, average pooling over `pool` cells, then one dense output each for real/fake and energy."""

    model_config = FILLED_FROM_PRESET

    kind: Literal["published"] = "published"
    blocks: tuple[ConvBlock, ...] = Field(min_length=1, max_length=256)
    pool: int = Field(default=2, ge=1, le=16)


class CompactGeneratorConfig(StrictModel):
    """Convolutions on coarse grids that displace the latent variables of the cells, see `compact_generator`.

    `factors` normal numbers describe a shower as a whole; `width` is that of the network that conditions on
    them and on the energy; `channels` those at a quarter, a quarter to a half, and a half of the resolution;
    `radial_bins` the first ring of each radial bin with a spectrum of its own; `window` the cells across of
    the window that follows the axis of inclined or displaced showers, by default the mesh and two cells more
    on each side. With `energy_dependent` the tables of hit energies, the displacements to one side and what
    the place of the axis in its cell changes depend on the energy: for wide ranges of energies. The maps that
    give hits and sums the distribution of training showers are fitted at `map_energies` energies; with
    `response_squared` they know the square of the response as well.
    """

    model_config = FILLED_FROM_PRESET

    kind: Literal["compact"] = "compact"
    factors: int = Field(default=64, ge=1, le=256)
    width: int = Field(default=64, ge=4, le=1024)
    channels: tuple[Channels, Channels, Channels] = (8, 4, 2)
    radial_bins: tuple[Annotated[int, Field(ge=0, le=1000)], ...] = Field(
        default=(0, 1, 2, 3, 5, 8), min_length=1, max_length=32
    )
    window: int | None = Field(default=None, ge=5, le=1001)
    energy_dependent: bool = False
    map_energies: int = Field(default=7, ge=2, le=32)
    response_squared: bool = True

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.radial_bins[0] != 0 or any(b <= a for a, b in itertools.pairwise(self.radial_bins)):
            raise ValueError(f"radial_bins: got {list(self.radial_bins)}, expected rising rings from 0")
        if self.window is not None and self.window % 2 == 0:
            raise ValueError(f"window: got {self.window}, expected an odd number of cells")
        return self


class CompactDiscriminatorConfig(StrictModel):
    """Strided convolutions with spectral normalisation, beside sums and hits of the layers.

    `channels` are those after each convolution of stride 2; `width` is that of the dense layers.
    """

    model_config = FILLED_FROM_PRESET

    kind: Literal["compact"] = "compact"
    channels: tuple[Channels, ...] = Field(default=(8, 16, 32), min_length=1, max_length=6)
    width: int = Field(default=64, ge=4, le=1024)


class LossWeights(StrictModel):
    """Weights of the terms of the loss; a term of weight 0 is not computed.

    `real_fake` the adversarial term; `energy` mean absolute percentage error (MAPE) of the regressed energy;
    `sum` MAPE of the visible energy; `angle` mean absolute error of the angle theta, measured in the image,
    or regressed by a compact discriminator, rad;
    `spectrum` MAPE of the number of cells in energy bins, made differentiable by soft bin edges;
    `energy_distance` the energy distance of standardised physics features, for compact networks.
    """

    real_fake: float = Field(default=3.0, gt=0)
    energy: float = Field(default=0.1, ge=0)
    sum: float = Field(default=0.1, ge=0)
    angle: float = Field(default=0.0, ge=0)
    spectrum: float = Field(default=0.0, ge=0)
    energy_distance: float = Field(default=0.0, ge=0)


def _kind(value: Any) -> str:
    """Kind of a network; those of earlier releases are not named."""
    return str(
        value.get("kind", "published") if isinstance(value, dict) else getattr(value, "kind", "published")
    )


# of compact generators whose cards lack these settings
EARLIER_COMPACT = {"energy_dependent": False, "map_energies": 3, "response_squared": False}


class Gan3dConfig(FamilyConfig):
    """The 3DGAN. `preset` gives all settings; others in the document override it.

    Images are (cell energy / `cell_unit`) ^ `power`, cells below `cell_threshold` 0; the network sees the
    incident energy over `energy_unit`. `fake_conditions`: the generator is trained on the conditions of the
    real "batch", or on "fresh" energies, uniform over the trained range. `adversarial_after`: a compact
    generator is trained by the energy distance alone for so many steps before the discriminator takes part.
    """

    presets = PRESETS

    @classmethod
    def of_card(cls, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """See the base class."""
        generator = document.get("generator")
        if not isinstance(generator, dict) or generator.get("kind") != "compact":
            return document
        return {**document, "generator": {**EARLIER_COMPACT, **generator}}

    family: Literal["gan3d"] = "gan3d"
    preset: Literal["orthogonal", "angle", "compact", "compact-angle", "debug"] = "orthogonal"
    generator: Annotated[
        Annotated[GeneratorConfig, Tag("published")] | Annotated[CompactGeneratorConfig, Tag("compact")],
        Discriminator(_kind),
    ]
    discriminator: Annotated[
        Annotated[DiscriminatorConfig, Tag("published")]
        | Annotated[CompactDiscriminatorConfig, Tag("compact")],
        Discriminator(_kind),
    ]
    weights: LossWeights
    cell_unit: Energy = Field(gt=0)
    cell_threshold: Energy = Field(default=1e-3, ge=0)
    power: float = Field(gt=0, le=1)
    energy_unit: Energy = Field(default=1e5, gt=0)
    adversarial_after: int = Field(default=0, ge=0)
    label_flip: float = Field(default=0.05, ge=0, lt=0.5)
    generator_updates: int = Field(default=2, ge=1, le=16)
    fake_conditions: Literal["batch", "fresh"]
    leaky_slope: float = Field(default=0.3, ge=0, lt=1)
    batch_norm_epsilon: float = Field(default=1e-3, gt=0)
    batch_norm_momentum: float = Field(default=0.01, gt=0, le=1)
    spectrum_edges: tuple[Energy, ...] = (0.06, 0.16, 0.25, 0.4, 0.6, 1.0)

    def describe(self, training_showers: int) -> str:
        """See the base class."""
        if self.generator.kind == "published":
            return ""
        return (
            f"one pass through 3D convolutions that displace normal variables of all cells, fitted to "
            f"{training_showers:_} showers in closed form, then trained with a discriminator"
        ).replace("_", " ")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fake_conditions == "fresh" and (self.weights.angle or self.weights.spectrum):
            raise ValueError(
                "fake_conditions: 'fresh' has no measured angle or spectrum to compare with; take 'batch' or "
                "set weights.angle and weights.spectrum to 0"
            )
        if self.generator.kind != self.discriminator.kind:
            raise ValueError(
                f"discriminator.kind: got {self.discriminator.kind!r} with a generator of kind "
                f"{self.generator.kind!r}; expected the same"
            )
        edges = self.spectrum_edges
        if len(edges) < 1 or edges[0] <= 0 or any(b <= a for a, b in itertools.pairwise(edges)):
            raise ValueError(f"spectrum_edges: got {list(edges)} MeV, expected rising positive energies")
        return self

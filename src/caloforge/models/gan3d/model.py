"""The 3DGAN as a `ShowerModel`: published or compact networks, preprocessing, generation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.errors import ConfigError, TrainingError
from caloforge.geometry import CartesianMesh, Detector
from caloforge.models.base import Condition, Phase, ShowerModel, TrainingBatch, require_regular_mesh
from caloforge.models.checks import check_between
from caloforge.models.gan3d.compact_discriminator import CompactDiscriminator
from caloforge.models.gan3d.compact_generator import CompactGenerator
from caloforge.models.gan3d.compact_size import compact_numbers
from caloforge.models.gan3d.compact_step import CompactStep
from caloforge.models.gan3d.config import CompactDiscriminatorConfig, CompactGeneratorConfig, Gan3dConfig
from caloforge.models.gan3d.energy_argument import EnergyArgument
from caloforge.models.gan3d.network import Discriminator, Generator, count_numbers
from caloforge.models.gan3d.physics_features import LEAST_WIDTH, FeatureScale, PhysicsFeatures
from caloforge.models.gan3d.published_step import PublishedStep
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.training_metadata import ANGLE_SLACK, DataFacts, TrainedRange
from caloforge.showers import ShowerBatch
from caloforge.transforms import PowerScale

# cells of the showers, evenly spaced in the sample, that the closed-form start is fitted to, and the fewest
# showers
FIT_NUMBERS, FEWEST_FIT = 40_000_000, 200
# showers whose features are standardised, and the fewest that anything can be fitted to
FEATURE_SHOWERS, FEWEST_SHOWERS = 20_000, 4
# showers whose features are computed at a time
FEATURE_ROWS = 64
# of logarithms: of a cell's energy in MeV in the table of the compact generator, of widths of sums
LOG_RANGE = (-60.0, 30.0)
LARGEST_WEIGHT = 300.0


class Gan3d(ShowerModel):
    """A generator, and a discriminator that also regresses the incident energy.

    The networks are those published, or compact ones; each kind has a training step of its own.
    """

    family = "gan3d"
    config: Gan3dConfig
    generator: Generator | CompactGenerator
    discriminator: Discriminator | CompactDiscriminator
    features: PhysicsFeatures
    feature_scale: FeatureScale
    steps: Tensor

    def __init__(self, config: Gan3dConfig, detector: Detector, facts: DataFacts) -> None:
        """Build both networks for the mesh of the detector.

        Raises:
            ConfigError: The mesh is ragged or does not fit the networks, or has no angle to measure; or a
                compact network is given showers at an angle or a cylindrical mesh.
        """
        super().__init__(config, detector, facts)
        shape = require_regular_mesh(detector, self.family)
        if config.weights.angle and not isinstance(detector.mesh, CartesianMesh):
            raise ConfigError(
                "model.weights.angle: the angle is measured on cartesian meshes only; set it to 0"
            )
        self.transform = PowerScale(config.cell_unit, config.power, config.cell_threshold)
        self.compact = config.generator.kind == "compact"
        if self.compact:
            self._build_compact(shape)
        else:
            self.generator = Generator(config, shape)
            self.discriminator = Discriminator(config, shape)
            # 1.2 to 3 times faster on CPUs with AVX-512 than channels first, and no slower elsewhere
            self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def _build_compact(self, shape: tuple[int, int, int]) -> None:
        generator, discriminator = self.config.generator, self.config.discriminator
        assert isinstance(generator, CompactGeneratorConfig)
        assert isinstance(discriminator, CompactDiscriminatorConfig)
        _check_compact(self.detector, self.ranges)
        geometry = layer_geometry(self.detector, self.ranges, generator.radial_bins)
        argument = EnergyArgument(*self.facts.response_argument())
        self.generator = CompactGenerator(generator, shape, geometry, argument)
        self.discriminator = CompactDiscriminator(discriminator, shape, geometry, argument, self._image)
        self.features = PhysicsFeatures(shape[0], geometry)
        self.feature_scale = FeatureScale(argument, self.features.size, LEAST_WIDTH)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def _image(self, showers: Tensor) -> Tensor:
        """Energies in MeV in image units, with a finite slope at 0."""
        offset = self.config.cell_threshold + 1e-6
        image: Tensor = self.transform.forward(showers + offset) - (offset / self.transform.unit) ** (
            self.transform.power
        )
        return image

    @classmethod
    def count_numbers(cls, config: Gan3dConfig, detector: Detector, facts: DataFacts) -> int:  # noqa: ARG003
        """See the base class; includes the images between the blocks, which dominate."""
        shape = require_regular_mesh(detector, cls.family)
        generator, discriminator = config.generator, config.discriminator
        if isinstance(generator, CompactGeneratorConfig):
            assert isinstance(discriminator, CompactDiscriminatorConfig)
            return compact_numbers(generator, discriminator, shape)
        return count_numbers(config, shape)

    def check_weights(self) -> None:
        """See the base class: variances of batch normalisation, and what becomes an energy."""
        for name, buffer in self.named_buffers():
            if name.endswith(("running_var", "num_batches_tracked")):
                check_between(name, buffer, 0, math.inf)
            if name.endswith(("log_energy", "log_width")):
                check_between(name, buffer, *LOG_RANGE)
        if isinstance(self.generator, CompactGenerator):
            fitted = self.generator.sums.named_buffers(prefix="generator.sums")
            for name, weight in (*self.generator.named_parameters(prefix="generator"), *fitted):
                check_between(name, weight.detach(), -LARGEST_WEIGHT, LARGEST_WEIGHT)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise of one shower, that of its generator."""
        return self.generator.noise_shape

    def optimized(self) -> dict[str, nn.Module]:
        """The generator and the discriminator."""
        return {"discriminator": self.discriminator, "generator": self.generator}

    def sampler(self) -> nn.Module:
        """The generator."""
        return self.generator

    def images(self, condition: Condition, noise: Tensor) -> Tensor:
        """Images of a published generator, (N, Z, Y, X), in image units."""
        images: Tensor = self.generator(condition.energy / self.config.energy_unit, condition.theta, noise)
        # float32: half precision is not enough for sums, powers and percentages
        return images.float()

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Generate showers in MeV, cells below the threshold set to 0."""
        if self.compact:
            cells = self.generator(condition, noise)[0].float()
            showers = cells.view(-1, *self.detector.shower_shape)
        else:
            showers = self.transform.inverse(self.images(condition, noise))
        thresholded: Tensor = self.transform.threshold_only(showers)
        return thresholded

    # ---- training

    def fit(self, batches: Iterable[ShowerBatch], rng: np.random.Generator) -> None:  # noqa: ARG002
        """See the base class: the closed-form start of compact networks; nothing for published ones."""
        if self.compact:
            device = self.steps.device
            with torch.no_grad():
                self.cpu()._fit_compact(batches)
            self.to(device)

    def _fit_compact(self, batches: Iterable[ShowerBatch]) -> None:
        """Fit features, generator and discriminator to some showers of a sample; memory stays flat.

        Raises:
            TrainingError: Fewer than `FEWEST_SHOWERS` showers.
        """
        count = sum(len(batch) for batch in batches)
        if count < FEWEST_SHOWERS:
            raise TrainingError(
                f"{count} showers to fit to, expected at least {FEWEST_SHOWERS}; give more data"
            )
        stored = max(FEWEST_FIT, FIT_NUMBERS // math.prod(self.detector.shower_shape))
        sample, energy = map(torch.cat, zip(*self._spaced(batches, -(-count // stored)), strict=True))
        self.features.fit(sample)
        rows, energies = [], []
        for showers, own in self._spaced(batches, -(-count // FEATURE_SHOWERS)):
            parts = zip(torch.split(showers, FEATURE_ROWS), torch.split(own, FEATURE_ROWS), strict=True)
            rows += [self.features(*part) for part in parts]
            energies.append(own)
        self.feature_scale.fit(torch.cat(rows), torch.cat(energies))
        generator, discriminator = self.generator, self.discriminator
        assert isinstance(generator, CompactGenerator)
        assert isinstance(discriminator, CompactDiscriminator)
        generator.fit(sample, energy)
        discriminator.fit(sample, energy)

    def _spaced(self, batches: Iterable[ShowerBatch], every: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One shower of every few: of each batch (n, L, m) in MeV, and their incident energies (n,)."""
        first = 0
        for batch in batches:
            rows = slice(-first % every, None, every)
            first += len(batch)
            yield self._flat(batch)[rows], torch.from_numpy(batch.incident_energy[rows])

    def _flat(self, batch: ShowerBatch) -> Tensor:
        """Showers above the threshold, (N, L, m), MeV."""
        showers: Tensor = self.transform.threshold_only(torch.from_numpy(batch.showers)).flatten(2)
        return showers

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:
        """The updates of `CompactStep` or `PublishedStep`."""
        step = CompactStep(self) if self.compact else PublishedStep(self)
        return step(batch)


def _check_compact(detector: Detector, ranges: TrainedRange) -> None:
    """Refuse conditions that the compact networks do not have.

    Raises:
        ConfigError: A cylindrical mesh, or more than one direction.
    """
    if not isinstance(detector.mesh, CartesianMesh):
        raise ConfigError(
            f"model.preset: compact networks need a cartesian mesh, {detector.name} has a "
            f"{detector.mesh.kind} one; take the preset debug, or family: layered"
        )
    for name in ("theta", "phi"):
        low, high = getattr(ranges, name)
        if high - low > ANGLE_SLACK:
            raise ConfigError(
                f"model.preset: compact networks are for one direction, the showers have {name} from "
                f"{low:.4g} to {high:.4g} rad; take the preset angle, or family: layered"
            )

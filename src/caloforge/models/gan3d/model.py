"""The 3DGAN as a `ShowerModel`: published or compact networks, preprocessing, generation."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.conditions import Conditions
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
from caloforge.models.gan3d.shower_axis import AxisWindow
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.layered.shower_frame import follows_axis
from caloforge.models.training_metadata import DataFacts
from caloforge.showers import ShowerBatch
from caloforge.transforms import PowerScale

# cells of the showers, evenly spaced in the sample, that the closed-form start is fitted to, and the fewest
# showers
FIT_NUMBERS, FEWEST_FIT = 160_000_000, 200
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
                compact network is given a cylindrical mesh.
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
        if not isinstance(self.detector.mesh, CartesianMesh):
            raise ConfigError(
                f"model.preset: compact networks need a cartesian mesh, {self.detector.name} has a "
                f"{self.detector.mesh.kind} one; take the preset debug, or family: layered"
            )
        self.window: AxisWindow | None = None
        if follows_axis(self.detector, self.ranges):
            self.window = AxisWindow(
                self.detector,
                self.ranges,
                generator.window,
                generator.radial_bins,
                energy_dependent=generator.energy_dependent,
            )
            geometry = self.window.geometry
        else:
            geometry = layer_geometry(self.detector, self.ranges, generator.radial_bins)
            if self.config.weights.angle:
                raise ConfigError(
                    "model.weights.angle: the showers have one direction, whose regression learns nothing; "
                    "set it to 0"
                )
        argument = EnergyArgument(*self.facts.response_argument())
        layers, inclined = shape[0], self.window is not None
        self.generator = CompactGenerator(generator, layers, geometry, argument, self.window)
        self.discriminator = CompactDiscriminator(
            discriminator, layers, geometry, argument, self._image, self.window
        )
        self.features = PhysicsFeatures(layers, geometry)
        self.feature_scale = FeatureScale(argument, self.features.size, LEAST_WIDTH, inclined=inclined)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def _image(self, showers: Tensor) -> Tensor:
        """Energies in MeV in image units, with a finite slope at 0."""
        offset = self.config.cell_threshold + 1e-6
        image: Tensor = self.transform.forward(showers + offset) - (offset / self.transform.unit) ** (
            self.transform.power
        )
        return image

    @classmethod
    def takes_impacts(cls, config: Gan3dConfig) -> bool:
        """See the base class: the compact networks do."""
        return cls.takes_impact or config.generator.kind == "compact"

    @classmethod
    def count_numbers(cls, config: Gan3dConfig, detector: Detector, facts: DataFacts) -> int:
        """See the base class; includes the images between the blocks, which dominate."""
        shape = require_regular_mesh(detector, cls.family)
        generator, discriminator = config.generator, config.discriminator
        if isinstance(generator, CompactGeneratorConfig):
            assert isinstance(discriminator, CompactDiscriminatorConfig)
            window = follows_axis(detector, facts.ranges)
            return compact_numbers(generator, discriminator, shape, window=window)
        return count_numbers(config, shape)

    def check_weights(self) -> None:
        """See the base class: variances of batch normalisation, and what becomes an energy."""
        for name, buffer in self.named_buffers():
            if name.endswith(("running_var", "num_batches_tracked")):
                check_between(name, buffer, 0, math.inf)
            if name.endswith(("log_energy", "log_width")):
                check_between(name, buffer, *LOG_RANGE)
        if isinstance(self.generator, CompactGenerator):
            fitted = [
                part.named_buffers(prefix=f"generator.{name}")
                for name, part in (("hits", self.generator.hits), ("sums", self.generator.sums))
            ]
            for name, weight in itertools.chain(self.generator.named_parameters(prefix="generator"), *fitted):
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
            showers = self._showers(self.generator(condition, noise)[0].float(), condition)
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
        generator, discriminator = self.generator, self.discriminator
        assert isinstance(generator, CompactGenerator)
        assert isinstance(discriminator, CompactDiscriminator)
        count, sample, condition = self._sample(batches)
        self.features.fit(sample)
        self._fit_scale(batches, -(-count // FEATURE_SHOWERS))
        discriminator.fit(sample, condition.energy)
        self._mark_missing(sample, condition)
        generator.fit(sample, condition)

    def refit(self, batches: Iterable[ShowerBatch]) -> None:
        """See the base class: the maps of hits and sums of compact networks."""
        if not self.compact:
            return
        # of a copy: moved to the CPU and back, buffers would be other tensors than those that the loop holds
        model = copy.deepcopy(self).cpu()
        _, sample, condition = model._sample(batches)
        model._mark_missing(sample, condition)
        assert isinstance(model.generator, CompactGenerator)
        model.generator.fit_transport(sample, condition)
        self.generator.load_state_dict(model.generator.state_dict())

    def _sample(self, batches: Iterable[ShowerBatch]) -> tuple[int, Tensor, Condition]:
        """Number of showers, cells of evenly spaced ones (n, L, m) in MeV, and their conditions.

        Raises:
            TrainingError: Fewer than `FEWEST_SHOWERS` showers.
        """
        count = sum(len(batch) for batch in batches)
        if count < FEWEST_SHOWERS:
            raise TrainingError(
                f"{count} showers to fit to, expected at least {FEWEST_SHOWERS}; give more data"
            )
        stored = max(FEWEST_FIT, FIT_NUMBERS // math.prod(self.detector.shower_shape))
        parts, conditions = zip(*self._spaced(batches, -(-count // stored)), strict=True)
        return count, torch.cat(parts), Conditions.joined(conditions).to_torch()

    def _mark_missing(self, cells: Tensor, condition: Condition) -> None:
        """Make cells of windows that are not in the mesh negative: they differ from cells without energy."""
        if self.window is None:
            return
        for first in range(0, len(cells), FEATURE_ROWS):
            rows = slice(first, first + FEATURE_ROWS)
            position = self.window.frame.position(condition[rows])
            cells[rows] -= 1 - self.window.frame.available(position)

    def _fit_scale(self, batches: Iterable[ShowerBatch], every: int) -> None:
        """Standardise the features of one shower of every few."""
        rows, conditions = [], []
        for cells, own in self._spaced(batches, every):
            split = (torch.split(x, FEATURE_ROWS) for x in (cells, torch.from_numpy(own.energy)))
            rows += [self.features(*part) for part in zip(*split, strict=True)]
            conditions.append(own)
        condition = Conditions.joined(conditions).to_torch()
        assert isinstance(self.generator, CompactGenerator)
        axis = self.generator.axis(condition)
        self.feature_scale.fit(torch.cat(rows), condition.energy, axis)

    def _spaced(self, batches: Iterable[ShowerBatch], every: int) -> Iterator[tuple[Tensor, Conditions]]:
        """One shower of every few: of each batch (n, L, m) in MeV, and their conditions."""
        first = 0
        for batch in batches:
            rows = slice(-first % every, None, every)
            first += len(batch)
            yield self.cells(TrainingBatch.of(batch)[rows]), Conditions.of(batch)[rows]

    def cells(self, batch: TrainingBatch) -> Tensor:
        """Cells of showers above the threshold, of the mesh or of windows, (N, L, m), MeV."""
        showers: Tensor = self.transform.threshold_only(batch.showers)
        if self.window is None:
            return showers.flatten(2)
        return self.window.frame.windows(showers, self.window.frame.position(batch.condition))

    def _showers(self, cells: Tensor, condition: Condition) -> Tensor:
        """Showers (N, *shower_shape) from their cells (N, L, m)."""
        if self.window is None:
            return cells.view(-1, *self.detector.shower_shape)
        return self.window.frame.showers(cells, self.window.frame.position(condition))

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:
        """The updates of `CompactStep` or `PublishedStep`."""
        step = CompactStep(self) if self.compact else PublishedStep(self)
        return step(batch)

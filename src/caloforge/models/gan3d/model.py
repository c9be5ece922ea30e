"""The 3DGAN as a `ShowerModel`: preprocessing, the published training step, generation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.errors import ConfigError
from caloforge.geometry import CartesianMesh, Detector
from caloforge.models.base import Condition, Phase, ShowerModel, TrainingBatch, require_regular_mesh
from caloforge.models.checks import check_between
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.gan3d.losses import measured_angle, percentage_error, spectrum_counts
from caloforge.models.gan3d.network import Discriminator, Generator, count_numbers
from caloforge.models.training_metadata import DataFacts
from caloforge.transforms import PowerScale


class Gan3d(ShowerModel):
    """A generator, and a discriminator that also regresses the incident energy.

    The discriminator is trained on real, then on generated images, with a few labels flipped; then the
    generator is updated twice, each time with new noise. Sum, angle and spectrum are functions of the image
    without weights, so that their terms train the generator only.
    """

    family = "gan3d"
    config: Gan3dConfig

    def __init__(self, config: Gan3dConfig, detector: Detector, facts: DataFacts) -> None:
        """Build both networks for the mesh of the detector.

        Raises:
            ConfigError: The mesh is ragged or does not fit the networks, or has no angle to measure.
        """
        super().__init__(config, detector, facts)
        shape = require_regular_mesh(detector, self.family)
        if config.weights.angle and not isinstance(detector.mesh, CartesianMesh):
            raise ConfigError(
                "model.weights.angle: the angle is measured on cartesian meshes only; set it to 0"
            )
        self.transform = PowerScale(config.cell_unit, config.power, config.cell_threshold)
        self.generator = Generator(config, shape)
        self.discriminator = Discriminator(config, shape)
        # 1.2 to 3 times faster on CPUs with AVX-512 than channels first, and no slower elsewhere
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @classmethod
    def count_numbers(cls, config: Gan3dConfig, detector: Detector, facts: DataFacts) -> int:  # noqa: ARG003
        """See the base class; includes the images between the blocks, which dominate."""
        return count_numbers(config, require_regular_mesh(detector, cls.family))

    def check_weights(self) -> None:
        """See the base class: variances of batch normalisation must not be negative."""
        for name, buffer in self.named_buffers():
            if name.endswith(("running_var", "num_batches_tracked")):
                check_between(name, buffer, 0, math.inf)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise of one shower: (latent,), or (latent - 2,) with concatenated conditions."""
        settings = self.config.generator
        return (settings.latent - 2 * (settings.conditioning == "concatenate"),)

    def optimized(self) -> dict[str, nn.Module]:
        """The generator and the discriminator."""
        return {"discriminator": self.discriminator, "generator": self.generator}

    def sampler(self) -> nn.Module:
        """The generator."""
        return self.generator

    def images(self, condition: Condition, noise: Tensor) -> Tensor:
        """Generated images, (N, Z, Y, X), in image units."""
        images: Tensor = self.generator(condition.energy / self.config.energy_unit, condition.theta, noise)
        # float32: half precision is not enough for sums, powers and percentages
        return images.float()

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Generate showers in MeV, cells below the threshold set to 0."""
        showers: Tensor = self.transform.threshold_only(self.transform.inverse(self.images(condition, noise)))
        return showers

    # ---- training

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:
        """Updates: the discriminator on real and on generated images, then the generator twice."""
        real = self.transform.forward(batch.showers)
        fake_condition = self._fake_condition(batch.condition)
        with torch.no_grad():
            # eval: batch normalisation uses its running statistics, as at generation
            self.generator.eval()
            fake = self.images(fake_condition, self.example_noise(len(real), real.device))
            self.generator.train()
        yield self._discriminator_phase(real, batch.condition, 1.0, "real")
        yield self._discriminator_phase(fake, fake_condition, 0.0, "fake")
        for update in range(self.config.generator_updates):
            if update:
                fake_condition = self._fake_condition(batch.condition)
            yield self._generator_phase(batch, fake_condition)

    def _fake_condition(self, real: Condition) -> Condition:
        """Conditions of generated images: those of the batch, or with new energies."""
        if self.config.fake_conditions == "batch":
            return real
        low, high = self.ranges.energy
        energy = low + (high - low) * torch.rand_like(real.energy)
        return replace(real, energy=energy)

    def _discriminator_phase(self, images: Tensor, condition: Condition, label: float, name: str) -> Phase:
        score, energy = self.discriminator(images)
        flip = torch.rand_like(score, dtype=torch.float32) < self.config.label_flip
        target = torch.where(flip, 1.0 - label, label)
        weights = self.config.weights
        parts = {
            f"d_{name}_bce": F.binary_cross_entropy_with_logits(score.float(), target),
            f"d_{name}_energy": percentage_error(energy.float(), condition.energy / self.config.energy_unit),
        }
        bce, regression = parts.values()
        loss = weights.real_fake * bce + weights.energy * regression
        return Phase("discriminator", loss, _detached(parts | {f"d_{name}_loss": loss}))

    def _generator_phase(self, batch: TrainingBatch, condition: Condition) -> Phase:
        images = self.images(condition, self.example_noise(len(condition), batch.showers.device))
        # gradients flow through the discriminator, but not to its weights
        self.discriminator.requires_grad_(False)
        score, energy = self.discriminator(images)
        self.discriminator.requires_grad_(True)
        visible = self.transform.inverse(images)
        weights = self.config.weights
        total = visible.flatten(1).sum(1)
        parts = {
            "g_bce": F.binary_cross_entropy_with_logits(score.float(), torch.ones_like(score.float())),
            "g_energy": percentage_error(energy.float(), condition.energy / self.config.energy_unit),
            "g_sum": percentage_error(total, self._visible(batch, condition)),
        }
        loss = (
            weights.real_fake * parts["g_bce"]
            + weights.energy * parts["g_energy"]
            + weights.sum * parts["g_sum"]
        )
        if weights.angle:
            parts["g_angle"] = (measured_angle(visible) - measured_angle(batch.showers)).abs().mean()
            loss = loss + weights.angle * parts["g_angle"]
        if weights.spectrum:
            edges = self.config.spectrum_edges
            # empty bins count as one cell, as in the original
            wanted = spectrum_counts(batch.showers, edges).clamp_min(1.0)
            parts["g_spectrum"] = percentage_error(spectrum_counts(visible, edges), wanted)
            loss = loss + weights.spectrum * parts["g_spectrum"]
        empty = (total.detach() <= 0).all()
        return Phase("generator", loss, _detached(parts | {"g_loss": loss}), empty_images=empty)

    def _visible(self, batch: TrainingBatch, condition: Condition) -> Tensor:
        """Target visible energy of the generated showers, (N,) MeV."""
        if self.config.fake_conditions == "batch":
            total: Tensor = self.transform.threshold_only(batch.showers).flatten(1).sum(1)
            return total
        offset, scale = self.facts.response_argument()
        argument = (condition.energy.log() - offset) * scale
        response = torch.zeros_like(argument)
        for coefficient in reversed(self.facts.response_fit):
            response = response * argument + coefficient
        return response * condition.energy


def _detached(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in parts.items()}

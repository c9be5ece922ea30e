"""The training step of the compact networks: energy distance, then also an adversary with a hinge loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caloforge.models.base import Condition, Phase, TrainingBatch
from caloforge.models.gan3d.compact_discriminator import CompactDiscriminator
from caloforge.models.gan3d.compact_generator import CompactGenerator
from caloforge.models.gan3d.energy_distance import energy_distance
from caloforge.models.gan3d.losses import detached, percentage_error, spectrum_error
from caloforge.models.gan3d.physics_features import hit_indicator
from caloforge.models.gan3d.shower_axis import ShowerAxis, repeated

if TYPE_CHECKING:
    from caloforge.models.gan3d.model import Gan3d

# random projections of the features whose energy distance is taken as well, and their width
PROJECTIONS, PROJECTION_SCALE = 200, 3.0
# weight of the mean square of the logarithm of the factors that bring a shower to its sums
SCALE_WEIGHT = 0.3
# the adversarial term grows over so many steps, so that the discriminator can learn first
RAMP = 300


class CompactStep:
    """The discriminator sees real and generated showers in one pass, then the generator is updated.

    For the first `adversarial_after` steps the generator is trained by the energy distance alone.
    """

    def __init__(self, model: Gan3d) -> None:
        """The step of a model with compact networks."""
        self.model, self.config = model, model.config
        generator, discriminator = model.generator, model.discriminator
        assert isinstance(generator, CompactGenerator)
        assert isinstance(discriminator, CompactDiscriminator)
        self.generator, self.discriminator = generator, discriminator

    def __call__(self, batch: TrainingBatch) -> Iterator[Phase]:
        """The updates for one batch."""
        showers = self.model.cells(batch)
        done = int(self.model.steps) - self.config.adversarial_after
        self.model.steps += 1
        if done >= 0:
            yield self._discriminator_phase(showers, batch.condition)
        for _ in range(self.config.generator_updates):
            yield self._generator_phase(showers, batch.condition, min(max(done, 0) / RAMP, 1.0))

    def _generate(self, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        noise = self.model.example_noise(len(condition), condition.energy.device)
        showers, latent, distortion = self.generator(condition, noise)
        return showers.float(), latent.float(), distortion.float()

    def _discriminator_phase(self, real: Tensor, condition: Condition) -> Phase:
        with torch.no_grad():
            fake, _, _ = self._generate(condition)
        both, energy = torch.cat([real, fake]), condition.energy.repeat(2)
        axis = self.generator.axis(condition)
        score, log_energy = self.discriminator(both, (both > 0).float(), energy, repeated(axis))
        of_real, of_fake = score.float().chunk(2)
        parts = {
            "d_hinge": (1 - of_real).relu().mean() + (1 + of_fake).relu().mean(),
            # the energy of real showers is what can be learned without the generator's mistakes
            "d_energy": percentage_error(log_energy.float()[: len(real)].exp(), condition.energy),
        }
        weights = self.config.weights
        loss = parts["d_hinge"] + weights.energy * parts["d_energy"]
        if axis is not None and weights.angle:
            parts["d_angle"] = self._angle_error(real, condition, axis)
            loss = loss + weights.angle * parts["d_angle"]
        return Phase("discriminator", loss, detached(parts | {"d_loss": loss}))

    def _generator_phase(self, real: Tensor, condition: Condition, ramp: float) -> Phase:
        showers, latent, distortion = self._generate(condition)
        weights = self.config.weights
        parts: dict[str, Tensor] = {"g_scale": distortion.mean()}
        loss = SCALE_WEIGHT * parts["g_scale"]
        if weights.energy_distance:
            parts["g_energy_distance"] = self._energy_distance(real, showers, latent, condition)
            loss = loss + weights.energy_distance * parts["g_energy_distance"]
        if ramp:
            # gradients flow through the discriminator, but not to its weights
            self.discriminator.requires_grad_(False)
            axis = self.generator.axis(condition)
            score, log_energy = self.discriminator(showers, hit_indicator(latent), condition.energy, axis)
            parts["g_score"] = -score.float().mean()
            parts["g_energy"] = percentage_error(log_energy.float().exp(), condition.energy)
            loss = loss + ramp * (weights.real_fake * parts["g_score"] + weights.energy * parts["g_energy"])
            if axis is not None and weights.angle:
                parts["g_angle"] = self._angle_error(showers, condition, axis)
                loss = loss + ramp * weights.angle * parts["g_angle"]
            self.discriminator.requires_grad_(True)
        if weights.sum:
            parts["g_sum"] = percentage_error(showers.sum((1, 2)), real.sum((1, 2)))
            loss = loss + weights.sum * parts["g_sum"]
        if weights.spectrum:
            parts["g_spectrum"] = spectrum_error(showers, real, self.config.spectrum_edges)
            loss = loss + weights.spectrum * parts["g_spectrum"]
        empty = (showers.detach() <= 0).all()
        return Phase("generator", loss, detached(parts | {"g_loss": loss}), empty_images=empty)

    def _angle_error(self, showers: Tensor, condition: Condition, axis: ShowerAxis) -> Tensor:
        """Mean absolute error of the theta that the discriminator estimates, rad."""
        estimate: Tensor = self.discriminator.direction(showers, axis).float()
        return (estimate - condition.theta).abs().mean()

    def _energy_distance(self, real: Tensor, fake: Tensor, latent: Tensor, condition: Condition) -> Tensor:
        """Energy distance of single features and of random projections, which see how features vary together.

        Args:
            real: (N, L, m) MeV.
            fake: (N, L, m) MeV, generated under the same conditions.
            latent: (N, L, m) latent variables of the generated cells.
            condition: Of both.

        Returns:
            Scalar: the mean over features, weighted, plus the mean over projections.
        """
        features, scale = self.model.features, self.model.feature_scale
        energy, axis = condition.energy, self.generator.axis(condition)
        with torch.no_grad():
            of_real = scale(features(real, energy), energy, axis)
        of_fake = scale(features(fake, energy, latent), energy, axis)
        size = of_real.shape[1]
        directions = torch.randn(size, PROJECTIONS, device=real.device) * (PROJECTION_SCALE / math.sqrt(size))
        single = (energy_distance(of_fake, of_real) * features.importance).mean()
        projected = energy_distance(of_fake @ directions, of_real @ directions).mean()
        return single + projected

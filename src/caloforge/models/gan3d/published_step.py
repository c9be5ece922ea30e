"""The published training step: cross entropy with label flips, percentage errors, two generator updates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.base import Condition, Phase, TrainingBatch
from caloforge.models.gan3d.losses import detached, image_terms, percentage_error
from caloforge.models.gan3d.network import Discriminator, Generator

if TYPE_CHECKING:
    from caloforge.models.gan3d.model import Gan3d


class PublishedStep:
    """Updates of the discriminator on real, then generated images, and two of the generator.

    A few labels are flipped, and each update of the generator has new noise. Sum, angle and spectrum are
    functions of the image without weights, so that their terms train the generator only.
    """

    def __init__(self, model: Gan3d) -> None:
        """The step of a model with networks of blocks."""
        self.model, self.config = model, model.config
        generator, discriminator = model.generator, model.discriminator
        assert isinstance(generator, Generator)
        assert isinstance(discriminator, Discriminator)
        self.generator, self.discriminator = generator, discriminator

    def __call__(self, batch: TrainingBatch) -> Iterator[Phase]:
        """Updates: the discriminator on real and on generated images, then the generator twice."""
        real = self.model.transform.forward(batch.showers)
        fake_condition = self.fake_condition_of(batch.condition)
        with torch.no_grad():
            # eval: batch normalisation uses its running statistics, as at generation
            self.generator.eval()
            fake = self.model.images(fake_condition, self.model.example_noise(len(real), real.device))
            self.generator.train()
        yield self._discriminator_phase(real, batch.condition, 1.0, "real")
        yield self._discriminator_phase(fake, fake_condition, 0.0, "fake")
        for update in range(self.config.generator_updates):
            if update:
                fake_condition = self.fake_condition_of(batch.condition)
            yield self._generator_phase(batch, fake_condition)

    def fake_condition_of(self, real: Condition) -> Condition:
        """Conditions of generated images: those of the batch, or with new energies."""
        if self.config.fake_conditions == "batch":
            return real
        low, high = self.model.ranges.energy
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
        return Phase("discriminator", loss, detached(parts | {f"d_{name}_loss": loss}))

    def _generator_phase(self, batch: TrainingBatch, condition: Condition) -> Phase:
        images = self.model.images(condition, self.model.example_noise(len(condition), batch.showers.device))
        # gradients flow through the discriminator, but not to its weights
        self.discriminator.requires_grad_(False)
        score, energy = self.discriminator(images)
        self.discriminator.requires_grad_(True)
        visible = self.model.transform.inverse(images)
        weights = self.config.weights
        total = visible.flatten(1).sum(1)
        parts = {
            "g_bce": F.binary_cross_entropy_with_logits(score.float(), torch.ones_like(score.float())),
            "g_energy": percentage_error(energy.float(), condition.energy / self.config.energy_unit),
            "g_sum": percentage_error(total, self.visible_energy(batch, condition)),
        }
        loss = (
            weights.real_fake * parts["g_bce"]
            + weights.energy * parts["g_energy"]
            + weights.sum * parts["g_sum"]
        )
        terms = image_terms(visible, batch.showers, weights, self.config.spectrum_edges)
        for name, term in terms.items():
            loss = loss + getattr(weights, name) * term
        parts |= {f"g_{name}": term for name, term in terms.items()}
        empty = (total.detach() <= 0).all()
        return Phase("generator", loss, detached(parts | {"g_loss": loss}), empty_images=empty)

    def visible_energy(self, batch: TrainingBatch, condition: Condition) -> Tensor:
        """Target visible energy of the generated showers, (N,) MeV."""
        if self.config.fake_conditions == "batch":
            total: Tensor = self.model.transform.threshold_only(batch.showers).flatten(1).sum(1)
            return total
        offset, scale = self.model.facts.response_argument()
        argument = (condition.energy.log() - offset) * scale
        response = torch.zeros_like(argument)
        for coefficient in reversed(self.model.facts.response_fit):
            response = response * argument + coefficient
        return response * condition.energy

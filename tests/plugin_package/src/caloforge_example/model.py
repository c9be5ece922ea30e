import math

import torch
from torch import Tensor, nn

from caloforge.models.base import Condition, ShowerModel, TrainingBatch


class MeanShower(ShowerModel):
    family = "mean-shower"

    def __init__(self, config, detector, facts):
        super().__init__(config, detector, facts)
        self.logits = nn.Parameter(torch.zeros(math.prod(detector.shower_shape)))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (1,)

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        factor = (1 + self.config.spread * noise[:, 0]).clamp_min(0)
        visible = (0.02 * condition.energy * factor).clamp_min(self.config.least_energy)
        showers = visible[:, None] * self.logits.softmax(0)
        return showers.unflatten(1, self.detector.shower_shape)

    def loss(self, batch: TrainingBatch) -> Tensor:
        energy = batch.showers.flatten(1)
        share = energy.sum(0) / energy.sum()
        return -(share * self.logits.log_softmax(0)).sum()

"""Elastic averaging SGD: a force couples the weights of each process to a common centre."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.parallel.base import MultiProcess
from caloforge.training.process_group import Communicator


class Elastic(MultiProcess):
    """Synchronous EASGD (Zhang, Choromanska, LeCun, NIPS 2015, arXiv:1412.6651, equations 5 and 6).

    Every `every` steps, with x_i the weights of process i of p, c the centre and alpha = force / p:

        x_i <- x_i - alpha (x_i - c)        c <- c + alpha sum_i (x_i - c)

    both with the old values. Every process holds a copy of the centre. The centre is the model: it is
    evaluated, saved, averaged and resumed from. Each process keeps the moments of its optimisers.
    """

    def __init__(
        self,
        config: DistributionConfig,
        communicator: Communicator,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """Initialise the centre with the weights of the model."""
        super().__init__(config, communicator, model, optimizers)
        self._centre: dict[int, Tensor] = {id(weight): weight.detach().clone() for weight in self.weights}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Apply the force every `every` steps."""
        if step % self.config.every:
            return
        force = self.config.force
        distance = [weight - self.ema_source(weight) for weight in self.weights]
        for weight, here in zip(self.weights, distance, strict=True):
            weight.sub_(here, alpha=force / self.communicator.world_size)
        self.communicator.all_reduce_mean_(distance)
        for weight, mean in zip(self.weights, distance, strict=True):
            self.ema_source(weight).add_(mean, alpha=force)

    def ema_source(self, weight: Tensor) -> Tensor:
        """The centre."""
        return self._centre.get(id(weight), weight)

    def sync_weights(self) -> None:
        """Replace the weights by the centre."""
        with torch.no_grad():
            for weight in self.weights:
                weight.copy_(self.ema_source(weight))

    def sync_ema(self, ema: nn.Module) -> None:
        """Do nothing: the average follows the centre, which is the same on all processes."""

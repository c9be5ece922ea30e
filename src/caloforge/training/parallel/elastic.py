"""Elastic averaging: processes are drawn to a centre and the centre to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.parallel.base import Together
from caloforge.training.process_group import Processes


class Elastic(Together):
    """Synchronous EASGD (Zhang, Choromanska, LeCun, NIPS 2015, arXiv:1412.6651, equations 5 and 6).

    Every `every` steps, with x_i the weights of process i of p, c the centre and alpha = force / p:

        x_i <- x_i - alpha (x_i - c)        c <- c + alpha sum_i (x_i - c)

    both with the old values. The centre, of which every process holds a copy, is the model: it is what is
    evaluated, stored, averaged and resumed from. Each process keeps the moments of its optimisers.
    """

    def __init__(
        self,
        config: DistributionConfig,
        processes: Processes,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """Begin with the centre where the model is."""
        super().__init__(config, processes, model, optimizers)
        self._centre: dict[int, Tensor] = {id(weight): weight.detach().clone() for weight in self.weights}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Feel the force, if it is time."""
        if step % self.config.every:
            return
        force = self.config.force
        distance = [weight - self.current(weight) for weight in self.weights]
        for weight, here in zip(self.weights, distance, strict=True):
            weight.sub_(here, alpha=force / self.processes.ranks)
        self.processes.mean_(distance)
        for weight, mean in zip(self.weights, distance, strict=True):
            self.current(weight).add_(mean, alpha=force)

    def current(self, weight: Tensor) -> Tensor:
        """The centre."""
        return self._centre.get(id(weight), weight)

    def common_weights(self) -> None:
        """Put the centre into the model."""
        with torch.no_grad():
            for weight in self.weights:
                weight.copy_(self.current(weight))

    def common_average(self, average: nn.Module) -> None:
        """It follows the centre and is the same everywhere."""

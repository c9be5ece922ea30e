"""Means of weights instead of gradients: each process trains alone and they meet now and then."""

from __future__ import annotations

from datetime import timedelta

import torch.distributed as dist
from torch.optim import Optimizer

from caloforge.errors import ConfigError
from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.parallel.base import Together
from caloforge.training.process_group import Processes


class LocalSgd(Together):
    """Weights and running statistics are averaged every `every` steps (Stich, ICLR 2019, arXiv:1805.09767).

    Each process keeps the moments of its optimisers: they follow its own gradients.
    """

    def after_step(self, step: int) -> None:
        """Meet, if it is time."""
        if step % self.config.every == 0:
            self.running.look()
            self.processes.mean_([*self.weights, *self.running.all()])


class Hierarchical(Together):
    """Groups of neighbouring processes average every `every` steps, all of them every `across_every`.

    With one group a node, only the rare mean over all crosses the network. The groups of mpi_learn's
    sub-masters, without masters.
    """

    def __init__(
        self,
        config: DistributionConfig,
        processes: Processes,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """Form the groups; the last one is smaller where the processes do not fill it.

        Raises:
            ConfigError: A single group.
        """
        super().__init__(config, processes, model, optimizers)
        if config.group_size >= processes.ranks:
            raise ConfigError(
                f"training.distribution.group_size: got {config.group_size} for {processes.ranks} processes, "
                "expected less, for more than one group; a single group is kind: local-sgd"
            )
        wait = timedelta(seconds=processes.timeout)
        # every process takes part in the making of every group
        for first in range(0, processes.ranks, config.group_size):
            ranks = list(range(first, min(first + config.group_size, processes.ranks)))
            group = dist.new_group(ranks, timeout=wait)
            if processes.rank in ranks:
                self._group = group

    def after_step(self, step: int) -> None:
        """Meet in the group or with all, if it is time."""
        across = step % self.config.across_every == 0
        if across or step % self.config.every == 0:
            self.running.look()
            held = [*self.weights, *self.running.all()]
            self.processes.mean_(held, None if across else self._group)

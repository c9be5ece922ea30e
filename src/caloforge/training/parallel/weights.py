"""Periodic averaging of weights: local SGD over all processes, or hierarchical in groups."""

from __future__ import annotations

from datetime import timedelta

import torch.distributed as dist
from torch.optim import Optimizer

from caloforge.errors import ConfigError
from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.parallel.base import MultiProcess
from caloforge.training.process_group import Communicator


class LocalSgd(MultiProcess):
    """Local SGD: weights are averaged every `every` steps (Stich, ICLR 2019, arXiv:1805.09767).

    Running statistics are averaged too. Each process keeps the moments of its optimisers.
    """

    def after_step(self, step: int) -> None:
        """Average every `every` steps."""
        if step % self.config.every == 0:
            self.running.find_changed()
            self.communicator.all_reduce_mean_([*self.weights, *self.running.tensors()])


class Hierarchical(MultiProcess):
    """Hierarchical local SGD: averages within groups every `every` steps, over all every `across_every`.

    A group has processes of consecutive ranks. With one group per node only the rarer mean over all processes
    crosses the network. mpi_learn has such groups too, each with a sub-master.
    """

    def __init__(
        self,
        config: DistributionConfig,
        communicator: Communicator,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """Form the groups; the last one may be smaller.

        Raises:
            ConfigError: There would be a single group.
        """
        super().__init__(config, communicator, model, optimizers)
        if config.group_size >= communicator.world_size:
            raise ConfigError(
                f"training.distribution.group_size: got {config.group_size} for {communicator.world_size} "
                "processes, expected less, for more than one group; a single group is kind: local-sgd"
            )
        wait = timedelta(seconds=communicator.timeout)
        # new_group is collective: every process calls it for every group
        for first in range(0, communicator.world_size, config.group_size):
            ranks = list(range(first, min(first + config.group_size, communicator.world_size)))
            group = dist.new_group(ranks, timeout=wait)
            if communicator.rank in ranks:
                self._group = group

    def after_step(self, step: int) -> None:
        """Average in the group or over all processes, if due."""
        across = step % self.config.across_every == 0
        if across or step % self.config.every == 0:
            self.running.find_changed()
            held = [*self.weights, *self.running.tensors()]
            self.communicator.all_reduce_mean_(held, None if across else self._group)

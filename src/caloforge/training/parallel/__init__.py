"""Data-parallel training of one model by several processes: the strategies of `training.distribution`."""

from __future__ import annotations

from torch.optim import Optimizer

from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.parallel.base import ParallelStrategy, SingleProcess
from caloforge.training.parallel.elastic import Elastic
from caloforge.training.parallel.gradients import AllReduce
from caloforge.training.parallel.weights import Hierarchical, LocalSgd
from caloforge.training.process_group import Communicator


def build_strategy(
    config: DistributionConfig,
    communicator: Communicator,
    model: ShowerModel,
    optimizers: dict[str, Optimizer],
) -> ParallelStrategy:
    """Build the configured strategy; the processes must hold the same weights.

    Args:
        config: The `training.distribution` section.
        communicator: The process group.
        model: On its device, with its initial weights or those of a checkpoint.
        optimizers: Optimisers by the name of their part of the model.

    Raises:
        ConfigError: The groups do not fit the number of processes.
    """
    if communicator.world_size == 1:
        return SingleProcess()
    kinds: dict[str, type[AllReduce | LocalSgd | Elastic | Hierarchical]] = {
        "allreduce": AllReduce,
        "local-sgd": LocalSgd,
        "elastic": Elastic,
        "hierarchical": Hierarchical,
    }
    return kinds[config.kind](config, communicator, model, optimizers)


__all__ = ["ParallelStrategy", "build_strategy"]

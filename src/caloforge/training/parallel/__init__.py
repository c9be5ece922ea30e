"""How several processes train one model: the strategies of `training.distribution`."""

from __future__ import annotations

from torch.optim import Optimizer

from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.parallel.base import Alone, Distribution
from caloforge.training.parallel.elastic import Elastic
from caloforge.training.parallel.gradients import AllReduce
from caloforge.training.parallel.weights import Hierarchical, LocalSgd
from caloforge.training.process_group import Processes


def distribute(
    config: DistributionConfig, processes: Processes, model: ShowerModel, optimizers: dict[str, Optimizer]
) -> Distribution:
    """The strategy for these processes, who hold the same weights.

    Args:
        config: Which one.
        processes: Who takes part.
        model: On its device, with its first weights or those of a checkpoint.
        optimizers: Of its parts.

    Raises:
        ConfigError: Groups that do not fit the number of processes.
    """
    if processes.ranks == 1:
        return Alone()
    kinds: dict[str, type[AllReduce | LocalSgd | Elastic | Hierarchical]] = {
        "allreduce": AllReduce,
        "local-sgd": LocalSgd,
        "elastic": Elastic,
        "hierarchical": Hierarchical,
    }
    return kinds[config.kind](config, processes, model, optimizers)


__all__ = ["Distribution", "distribute"]

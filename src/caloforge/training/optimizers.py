"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from caloforge.errors import ConfigError, nearest
from caloforge.models.base import ShowerModel
from caloforge.training.config import OptimizerConfig


def build_optimizers(model: ShowerModel, config: OptimizerConfig) -> dict[str, Optimizer]:
    """Build one optimiser for each trained part of the model, by name.

    Raises:
        ConfigError: `rates` names a part that the model does not have.
    """
    parts = model.optimized()
    for name in config.rates:
        if name not in parts:
            raise ConfigError(
                f"training.optimizer.rates: the model has no part {name!r}. {nearest(name, parts)}"
            )
    return {name: _optimizer(list(part.parameters()), config) for name, part in parts.items()}


def _optimizer(parameters: list[Tensor], config: OptimizerConfig) -> Optimizer:
    common: dict[str, Any] = {
        "lr": config.learning_rate,
        "eps": config.epsilon,
        "weight_decay": config.weight_decay,
    }
    if config.kind == "rmsprop":
        return torch.optim.RMSprop(parameters, alpha=config.decay, momentum=config.momentum, **common)
    kind = torch.optim.Adam if config.kind == "adam" else torch.optim.AdamW
    return kind(parameters, betas=(config.momentum, config.decay), **common)


def learning_rate(config: OptimizerConfig, name: str, step: int, total: int) -> float:
    """Learning rate of a part at a step: linear warm-up, then constant or a cosine decay to `final_share`."""
    rate = config.rates.get(name, config.learning_rate)
    if step < config.warmup_steps:
        return rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return rate
    done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    final = config.final_share
    return rate * (final + (1 - final) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)

"""Optimisers, learning-rate schedules, and the exponential moving average (EMA) of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
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


def make_ema(module: nn.Module) -> nn.Module:
    """Copy a module to hold the average of its weights, without gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update_ema(
    ema: nn.Module,
    module: nn.Module,
    decay: float,
    step: int,
    source: Callable[[Tensor], Tensor] = lambda weight: weight,
) -> None:
    """Move the average towards the weights of a module.

    The decay is min(decay, (1 + step) / (10 + step)): smaller at first, so that the initial weights are soon
    forgotten. Buffers (running statistics) are averages already and are copied.

    Args:
        ema: The average.
        module: The trained module.
        decay: Decay per step.
        step: Step, from 0.
        source: Maps a weight to the tensor that is averaged in its place.
    """
    change = 1 - min(decay, (1 + step) / (10 + step))
    for mean, weight in zip(ema.parameters(), module.parameters(), strict=True):
        mean.lerp_(source(weight), change)
    copy_buffers(ema, module)


@torch.no_grad()
def copy_buffers(ema: nn.Module, module: nn.Module) -> None:
    """Copy the buffers of the module to the average."""
    for copied, buffer in zip(ema.buffers(), module.buffers(), strict=True):
        copied.copy_(buffer)


@contextmanager
def ema_weights(module: nn.Module, ema: nn.Module | None) -> Iterator[None]:
    """Replace the weights of the module by their average inside the context; they stay if `ema` is None.

    On exit weights and buffers are those of before, whatever was fitted inside.
    """
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    if ema is not None:
        module.load_state_dict(ema.state_dict())
    try:
        yield
    finally:
        module.load_state_dict(kept)

"""Exponential moving average (EMA) of the weights that generate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
    """Replace the weights of the module by their average inside the context; no change if `ema` is None."""
    if ema is None:
        yield
        return
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(ema.state_dict())
    try:
        yield
    finally:
        module.load_state_dict(kept)

"""Exponential moving average of the weights that generate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def average_of(module: nn.Module) -> nn.Module:
    """A copy that will hold the average; not trained."""
    average = copy.deepcopy(module)
    return average.requires_grad_(False)


@torch.no_grad()
def update_average(
    average: nn.Module,
    module: nn.Module,
    decay: float,
    step: int,
    current: Callable[[Tensor], Tensor] = lambda weight: weight,
) -> None:
    """Move the average towards the module; early steps count more, so that the first weights are forgotten.

    Running statistics are copied: they are averages already. `current` gives what stands for a weight.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    for mean, weight in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(current(weight), share)
    copy_buffers(average, module)


@torch.no_grad()
def copy_buffers(average: nn.Module, module: nn.Module) -> None:
    """Take the buffers of the module as they are."""
    for copied, buffer in zip(average.buffers(), module.buffers(), strict=True):
        copied.copy_(buffer)


@contextmanager
def swapped(module: nn.Module, average: nn.Module | None) -> Iterator[None]:
    """Put the average in the place of the module's weights for a while."""
    if average is None:
        yield
        return
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(average.state_dict())
    try:
        yield
    finally:
        module.load_state_dict(kept)

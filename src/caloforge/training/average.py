"""Exponential moving average of the weights that generate."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def average_of(module: nn.Module) -> nn.Module:
    """A copy that will hold the average; not trained."""
    average = copy.deepcopy(module)
    return average.requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the module; early steps count more, so that the first weights are forgotten.

    Running statistics are copied: they are averages already.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    for mean, weight in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(weight, share)
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

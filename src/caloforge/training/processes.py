"""What several processes of one training have in common."""

from __future__ import annotations

from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

T = TypeVar("T")


def any_process(accelerator: Accelerator, here: bool) -> bool:
    """Whether any process says so: all must take the same turn."""
    if accelerator.num_processes == 1:
        return here
    flag = torch.tensor(float(here), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum") > 0)


def shared(accelerator: Accelerator, value: T) -> T:
    """What the main process says, on every process."""
    held = [value]
    if accelerator.num_processes > 1:
        broadcast_object_list(held)
    return held[0]


def average_gradients(accelerator: Accelerator, parameters: list[Tensor]) -> None:
    """Mean of the gradients over all processes, as one message; nothing to do for one process."""
    if accelerator.num_processes == 1 or not parameters:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))

"""Interface of the data-parallel strategies, and averaging over processes that they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.optimizers import copy_buffers
from caloforge.training.process_group import Communicator


class ParallelStrategy:
    """How processes keep their models in step.

    The training loop enters `sync_gradients` around each backward pass, calls `after_step` after each batch,
    and enters `consensus` to evaluate or save the model.
    """

    @contextmanager
    def sync_gradients(self, part: str, weight: float) -> Iterator[None]:  # noqa: ARG002
        """Wrap a backward pass; on exit the gradients are those to update with.

        Args:
            part: Name of the optimiser that makes the update.
            weight: Weight of this process in the mean: size of its batch over the mean size of all batches.
        """
        yield

    def after_step(self, step: int) -> None:
        """After all updates of a batch; `step` counts from 1."""

    def ema_source(self, weight: Tensor) -> Tensor:
        """The tensor that the moving average of this weight follows."""
        return weight

    @contextmanager
    def consensus(self, ema: nn.Module | None) -> Iterator[None]:  # noqa: ARG002
        """Inside the context, weights, optimiser states and moving average are equal on all processes."""
        yield


class SingleProcess(ParallelStrategy):
    """Training by a single process: nothing to synchronise."""


class MultiProcess(ParallelStrategy):
    """Base class of the strategies for several processes."""

    def __init__(
        self,
        config: DistributionConfig,
        communicator: Communicator,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """See `build_strategy`."""
        self.config, self.communicator, self.model, self.optimizers = config, communicator, model, optimizers
        self.weights = [
            weight
            for optimizer in optimizers.values()
            for group in optimizer.param_groups
            for weight in group["params"]
        ]
        self.running = RunningBuffers(model, communicator)

    def sync_weights(self) -> None:
        """Replace the weights by their consensus, here the mean over processes."""
        self.communicator.all_reduce_mean_(self.weights)

    def sync_ema(self, ema: nn.Module) -> None:
        """Replace the moving average by its mean over processes, which is the moving average of the mean."""
        self.communicator.all_reduce_mean_(list(ema.parameters()))

    @contextmanager
    def consensus(self, ema: nn.Module | None) -> Iterator[None]:
        """Average over processes inside the context; on exit each process gets its own values back."""
        self.running.find_changed()
        states = [value for optimizer in self.optimizers.values() for value in _states(optimizer)]
        held = [*self.weights, *self.running.tensors(), *states]
        if ema is not None:
            held += [*ema.parameters(), *ema.buffers()]
        own = [tensor.detach().clone() for tensor in held]
        self.sync_weights()
        self.communicator.all_reduce_mean_([*self.running.tensors(), *states])
        if ema is not None:
            self.sync_ema(ema)
            copy_buffers(ema, self.model.sampler())
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, kept in zip(held, own, strict=True):
                    tensor.copy_(kept)


def _states(optimizer: Optimizer) -> list[Tensor]:
    """Moments of an optimiser; step counters are left out, since they are the same on all processes."""
    return [
        value
        for entry in optimizer.state.values()
        for value in entry.values()
        if isinstance(value, Tensor) and value.ndim and value.is_floating_point()
    ]


class RunningBuffers:
    """Running statistics: the floating-point buffers that training steps change.

    They are found by comparison with their initial values. Buffers that are fitted before the training stay
    constant and need no communication.
    """

    def __init__(self, model: nn.Module, communicator: Communicator) -> None:
        """Keep the initial values of all floating-point buffers."""
        self.communicator = communicator
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._first: list[Tensor | None] = [buffer.clone() for buffer in self._buffers]

    def tensors(self) -> list[Tensor]:
        """Buffers found to change so far."""
        return [b for b, first in zip(self._buffers, self._first, strict=True) if first is None]

    def find_changed(self) -> None:
        """Find buffers that have changed on any process."""
        changed = [
            first is not None and not torch.equal(buffer, first)
            for buffer, first in zip(self._buffers, self._first, strict=True)
        ]
        for number, found in enumerate(self.communicator.any_of(changed)):
            if found:
                self._first[number] = None

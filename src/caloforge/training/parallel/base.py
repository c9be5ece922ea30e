"""What a strategy does in a training step, and what the processes hold in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.ema import copy_buffers
from caloforge.training.process_group import Processes


class Distribution:
    """Called by the loop: `gradients` around backward passes, `after_step`, sometimes `agreed`."""

    @contextmanager
    def gradients(self, part: str, weight: float) -> Iterator[None]:  # noqa: ARG002
        """Around a backward pass; when it ends, the gradients are those to step with.

        Args:
            part: Optimiser whose parameters get them.
            weight: Of this process in the mean: showers of its batch over the mean of all batches.
        """
        yield

    def after_step(self, step: int) -> None:
        """After all updates of a batch; `step` counts from 1."""

    def current(self, weight: Tensor) -> Tensor:
        """What the average of the weights follows for this weight."""
        return weight

    @contextmanager
    def agreed(self, average: nn.Module | None) -> Iterator[None]:  # noqa: ARG002
        """Inside, model, optimisers and average hold on every process what all of them agree on."""
        yield


class Alone(Distribution):
    """A single process."""


class Together(Distribution):
    """Base of the strategies of several processes."""

    def __init__(
        self,
        config: DistributionConfig,
        processes: Processes,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """See `distribute`."""
        self.config, self.processes, self.model, self.optimizers = config, processes, model, optimizers
        self.weights = [
            weight
            for optimizer in optimizers.values()
            for group in optimizer.param_groups
            for weight in group["params"]
        ]
        self.running = RunningBuffers(model, processes)

    def common_weights(self) -> None:
        """Put into the model the weights that all agree on."""
        self.processes.mean_(self.weights)

    def common_average(self, average: nn.Module) -> None:
        """Put into the average of the weights what all agree on: the mean of averages follows the mean."""
        self.processes.mean_(list(average.parameters()))

    @contextmanager
    def agreed(self, average: nn.Module | None) -> Iterator[None]:
        """Means over the processes; afterwards each goes on with its own weights and state."""
        self.running.look()
        states = [value for optimizer in self.optimizers.values() for value in _states(optimizer)]
        held = [*self.weights, *self.running.all(), *states]
        if average is not None:
            held += [*average.parameters(), *average.buffers()]
        own = [tensor.detach().clone() for tensor in held]
        self.common_weights()
        self.processes.mean_([*self.running.all(), *states])
        if average is not None:
            self.common_average(average)
            copy_buffers(average, self.model.sampler())
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, kept in zip(held, own, strict=True):
                    tensor.copy_(kept)


def _states(optimizer: Optimizer) -> list[Tensor]:
    """Moments of an optimiser; counters, which are the same everywhere, are left out."""
    return [
        value
        for entry in optimizer.state.values()
        for value in entry.values()
        if isinstance(value, Tensor) and value.ndim and value.is_floating_point()
    ]


class RunningBuffers:
    """The floating buffers that training steps change, found by looking: running means and variances.

    What is fitted before the training is the same everywhere and stays out of the messages.
    """

    def __init__(self, model: nn.Module, processes: Processes) -> None:
        """Note their first values."""
        self.processes = processes
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._first: list[Tensor | None] = [buffer.clone() for buffer in self._buffers]

    def all(self) -> list[Tensor]:
        """Those found so far."""
        return [b for b, first in zip(self._buffers, self._first, strict=True) if first is None]

    def look(self) -> None:
        """Find those that changed since the beginning, on any process."""
        changed = [
            first is not None and not torch.equal(buffer, first)
            for buffer, first in zip(self._buffers, self._first, strict=True)
        ]
        for number, found in enumerate(self.processes.any_of(changed)):
            if found:
                self._first[number] = None

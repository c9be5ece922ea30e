"""Means of gradients, exchanged while the backward pass still computes others.

The idea of PyTorch's DistributedDataParallel (Li et al., VLDB 13 (2020) 3005) without its wrapper, which
allows one forward pass for each backward pass and one loss for all parameters. Here a step has several
phases, each with the parameters of one optimiser: buckets are filled by hooks of these parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from caloforge.models.base import ShowerModel
from caloforge.training.config import DistributionConfig
from caloforge.training.parallel.base import Together
from caloforge.training.process_group import Processes


@dataclass
class Bucket:
    """Gradients that travel in one message.

    Attributes:
        weights: Their parameters.
        flat: The message.
        views: Its parts, in the shapes of the parameters.
        waiting: Parameters whose gradient has not come yet, by identity.
        work: The exchange under way.
    """

    weights: list[Tensor]
    flat: Tensor
    views: list[Tensor]
    waiting: set[int] = field(default_factory=set)
    work: dist.Work | None = None


class AllReduce(Together):
    """Every update is made with the mean of the gradients of all processes: weights stay equal.

    Running statistics (batch norm) are averaged after each step; the statistics a batch is normalised with
    are those of the process's own batch.
    """

    def __init__(
        self,
        config: DistributionConfig,
        processes: Processes,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """Make the buckets; the last parameters come first, since their gradients do."""
        super().__init__(config, processes, model, optimizers)
        limit = int(config.bucket_megabytes * 2**20)
        self._buckets = {name: _buckets(optimizer, limit) for name, optimizer in optimizers.items()}
        self._active: list[Bucket] = []
        self._next = 0
        self._weight = 1.0
        for buckets in self._buckets.values():
            for bucket in buckets:
                for place, weight in enumerate(bucket.weights):
                    weight.register_post_accumulate_grad_hook(self._hook(bucket, place))  # type: ignore[no-untyped-call]

    def _hook(self, bucket: Bucket, place: int) -> Callable[[Tensor], None]:
        def take(weight: Tensor) -> None:
            # a phase of another optimiser may leave gradients here that nobody steps with
            if id(weight) in bucket.waiting and weight.grad is not None:
                torch.mul(weight.grad, self._weight, out=bucket.views[place])
                bucket.waiting.discard(id(weight))
                self._send(complete=True)

        return take

    def _send(self, *, complete: bool) -> None:
        """Start the exchange of the next buckets, in the same order on all processes."""
        while self._next < len(self._active):
            bucket = self._active[self._next]
            if complete and bucket.waiting:
                return
            with self.processes.talk():
                bucket.work = dist.all_reduce(bucket.flat, async_op=True)
            self._next += 1

    @contextmanager
    def gradients(self, part: str, weight: float) -> Iterator[None]:
        """Collect, exchange and write back; a process without a gradient for a parameter leaves it so.

        Which parameters a phase reaches must be the same on all processes.
        """
        self._active, self._next, self._weight = self._buckets[part], 0, weight
        for bucket in self._active:
            bucket.waiting = {id(weight) for weight in bucket.weights}
        try:
            yield
            self._finish()
        finally:
            for bucket in self._active:
                bucket.waiting, bucket.work = set(), None
            self._active = []

    def _finish(self) -> None:
        for bucket in self._active:
            for weight, view in zip(bucket.weights, bucket.views, strict=True):
                if id(weight) in bucket.waiting:
                    view.zero_()
        self._send(complete=False)
        for bucket in self._active:
            assert bucket.work is not None
            with self.processes.clock.stall(self.processes.device), self.processes.talk():
                bucket.work.wait()
            bucket.flat /= self.processes.ranks
            for weight, view in zip(bucket.weights, bucket.views, strict=True):
                if weight.grad is not None:
                    weight.grad.copy_(view)

    def after_step(self, step: int) -> None:  # noqa: ARG002
        """Running statistics of all."""
        self.running.look()
        self.processes.mean_(self.running.all())

    @contextmanager
    def agreed(self, average: nn.Module | None) -> Iterator[None]:  # noqa: ARG002
        """They agree at every step."""
        yield


def _buckets(optimizer: Optimizer, limit: int) -> list[Bucket]:
    """Parameters of an optimiser, the last ones first, in messages of about `limit` bytes of one type."""
    parts: list[list[Tensor]] = []
    size = 0
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in reversed(weights):
        if not parts or size + weight.nbytes > limit or weight.dtype != parts[-1][0].dtype:
            parts.append([])
            size = 0
        parts[-1].append(weight)
        size += weight.nbytes
    buckets = []
    for part in parts:
        flat = torch.zeros(sum(w.numel() for w in part), dtype=part[0].dtype, device=part[0].device)
        pieces = torch.split(flat, [w.numel() for w in part])
        views = [piece.view(w.shape) for piece, w in zip(pieces, part, strict=True)]
        buckets.append(Bucket(part, flat, views))
    return buckets

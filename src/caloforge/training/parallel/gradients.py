"""All-reduce of gradients in buckets, overlapped with the backward pass.

The method of PyTorch's DistributedDataParallel (Li et al., VLDB 13 (2020) 3005) without its wrapper, which
expects one forward pass for each backward pass and one loss for all parameters. Here a step has several
phases, each with the parameters of one optimiser; gradient hooks of these parameters fill the buckets.
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
from caloforge.training.parallel.base import MultiProcess
from caloforge.training.process_group import Communicator


@dataclass
class Bucket:
    """Gradients that are reduced in one message.

    Attributes:
        weights: Parameters of the bucket.
        flat: Their gradients, concatenated: the message.
        views: Views of `flat` in the shapes of the parameters.
        waiting: `id` of the parameters whose gradient is not computed yet.
        work: Handle of the all-reduce in progress.
    """

    weights: list[Tensor]
    flat: Tensor
    views: list[Tensor]
    waiting: set[int] = field(default_factory=set)
    work: dist.Work | None = None


class AllReduce(MultiProcess):
    """Synchronous SGD: every update uses the mean of the gradients of all processes, so weights stay equal.

    Batch norm normalises with the statistics of the process's own batch; running statistics are averaged
    after each step.
    """

    def __init__(
        self,
        config: DistributionConfig,
        communicator: Communicator,
        model: ShowerModel,
        optimizers: dict[str, Optimizer],
    ) -> None:
        """Make the buckets, last parameters first: the backward pass computes their gradients first."""
        super().__init__(config, communicator, model, optimizers)
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
            # phases of other optimisers may leave gradients in these parameters, which are not used
            if id(weight) in bucket.waiting and weight.grad is not None:
                torch.mul(weight.grad, self._weight, out=bucket.views[place])
                bucket.waiting.discard(id(weight))
                self._send(complete=True)

        return take

    def _send(self, *, complete: bool) -> None:
        """Start the all-reduce of the next buckets, in the same order on all processes."""
        while self._next < len(self._active):
            bucket = self._active[self._next]
            if complete and bucket.waiting:
                return
            with self.communicator.collective():
                bucket.work = dist.all_reduce(bucket.flat, async_op=True)
            self._next += 1

    @contextmanager
    def sync_gradients(self, part: str, weight: float) -> Iterator[None]:
        """Collect the gradients, reduce them and write the means back; `grad` that is None stays None.

        A phase must compute gradients of the same parameters on all processes.
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
            with (
                self.communicator.clock.device_wait(self.communicator.device),
                self.communicator.collective(),
            ):
                bucket.work.wait()
            bucket.flat /= self.communicator.world_size
            for weight, view in zip(bucket.weights, bucket.views, strict=True):
                if weight.grad is not None:
                    weight.grad.copy_(view)

    def after_step(self, step: int) -> None:  # noqa: ARG002
        """Average the running statistics."""
        self.running.find_changed()
        self.communicator.all_reduce_mean_(self.running.tensors())

    @contextmanager
    def consensus(self, ema: nn.Module | None) -> Iterator[None]:  # noqa: ARG002
        """Do nothing: the processes agree after every step."""
        yield


def _buckets(optimizer: Optimizer, limit: int) -> list[Bucket]:
    """Divide the parameters of an optimiser, last first, into buckets of a dtype and about `limit` bytes."""
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

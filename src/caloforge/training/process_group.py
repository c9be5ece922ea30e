"""The processes of one training: how they come together, what they say to each other, how they part."""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from caloforge.errors import CaloforgeError, ConfigError, TrainingError
from caloforge.training.heartbeat import Watch
from caloforge.training.launcher import Layout, read_layout
from caloforge.training.rendezvous import meet
from caloforge.training.timers import Clock

T = TypeVar("T")
# bytes of one message where many tensors are averaged
MESSAGE = 2**25
# the interface of a machine to itself
LOOPBACK = "lo"
# words of the errors of gloo and NCCL where it is the others that did not answer
OTHERS_MISSING = re.compile(r"tim(ed ?|e)out|connect|peer|pipe|socket|abort|heartbeat|nccl", re.IGNORECASE)
# seconds that the threads of the exchanges get to put away what they hold before the process ends
LEAVE = 0.2


class Processes:
    """This process among all that train together. Use it as a context manager.

    Attributes:
        accelerator: Accelerate's view of them.
        device: What this process computes on.
        rank: Its number.
        ranks: How many there are.
        first: Whether it is the one that writes and talks.
        local_rank: Its number on its machine.
        again: Whether the launcher has started this job before, and starts it anew after a failure.
        clock: Counts the time spent in exchanges.
    """

    def __init__(self, timeout: float) -> None:
        """Join the others, or find that there are none.

        Args:
            timeout: Seconds after which one that is waited for is given up.

        Raises:
            ConfigError: The environment contradicts itself or names no meeting point.
            TrainingError: Not all processes came.
        """
        layout = read_layout(os.environ)
        self.timeout, self.again = timeout, layout.restarts > 0
        if layout.ranks > 1 and not dist.is_initialized():
            self.again = _connect(layout, timeout)
        self.accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.ranks: int = self.accelerator.num_processes
        self.first = self.rank == 0
        self.local_rank = layout.local_rank
        self.clock = Clock()
        self._watch: Watch | None = None
        self._control: dist.ProcessGroup | None = None
        if self.ranks > 1:
            # flags and figures travel beside the GPU
            if "gloo" not in str(dist.get_backend_config()):
                self._control = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
            self._watch = Watch(dist.distributed_c10d._get_default_store(), self.rank, self.ranks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.stop("" if error is None else str(error) or type(error).__name__)

    # ---- exchanges

    @contextmanager
    def talk(self) -> Iterator[None]:
        """Around an exchange: a failure in it names the process that is missing, or what failed here.

        Raises:
            TrainingError: A process is gone or did not come in time, or this one cannot take part.
        """
        assert self._watch is not None
        self._watch.sign.talks += 1
        try:
            yield
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if not OTHERS_MISSING.search(reason):
                # a fault of this process, which the others hear as its last words
                raise TrainingError(
                    f"process {self.rank}: an exchange with the others failed ({reason})"
                ) from error
            self._watch.sign.waited = True
            raise TrainingError(
                f"process {self.rank} waited for the others in vain (at most {self.timeout:g} s): "
                f"{self._watch.diagnose() or reason}. Continue from the last checkpoint: the same command "
                "with --resume"
            ) from error

    def at_step(self, step: int) -> None:
        """Note the step, for the message of those who miss this process."""
        if self._watch is not None:
            self._watch.sign.step = step

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag whether any process has it: all must take the same turn."""
        if self.ranks == 1:
            return list(flags)
        held = torch.tensor([float(flag) for flag in flags])
        with self.clock.count("communication"), self.talk():
            dist.all_reduce(held, dist.ReduceOp.MAX, group=self._control)
        return [bool(value) for value in held]

    def from_first(self, value: T) -> T:
        """What the first process says, on all; JSON."""
        if self.ranks == 1:
            return value
        text = json.dumps(value).encode() if self.first else b""
        size = torch.tensor(len(text))
        with self.clock.count("communication"), self.talk():
            dist.broadcast(size, 0, group=self._control)
            held = torch.zeros(int(size), dtype=torch.uint8)
            if self.first:
                held.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
            dist.broadcast(held, 0, group=self._control)
        found: T = json.loads(bytes(held.tolist()))
        return found

    def first_does(self, action: Callable[[], Any]) -> None:
        """Let the first process do something; where it cannot, all stop with its error.

        Raises:
            CaloforgeError: Its error.
        """
        failure = None
        if self.first:
            try:
                action()
            except CaloforgeError as error:
                if self.ranks == 1:
                    raise
                failure = error
        words = self.from_first(None if failure is None else str(failure))
        if words is not None:
            raise failure or TrainingError(words)

    def gather(self, table: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The tables (rows, columns) of all processes; only the rows may differ."""
        if self.ranks == 1:
            return [table]
        with self.clock.count("communication"), self.talk():
            rows = [torch.zeros((), dtype=torch.int64) for _ in range(self.ranks)]
            dist.all_gather(rows, torch.tensor(len(table)), group=self._control)
            padded = torch.zeros((max(int(count) for count in rows), table.shape[1]))
            padded[: len(table)] = torch.from_numpy(table)
            parts = [torch.zeros_like(padded) for _ in range(self.ranks)]
            dist.all_gather(parts, padded, group=self._control)
        return [part[: int(count)].numpy() for part, count in zip(parts, rows, strict=True)]

    def mean_(self, tensors: Sequence[Tensor], group: dist.ProcessGroup | None = None) -> None:
        """Replace floating tensors by their means over the processes of a group; all by default."""
        if self.ranks == 1:
            return
        size = dist.get_world_size(group)
        with self.clock.stall(self.device), self.talk(), torch.no_grad():
            for part in _messages(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in part])
                dist.all_reduce(flat, group=group)
                flat /= size
                for tensor, values in zip(part, torch.split(flat, [t.numel() for t in part]), strict=True):
                    tensor.copy_(values.view_as(tensor))

    def same_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.ranks == 1:
            return
        with self.clock.stall(self.device), self.talk(), torch.no_grad():
            for tensor in tensors:
                held = tensor.contiguous()
                # as bytes: gloo knows neither int16 nor others of torch's types
                dist.broadcast(held.reshape(-1).view(torch.uint8), 0)
                tensor.copy_(held)

    def wait_for_all(self, patience: float | None = None) -> None:
        """Return when all processes have come here.

        Args:
            patience: Seconds to wait, where one may have long work; the usual time by default.
        """
        if self.ranks == 1:
            return
        group = self._control
        if patience is not None and patience > self.timeout:
            group = dist.new_group(backend="gloo", timeout=timedelta(seconds=patience))
        with self.clock.count("communication"), self.talk():
            dist.all_reduce(torch.zeros(()), group=group)


def _messages(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type together, in messages of a bounded size."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        part: list[Tensor] = []
        for tensor in tensors:
            if tensor.dtype != dtype:
                continue
            if part and sum(t.nbytes for t in part) + tensor.nbytes > MESSAGE:
                yield part
                part = []
            part.append(tensor)
        if part:
            yield part


def _connect(layout: Layout, timeout: float) -> bool:
    """Make the process group, gloo between CPUs, NCCL between GPUs; whether the job was started before."""
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(_gpu(layout, torch.cuda.device_count()))
        backend = "cpu:gloo,cuda:nccl"
    else:
        _share_cores(layout)
    if layout.on_one_machine and sys.platform == "linux":
        # they need no address that other machines can reach
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, LOOPBACK)
    # what Accelerate reads
    local_ranks = layout.local_ranks or 1
    for name, value in (
        ("RANK", layout.rank),
        ("WORLD_SIZE", layout.ranks),
        ("LOCAL_RANK", layout.local_rank),
        ("LOCAL_WORLD_SIZE", local_ranks),
        ("MASTER_ADDR", layout.address),
        ("MASTER_PORT", layout.port),
    ):
        if value is not None:
            os.environ[name] = str(value)
    meeting = meet(layout, timeout)
    wait = timedelta(seconds=timeout)
    dist.init_process_group(
        backend, timeout=wait, store=meeting.store, rank=layout.rank, world_size=layout.ranks
    )
    atexit.register(_part)
    return meeting.again


def _gpu(layout: Layout, count: int) -> int:
    """Which of the GPUs that this process sees is its own."""
    if count == 1:
        # the launcher has bound it, or there is one process
        return 0
    if layout.local_rank >= count:
        raise ConfigError(
            f"process {layout.local_rank} on this machine has no GPU of its own: there are {count}. Start "
            f"{count} processes a machine, or hide the GPUs (CUDA_VISIBLE_DEVICES=) to train on CPUs"
        )
    return layout.local_rank


def _share_cores(layout: Layout) -> None:
    """Several processes on one machine would each take all its cores."""
    if "OMP_NUM_THREADS" not in os.environ and (layout.local_ranks or 1) > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(1, cores // (layout.local_ranks or 1))
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
        # gloo's threads outlive the group; one that lets go of its last tensors needs the interpreter, and
        # where that is already being taken down it ends the process with "terminate called ..."
        time.sleep(LEAVE)

"""Process group of a distributed training: initialisation, collective operations and their errors."""

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
from caloforge.training.heartbeat import HeartbeatMonitor
from caloforge.training.launcher import LaunchInfo, read_launch_info
from caloforge.training.rendezvous import join_rendezvous
from caloforge.training.timers import Clock

T = TypeVar("T")
# largest message when many tensors are averaged, in bytes
BUCKET_BYTES = 2**25
# name of the loopback interface
LOOPBACK = "lo"
# matches messages of gloo and NCCL about a peer that does not answer
PEER_FAILURE = re.compile(r"tim(ed ?|e)out|connect|peer|pipe|socket|abort|heartbeat|nccl", re.IGNORECASE)
# seconds for gloo's threads to release their tensors before the interpreter shuts down
EXIT_DELAY = 0.2


class Communicator:
    """The process group of a training, seen from one process. Use it as a context manager.

    Every method that communicates must be called by all processes, in the same order. With a single process
    they return their input.

    Attributes:
        accelerator: The Accelerator of Hugging Face Accelerate.
        device: Device of this process.
        rank: Rank of this process.
        world_size: Number of processes.
        is_main: Whether this is rank 0, which writes files and messages.
        local_rank: Rank among the processes on this machine.
        restarted: Whether the launcher has restarted this job after a failure.
        clock: Measures the time spent in communication.
    """

    def __init__(self, timeout: float) -> None:
        """Initialise the process group that the environment describes; none for a single process.

        Args:
            timeout: Longest time to wait for another process, in seconds.

        Raises:
            ConfigError: The environment contradicts itself or gives no address.
            TrainingError: A process is missing.
        """
        launch = read_launch_info(os.environ)
        self.timeout, self.restarted = timeout, launch.restarts > 0
        if launch.world_size > 1 and not dist.is_initialized():
            self.restarted = _init_process_group(launch, timeout)
        self.accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.world_size: int = self.accelerator.num_processes
        self.is_main = self.rank == 0
        self.local_rank = launch.local_rank
        self.clock = Clock()
        self._monitor: HeartbeatMonitor | None = None
        self._cpu_group: dist.ProcessGroup | None = None
        if self.world_size > 1:
            # small values on the CPU go through gloo
            if "gloo" not in str(dist.get_backend_config()):
                self._cpu_group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
            self._monitor = HeartbeatMonitor(
                dist.distributed_c10d._get_default_store(), self.rank, self.world_size
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._monitor is not None:
            self._monitor.stop("" if error is None else str(error) or type(error).__name__)

    # ---- communication

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Wrap a collective operation: on failure the error names the missing process or the local cause.

        Raises:
            TrainingError: Another process has died or timed out, or the operation failed in this one.
        """
        assert self._monitor is not None
        self._monitor.status.collectives += 1
        try:
            yield
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if not PEER_FAILURE.search(reason):
                # a local fault: the others report it as the reason why this process stopped
                raise TrainingError(
                    f"process {self.rank}: a collective operation failed ({reason})"
                ) from error
            self._monitor.status.peers_missing = True
            raise TrainingError(
                f"process {self.rank}: other processes did not answer (limit {self.timeout:g} s): "
                f"{self._monitor.diagnose() or reason}. Continue from the last checkpoint: the same command "
                "with --resume"
            ) from error

    def record_step(self, step: int) -> None:
        """Publish the training step with the heartbeat, for error messages of the other processes."""
        if self._monitor is not None:
            self._monitor.status.step = step

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """Logical or of each flag over all processes, so that all take the same branch."""
        if self.world_size == 1:
            return list(flags)
        held = torch.tensor([float(flag) for flag in flags])
        with self.clock.count("communication"), self.collective():
            dist.all_reduce(held, dist.ReduceOp.MAX, group=self._cpu_group)
        return [bool(value) for value in held]

    def broadcast_value(self, value: T) -> T:
        """The value of rank 0, on all processes; must be JSON-serialisable."""
        if self.world_size == 1:
            return value
        text = json.dumps(value).encode() if self.is_main else b""
        size = torch.tensor(len(text))
        with self.clock.count("communication"), self.collective():
            dist.broadcast(size, 0, group=self._cpu_group)
            held = torch.zeros(int(size), dtype=torch.uint8)
            if self.is_main:
                held.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
            dist.broadcast(held, 0, group=self._cpu_group)
        found: T = json.loads(bytes(held.tolist()))
        return found

    def run_on_main(self, action: Callable[[], Any]) -> None:
        """Run an action on rank 0 only; if it fails, all processes raise its error.

        Raises:
            CaloforgeError: The error of the action.
        """
        failure = None
        if self.is_main:
            try:
                action()
            except CaloforgeError as error:
                if self.world_size == 1:
                    raise
                failure = error
        message = self.broadcast_value(None if failure is None else str(failure))
        if message is not None:
            raise failure or TrainingError(message)

    def all_gather(self, table: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Gather arrays (rows, columns) from all processes; the number of rows may differ."""
        if self.world_size == 1:
            return [table]
        with self.clock.count("communication"), self.collective():
            rows = [torch.zeros((), dtype=torch.int64) for _ in range(self.world_size)]
            dist.all_gather(rows, torch.tensor(len(table)), group=self._cpu_group)
            padded = torch.zeros((max(int(count) for count in rows), table.shape[1]))
            padded[: len(table)] = torch.from_numpy(table)
            parts = [torch.zeros_like(padded) for _ in range(self.world_size)]
            dist.all_gather(parts, padded, group=self._cpu_group)
        return [part[: int(count)].numpy() for part, count in zip(parts, rows, strict=True)]

    def all_reduce_mean_(self, tensors: Sequence[Tensor], group: dist.ProcessGroup | None = None) -> None:
        """Average floating-point tensors in place over a group of processes, by default over all."""
        if self.world_size == 1:
            return
        size = dist.get_world_size(group)
        with self.clock.device_wait(self.device), self.collective(), torch.no_grad():
            for part in _message_buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in part])
                dist.all_reduce(flat, group=group)
                flat /= size
                for tensor, values in zip(part, torch.split(flat, [t.numel() for t in part]), strict=True):
                    tensor.copy_(values.view_as(tensor))

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of rank 0."""
        if self.world_size == 1:
            return
        with self.clock.device_wait(self.device), self.collective(), torch.no_grad():
            for tensor in tensors:
                held = tensor.contiguous()
                # as bytes: gloo supports neither int16 nor several other dtypes
                dist.broadcast(held.reshape(-1).view(torch.uint8), 0)
                tensor.copy_(held)

    def barrier(self, timeout: float = 0.0) -> None:
        """Wait until all processes have called this.

        Args:
            timeout: Longest wait in seconds, at least `self.timeout`; larger if a process may be busy longer.
        """
        if self.world_size == 1:
            return
        group = self._cpu_group
        if timeout > self.timeout:
            group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        with self.clock.count("communication"), self.collective():
            dist.all_reduce(torch.zeros(()), group=group)


def _message_buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors by dtype into messages of at most `BUCKET_BYTES`."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        part: list[Tensor] = []
        for tensor in tensors:
            if tensor.dtype != dtype:
                continue
            if part and sum(t.nbytes for t in part) + tensor.nbytes > BUCKET_BYTES:
                yield part
                part = []
            part.append(tensor)
        if part:
            yield part


def _init_process_group(launch: LaunchInfo, timeout: float) -> bool:
    """Initialise torch.distributed, with gloo for CPU and NCCL for GPU tensors.

    Returns:
        Whether the launcher has restarted the job.
    """
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(_gpu_index(launch, torch.cuda.device_count()))
        backend = "cpu:gloo,cuda:nccl"
    else:
        _limit_threads(launch)
    if launch.on_one_machine and sys.platform == "linux":
        # all traffic stays on this machine
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, LOOPBACK)
    # Accelerate reads these variables
    local_world_size = launch.local_world_size or 1
    for name, value in (
        ("RANK", launch.rank),
        ("WORLD_SIZE", launch.world_size),
        ("LOCAL_RANK", launch.local_rank),
        ("LOCAL_WORLD_SIZE", local_world_size),
        ("MASTER_ADDR", launch.address),
        ("MASTER_PORT", launch.port),
    ):
        if value is not None:
            os.environ[name] = str(value)
    rendezvous = join_rendezvous(launch, timeout)
    wait = timedelta(seconds=timeout)
    dist.init_process_group(
        backend, timeout=wait, store=rendezvous.store, rank=launch.rank, world_size=launch.world_size
    )
    atexit.register(_destroy_process_group)
    return rendezvous.restarted


def _gpu_index(launch: LaunchInfo, count: int) -> int:
    """Index of this process's GPU among those visible to it."""
    if count == 1:
        # the launcher has assigned it, or there is only one process
        return 0
    if launch.local_rank >= count:
        raise ConfigError(
            f"process {launch.local_rank} on this machine has no GPU of its own: there are {count}. Start "
            f"{count} processes a machine, or hide the GPUs (CUDA_VISIBLE_DEVICES=) to train on CPUs"
        )
    return launch.local_rank


def _limit_threads(launch: LaunchInfo) -> None:
    """Divide the cores of the machine among its processes, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" not in os.environ and (launch.local_world_size or 1) > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(1, cores // (launch.local_world_size or 1))
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def _destroy_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
        # gloo's threads outlive the group; one that releases its last tensors while the interpreter shuts
        # down aborts the process with "terminate called ..."
        time.sleep(EXIT_DELAY)

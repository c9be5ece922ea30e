"""A pool of worker processes on the nodes of a Ray cluster, in place of `Pool`.

Each worker is a Ray actor on one core. It runs the same process as a worker of `Pool`, which writes its
blocks to a temporary folder of its node; a finished block is sent to the driver, which writes it to the
folder of the campaign. So the nodes share no disk, and the memory of Ray holds one finished block of each
worker at most.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from caloforge import errors
from caloforge._version import __version__
from caloforge.campaign.parts import block_name
from caloforge.campaign.pool import MAX_TRIES, BlockSize, Interval, Queue, Task, Worker, workers_died
from caloforge.files import write_bytes
from caloforge.provenance import package_version
from caloforge.ray_connection import CAMPAIGN, connected, first_line
from caloforge.signals import handle_signals_again

# how many workers may be lost, with their nodes, with one block
MAX_LOSSES = 10
# seconds after which the number of cores of the cluster is looked up again
RESIZE_SECONDS = 5.0
# seconds without any worker after which the campaign ends
START_SECONDS = 180.0


class BlockWorker:
    """Ray actor that runs one worker process on its node."""

    def __init__(self, job: dict[str, Any], module: str, packages: tuple[str, ...]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="caloforge-"))
        self._job, self._module = {**job, "folder": str(self._folder)}, module
        self._packages = packages
        self._worker: Worker | None = None

    def start(self) -> dict[str, Any]:
        """Start the process; returns its first answer, the node and the versions there."""
        import ray

        versions = {name: package_version(name) for name in self._packages}
        answer = self._answer()
        return {
            **answer,
            "node": ray.get_runtime_context().get_node_id(),
            "versions": {"caloforge": __version__, **versions},
        }

    def run(self, start: int, stop: int) -> tuple[dict[str, Any], bytes]:
        """Make the showers [start, stop): the answer of the process, and the file of the block."""
        if self._worker is None and "version" not in (answer := self._answer()):
            return answer, b""
        assert self._worker is not None
        self._worker.assign(Task((start, stop)))
        answer = self._answer()
        if "block" not in answer:
            return answer, b""
        path = self._folder / block_name(start, stop)
        data = path.read_bytes()
        path.unlink()
        return answer, data

    def stop(self) -> None:
        """End the process and remove its folder."""
        if self._worker is not None:
            self._worker.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self) -> dict[str, Any]:
        """Start the process if there is none, and wait for its next answer."""
        if self._worker is None:
            self._worker = Worker(self._job, self._folder / "worker.log", self._module)
        while True:
            answers = self._worker.answers()
            if answers is None:
                crash = {"crash": self._worker.exit_reason()}
                self._worker.stop()
                self._worker = None
                return crash
            if answers:
                return answers[0]


@dataclass
class _Actor:
    """A worker as the driver sees it.

    Attributes:
        handle: The Ray actor.
        node: Its node; None until it has started.
        task: The block that it works on.
    """

    handle: Any
    node: str | None = None
    task: Task | None = None


class RayPool:
    """Runs the blocks of a campaign on a Ray cluster. Use it as a context manager."""

    def __init__(
        self,
        job: dict[str, Any],
        folder: Path,
        workers: int | None,
        module: str,
        address: str,
        *,
        packages: tuple[str, ...] = (),
        block_size: BlockSize = BlockSize(),  # noqa: B008 - frozen
    ) -> None:
        """Nothing is started before the context is entered.

        Args:
            job: What the workers need to know, as JSON document.
            folder: Where the driver writes the blocks.
            workers: Number of workers; by default one for each core of the cluster, also of nodes that join
                later.
            module: What each worker process runs.
            address: Address of the cluster.
            packages: Distributions that must have one version on all nodes.
            block_size: Limits on the blocks.
        """
        self._job, self._folder, self._wanted = job, folder, workers
        self._module, self._address = module, address
        self._packages, self._block_size = packages, block_size
        # by the reference of what each is doing: starting, or a block
        self._busy: dict[Any, _Actor] = {}
        self._data: dict[Any, Any] = {}
        self._free: list[_Actor] = []
        self._exits = ExitStack()
        self._resized = self._alive = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(connected(self._address, CAMPAIGN))
            handle_signals_again()
            stack.callback(self._stop)
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    @property
    def progress(self) -> tuple[str, ...]:
        """What the display says of the workers: their number, and that of their nodes."""
        working = [actor for actor in (*self._busy.values(), *self._free) if actor.node is not None]
        return (f"{len({actor.node for actor in working})} nodes, {len(working)} workers",)

    def run(self, missing: list[Interval]) -> Iterator[tuple[Interval | None, dict[str, Any]]]:
        """Make the missing showers; see `Pool.run`.

        Raises:
            SimulationError: Workers keep dying or do not start, nodes have other versions, or the cluster is
                lost.
            CaloforgeError: An error that a worker reports.
        """
        import ray

        queue = Queue(missing, 1, self._block_size)
        self._alive = time.monotonic()
        try:
            while queue or any(actor.task for actor in self._busy.values()):
                yield None, {}
                self._resize(queue)
                while queue and self._free:
                    self._assign(self._free.pop(), queue)
                ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=0.2) if self._busy else ([], [])
                for reference in ready:
                    yield from self._process(reference, queue)
        except (ConnectionError, ray.exceptions.RaySystemError) as error:
            raise errors.SimulationError(
                f"--cluster {self._address}: the cluster is lost ({first_line(error)}). Finished blocks are "
                "kept: when it is there again, run the same command with --resume"
            ) from error

    def _resize(self, queue: Queue) -> None:
        """Start workers for cores that have none; end if there are no workers for a long time."""
        import ray

        now = time.monotonic()
        actors = len(self._busy) + len(self._free)
        if any(actor.node for actor in (*self._busy.values(), *self._free)):
            self._alive = now
        elif now - self._alive > START_SECONDS:
            raise errors.SimulationError(
                f"--cluster {self._address}: no worker has started for {START_SECONDS:.0f} s; are its cores "
                "in use (ray status)? Finished blocks are kept: run the same command with --resume"
            )
        if now - self._resized < RESIZE_SECONDS and actors:
            return
        self._resized = now
        wanted = self._wanted or max(1, int(ray.cluster_resources().get("CPU", 0.0)))
        queue.workers = wanted
        remote = ray.remote(BlockWorker).options(num_cpus=1, max_restarts=0)
        for _ in range(wanted - actors):
            handle = remote.remote(self._job, self._module, self._packages)
            self._busy[handle.start.remote()] = _Actor(handle)

    def _assign(self, actor: _Actor, queue: Queue) -> None:
        actor.task = queue.take(actor.handle)
        run = actor.handle.run.options(num_returns=2)
        answer, data = run.remote(*actor.task.interval)
        self._busy[answer], self._data[answer] = actor, data

    def _process(self, reference: Any, queue: Queue) -> Iterator[tuple[Interval | None, dict[str, Any]]]:
        """Process what a worker has finished, and give it the next block."""
        import ray

        actor, data = self._busy.pop(reference), self._data.pop(reference, None)
        task, actor.task = actor.task, None
        try:
            answer: dict[str, Any] = ray.get(reference)
        except ray.exceptions.RayError as error:
            self._lost(task, queue, error)
            return
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        if "crash" in answer:
            self._crashed(task, queue, answer["crash"])
            self._free.append(actor)
            return
        if task is None:
            self._check_versions(answer)
            actor.node = answer["node"]
            self._free.append(actor)
            yield None, answer
            return
        queue.finished(task, answer["seconds"], actor.handle)
        # the worker goes on while its block is fetched
        if queue:
            self._assign(actor, queue)
        else:
            self._free.append(actor)
        try:
            block = ray.get(data)
        except ray.exceptions.RayError as error:
            self._lost(task, queue, error)
            return
        write_bytes(self._folder / block_name(*task.interval), block)
        yield task.interval, answer

    def _lost(self, task: Task | None, queue: Queue, error: Exception) -> None:
        """Put back the block of a worker that was lost with its node."""
        self._resized = 0.0
        if task is None:
            return
        queue.lost(task)
        if task.losses >= MAX_LOSSES:
            start, stop = task.interval
            raise errors.SimulationError(
                f"showers {start} to {stop - 1}: {task.losses} workers or their nodes were lost; the last "
                f"one: {first_line(error)}. Finished blocks are kept: mend the cause (memory of the nodes), "
                "then run the same command with --resume"
            ) from error

    def _crashed(self, task: Task | None, queue: Queue, reason: str) -> None:
        """Put back the block of a process that died, unless `MAX_TRIES` have died on it."""
        if task is None:
            raise errors.SimulationError(f"a worker of the cluster does not start: it {reason}")
        queue.put_back(task)
        if task.tries >= MAX_TRIES:
            raise workers_died(task, reason)

    def _check_versions(self, answer: dict[str, Any]) -> None:
        here = {"caloforge": __version__, **{name: package_version(name) for name in self._packages}}
        there = answer["versions"]
        if different := [name for name in here if there.get(name) != here[name]]:
            name = different[0]
            raise errors.SimulationError(
                f"--cluster {self._address}: a node has {name} {there.get(name)}, this machine has "
                f"{here[name]}; install the same versions on all nodes, so that the showers do not depend on "
                "the node"
            )

    def _stop(self) -> None:
        """End all workers, and their processes."""
        import ray

        actors = [*self._busy.values(), *self._free]
        for actor in actors:
            # the process of a killed worker ends with it
            ray.kill(actor.handle)

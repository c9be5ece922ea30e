"""Groups of Ray actors, each in a placement group; a group runs one job at a time on all its workers."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from caloforge.errors import ConfigError, TuningError
from caloforge.ray_connection import START, connected, first_line
from caloforge.tuning.config import LayoutConfig
from caloforge.tuning.trial import Job, RankInfo, Result, Work

# time limit for the placement of the groups, s
PLACEMENT = 120.0


class Worker:
    """Ray actor that runs one process of a group."""

    def __init__(self) -> None:
        # by job number: a stop request may arrive before its job
        self._stops: dict[int, threading.Event] = {}

    def free_address(self) -> tuple[str, int]:
        """Address of this node and a free port on it."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return host, int(probe.getsockname()[1])

    def has_path(self, mark: Path) -> bool:
        """Whether a file of the study is visible on this node."""
        return mark.exists()

    def process(self) -> int:
        """Process id on the node."""
        return os.getpid()

    def run(self, work: Work, job: Job, rank_info: RankInfo, number: int) -> Result:
        """Run a job until it is done or stopped."""
        return work(job, rank_info, self._stops.setdefault(number, threading.Event()))

    def stop(self, number: int) -> None:
        """Request the early end of a job."""
        self._stops.setdefault(number, threading.Event()).set()


class Group:
    """The workers in a placement group.

    Attributes:
        job: The current job; None if the group is free.
    """

    def __init__(self, placement: Any, layout: LayoutConfig) -> None:
        self._placement, self._layout = placement, layout
        self._workers: list[Any] = []
        self._running: list[Any] = []
        self.job: Job | None = None
        self._jobs, self._stopped = 0, False
        self._failed: Result | None = None
        self.start_workers()

    def start_workers(self) -> None:
        """Start the workers, or restart them after one has died."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.kill_workers()
        self._workers = [
            ray.remote(Worker)
            .options(
                num_cpus=self._layout.cores,
                num_gpus=self._layout.gpus,
                # one thread runs the job, the other receives `stop`
                max_concurrency=2,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._placement, placement_group_bundle_index=index
                ),
            )
            .remote()
            for index in range(self._layout.workers)
        ]

    def kill_workers(self) -> None:
        """Kill the workers."""
        import ray

        for worker in self._workers:
            ray.kill(worker)
        self._workers, self._running, self.job = [], [], None

    @property
    def references(self) -> list[Any]:
        """Object references of the running calls, for `ray.wait`."""
        return list(self._running)

    def processes(self) -> list[int]:
        """Process ids of the workers."""
        import ray

        pids: list[int] = ray.get([worker.process.remote() for worker in self._workers])
        return pids

    def check_folder(self, mark: Path) -> None:
        """Check that all workers can see the folder of the study.

        Raises:
            TuningError: A worker cannot see it, or does not start.
        """
        import ray

        try:
            seen = ray.get([worker.has_path.remote(mark) for worker in self._workers], timeout=START)
        except ray.exceptions.RayError as error:
            raise TuningError(f"the workers do not start: {first_line(error)}") from error
        if not all(seen):
            raise TuningError(
                f"{mark.parent}: not there on a node of the cluster; put the study, its data and -o on a "
                "file system that all nodes share"
            )

    def start(self, work: Work, job: Job) -> None:
        """Start a job."""
        import ray

        self.job, self._stopped = job, False
        self._jobs += 1
        self._running = []
        size = len(self._workers)
        hosts = [("", 0)]
        if size > 1:
            try:
                hosts = ray.get([worker.free_address.remote() for worker in self._workers], timeout=START)
            except ray.exceptions.RayError as error:
                self._failed = Result("lost", reason=f"{DIED} ({type(error).__name__})")
                return
        for rank, (worker, (host, _)) in enumerate(zip(self._workers, hosts, strict=True)):
            before = sum(other == host for other, _ in hosts[:rank])
            rank_info = RankInfo(rank, size, host=hosts[0][0], port=hosts[0][1], local_rank=before)
            self._running.append(worker.run.remote(work, job, rank_info, self._jobs))

    def stop(self) -> None:
        """Request the early end of the job."""
        if not self._stopped:
            self._stopped = True
            for worker in self._workers:
                worker.stop.remote(self._jobs)

    def finished(self) -> Result | None:
        """Result of the job once all workers have ended, after which the group is free; else None.

        If one worker fails, the others are stopped.
        """
        import ray

        if self._failed is not None:
            failed_start, self._failed = self._failed, None
            self.start_workers()
            return failed_start
        done, waiting = ray.wait(self._running, num_returns=len(self._running), timeout=0)
        results = [_result(reference) for reference in done]
        failed = [r for r in results if r.status not in ("done", "stopped")]
        if failed:
            self.stop()
        if waiting and not any(r.status == "lost" and r.reason.startswith(DIED) for r in failed):
            return None
        ranked = dict(zip(done, results, strict=True))
        first = ranked.get(self._running[0])
        # the first failure is the cause; workers that were stopped are a consequence
        result = failed[0] if failed else first
        assert result is not None
        self.job, self._running = None, []
        if result.reason.startswith(DIED):
            self.start_workers()
        return result


DIED = "a worker died"


def _result(reference: Any) -> Result:
    import ray

    try:
        result: Result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return Result("lost", reason=f"{type(error.cause or error).__name__}: {_last_line(error)}")
    except ray.exceptions.RayError as error:
        return Result("lost", reason=f"{DIED} ({type(error).__name__})")
    return result


class Cluster:
    """Ray, local or at an address, with the groups of a study. Use it as a context manager.

    Attributes:
        groups: The groups of workers.
        cores: Total number of cores of the cluster.
    """

    def __init__(self, layout: LayoutConfig, folds_at_once: int | None, address: str | None) -> None:
        """Describe the cluster; entering the context starts it.

        Args:
            layout: Number and size of the groups.
            folds_at_once: Groups per trial; None for as many as the resources allow.
            address: Address of a Ray cluster; without one Ray is started on this machine.
        """
        self.layout, self.address, self._wanted = layout, address, folds_at_once
        self.groups: list[Group] = []
        self.cores = 0.0
        self.folds_at_once = 1
        self._placements: list[Any] = []
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start Ray or connect to it, and place the groups.

        Raises:
            ConfigError: The layout does not fit.
            TuningError: Ray does not start, or does not answer.
        """
        if self.address is None:
            # fail before Ray is started, which takes seconds; GPUs are checked after, since Ray counts them
            there = {"CPU": float(len(os.sched_getaffinity(0))), "GPU": math.inf}
            check_layout(self.layout, there, "this machine")
        with contextlib.ExitStack() as stack:
            stack.enter_context(connected(self.address))
            stack.callback(self._release)
            self._place()
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _release(self) -> None:
        """Release the resources of the groups."""
        import ray

        with contextlib.suppress(Exception):
            for group in self.groups:
                group.kill_workers()
            for placement in self._placements:
                ray.util.remove_placement_group(placement)

    def _place(self) -> None:
        import ray
        from ray.util.placement_group import placement_group

        resources = ray.cluster_resources()
        self.cores = float(resources.get("CPU", 0.0))
        check_layout(self.layout, resources, "this machine" if self.address is None else "the cluster")
        needed = self.layout.groups * self.layout.workers * self.layout.cores
        fitting = max(1, int(self.cores / needed + 1e-9))
        self.folds_at_once = min(self._wanted or fitting, fitting, self.layout.k_folds)
        bundle = {"CPU": self.layout.cores} | ({"GPU": self.layout.gpus} if self.layout.gpus else {})
        self._placements = [
            placement_group([dict(bundle)] * self.layout.workers, strategy="PACK")
            for _ in range(self.layout.groups * self.folds_at_once)
        ]
        try:
            ray.get([placement.ready() for placement in self._placements], timeout=PLACEMENT)
        except ray.exceptions.GetTimeoutError as error:
            raise TuningError(
                f"Ray has not placed {len(self._placements)} groups of {self.layout.workers} workers with "
                f"{bundle} each within {PLACEMENT:.0f} s; other jobs may use the cluster (ray status)"
            ) from error
        self.groups = [Group(placement, self.layout) for placement in self._placements]

    def wait(self, seconds: float) -> None:
        """Wait until a worker has ended its job, at most this many seconds."""
        import ray

        references = [reference for group in self.groups for reference in group.references]
        if references:
            ray.wait(references, num_returns=1, timeout=seconds)
        else:
            threading.Event().wait(seconds)


def check_layout(layout: LayoutConfig, resources: Mapping[str, float], where: str) -> None:
    """Check that the resources are sufficient for a layout.

    Raises:
        ConfigError: They are not; with a layout that fits.
    """
    for name, each, word in (("CPU", layout.cores, "cores"), ("GPU", layout.gpus, "gpus")):
        there = float(resources.get(name, 0.0))
        needed = layout.groups * layout.workers * each
        if needed <= there + 1e-9:
            continue
        processes = int(there / each + 1e-9)
        if not processes:
            raise ConfigError(f"layout.{word}: a worker needs {each:g}, {where} has {there:g}")
        workers = min(layout.workers, processes)
        raise ConfigError(
            f"layout: {layout.groups} groups x {layout.workers} workers x {each:g} {word} need {needed:g} "
            f"{word}, {where} has {there:g}; what fits is groups: {processes // workers}, workers: {workers}"
        )


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]

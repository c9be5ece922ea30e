"""Projection of the time of an epoch on many processes from the times of a step on one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from caloforge.timing.scaling.allreduce import Network

Scaling = Literal["weak", "strong"]


@dataclass(frozen=True)
class Workload:
    """Cost of a training; all times are of one process.

    Attributes:
        showers: Showers per epoch.
        batch: Showers per step and process.
        per_step: Computing time of a step independent of the batch, s.
        per_shower: Computing time per shower of the batch, s.
        jitter: Relative standard deviation of the computing time of a step; the slowest process determines
            the time.
        messages: Bytes of each all-reduce of a step.
        input_per_shower: Time per shower that a step waits for input, s.
        storage: Throughput of the shared disk, showers/s; reading overlaps with computing.
        validation_showers: Showers evaluated after each epoch.
        validation_per_shower: Time to evaluate a shower, s.
        sharded: Whether the processes divide the evaluation, or rank 0 does all of it.
    """

    showers: int
    batch: int
    per_step: float = 0.0
    per_shower: float = 0.0
    jitter: float = 0.0
    messages: tuple[float, ...] = ()
    input_per_shower: float = 0.0
    storage: float = math.inf
    validation_showers: int = 0
    validation_per_shower: float = 0.0
    sharded: bool = True


@dataclass(frozen=True)
class Epoch:
    """Time of an epoch by activity, in s.

    Attributes:
        processes: Number of processes.
        steps: Number of steps; the last one counts in full.
        compute: Computing time, of the slowest process in each step.
        communication: All-reduces.
        input: Waiting for showers.
        validation: Evaluation after the epoch.
    """

    processes: int
    steps: int
    compute: float
    communication: float
    input: float
    validation: float

    @property
    def seconds(self) -> float:
        """Total time."""
        return self.compute + self.communication + self.input + self.validation


def epoch(work: Workload, network: Network, processes: int) -> Epoch:
    """Project an epoch on a number of processes, each with the batch of the workload."""
    steps = math.ceil(work.showers / (work.batch * processes))
    compute = steps * (work.per_step + work.batch * work.per_shower)
    compute *= 1 + work.jitter * expected_maximum(processes)
    communication = steps * network.step(work.messages, processes)
    waiting = steps * work.batch * work.input_per_shower
    late = work.showers / work.storage - compute - communication - waiting
    evaluators = processes if work.sharded else 1
    evaluated = math.ceil(work.validation_showers / evaluators)
    return Epoch(
        processes,
        steps,
        compute,
        communication,
        waiting + max(0.0, late),
        evaluated * work.validation_per_shower,
    )


def expected_maximum(processes: int) -> float:
    """Expected maximum of this many standard normal numbers: the delay of the slowest process.

    Blom's approximation (Statistical Estimates and Transformed Beta-Variables, 1958); accurate to 0.03.
    """
    if processes == 1:
        return 0.0
    return NormalDist().inv_cdf((processes - 0.375) / (processes + 0.25))


def project(
    work: Workload, network: Network, processes: Iterable[int], scaling: Scaling = "weak"
) -> list[Epoch]:
    """Epochs on growing numbers of processes.

    Args:
        work: Cost of the training on one process.
        network: Connections of the cluster.
        processes: Numbers of processes.
        scaling: "weak" keeps the batch per process; "strong" keeps the total batch, that of the workload, and
            leaves out numbers of processes above it.
    """
    if scaling == "weak":
        return [epoch(work, network, count) for count in processes]
    return [
        epoch(replace(work, batch=max(1, round(work.batch / count))), network, count)
        for count in processes
        if count <= work.batch
    ]


def speedup(epochs: list[Epoch]) -> list[float]:
    """Speed-up of each epoch over one process, if the first one scales perfectly."""
    first = epochs[0]
    return [first.processes * first.seconds / found.seconds for found in epochs]

"""From what a step takes on one process to what an epoch takes on many."""

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
    """A training, in numbers; every time is that of one process.

    Attributes:
        showers: Of an epoch.
        batch: Showers of a step and process.
        per_step: Computing of a step that does not depend on the batch, s.
        per_shower: Computing for each shower of the batch, s.
        jitter: Relative standard deviation of the computing of a step; the slowest process sets the pace.
        messages: Bytes of every all-reduce of a step.
        input_per_shower: Reading that the step waits for, s.
        storage: Showers/s that the shared disk gives, hidden behind the computing as far as that goes.
        validation_showers: Judged after each epoch.
        validation_per_shower: s.
        sharded: Whether every process judges its share, or the first one all of them.
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
    """An epoch, and what its time goes into; all in s.

    Attributes:
        processes: How many.
        steps: Of the epoch; the last one may be smaller, and takes as long as the others.
        compute: The slowest process of each step.
        communication: All-reduces.
        input: Waiting for showers.
        validation: After the epoch.
    """

    processes: int
    steps: int
    compute: float
    communication: float
    input: float
    validation: float

    @property
    def seconds(self) -> float:
        """Of the whole epoch."""
        return self.compute + self.communication + self.input + self.validation


def epoch(work: Workload, network: Network, processes: int) -> Epoch:
    """An epoch on so many processes, every one with the batch of the workload."""
    steps = math.ceil(work.showers / (work.batch * processes))
    compute = steps * (work.per_step + work.batch * work.per_shower)
    compute *= 1 + work.jitter * slowest_of(processes)
    communication = steps * network.step(work.messages, processes)
    waiting = steps * work.batch * work.input_per_shower
    late = work.showers / work.storage - compute - communication - waiting
    share = processes if work.sharded else 1
    judged = math.ceil(work.validation_showers / share)
    return Epoch(
        processes,
        steps,
        compute,
        communication,
        waiting + max(0.0, late),
        judged * work.validation_per_shower,
    )


def slowest_of(processes: int) -> float:
    """By how many standard deviations the slowest of so many is late, on average.

    Blom's approximation to the largest of normal numbers (Statistical Estimates and Transformed
    Beta-Variables, 1958); right to 0.03 for any number.
    """
    if processes == 1:
        return 0.0
    return NormalDist().inv_cdf((processes - 0.375) / (processes + 0.25))


def project(
    work: Workload, network: Network, processes: Iterable[int], scaling: Scaling = "weak"
) -> list[Epoch]:
    """Epochs on growing numbers of processes.

    Args:
        work: What one process does.
        network: Between them.
        processes: How many.
        scaling: "weak" keeps the batch of a process, "strong" the batch of all processes together: that of
            the workload, dealt out; processes that would get none are left out.
    """
    if scaling == "weak":
        return [epoch(work, network, count) for count in processes]
    return [
        epoch(replace(work, batch=max(1, round(work.batch / count))), network, count)
        for count in processes
        if count <= work.batch
    ]


def speedup(epochs: list[Epoch]) -> list[float]:
    """How many times as fast as the first, times the processes of that."""
    first = epochs[0]
    return [first.processes * first.seconds / found.seconds for found in epochs]

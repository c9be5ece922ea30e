"""Measured times of trainings on one and several processes of this machine, by activity."""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge.errors import ConfigError, TrainingError
from caloforge.timing.scaling.allreduce import Link, fit
from caloforge.timing.scaling.projection import Scaling
from caloforge.timing.timed_process import THREAD_VARIABLES

# time limit of a measurement, s
LIMIT = 1800.0
# characters of the error output of a failed process that are quoted
MAX_ERROR_TEXT = 600
# message sizes in bytes to measure the connection with
SIZES = tuple(4**power for power in range(5, 13))


@dataclass(frozen=True)
class TrainingTimes:
    """Times of a training, in s per step unless stated otherwise, averaged over the processes.

    Attributes:
        processes: Number of processes.
        batch: Showers per step and process.
        compute: Computing.
        communication: Waiting for other processes.
        input: Waiting for showers.
        validation: Time of one evaluation, s.
        jitter: Relative spread of the time of a step: half the distance from the 16th to the 84th percentile.
        messages: Bytes of each all-reduce.
    """

    processes: int
    batch: int
    compute: float
    communication: float
    input: float
    validation: float
    jitter: float
    messages: tuple[int, ...]

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.compute + self.communication + self.input

    @property
    def rate(self) -> float:
        """Showers/s of all processes together, without evaluations."""
        return self.processes * self.batch / self.step


def available() -> int:
    """Number of GPUs, or of cores if there is no GPU: the most processes that do not share one."""
    import torch

    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def layouts(processes: int | None) -> list[int]:
    """Numbers of processes to measure: 1, 2, 4, ... and the largest.

    Args:
        processes: The largest; by default 2, or 1 on a machine with a single core.

    Raises:
        ConfigError: More processes than GPUs or cores.
    """
    most = available()
    if processes is None:
        processes = min(2, most)
    if not 1 <= processes <= most:
        raise ConfigError(
            f"--processes {processes}: this machine has {most} cores or GPUs, and processes that share one "
            f"would measure how they wait for it; expected 1 to {most}"
        )
    counts = {2**power for power in range(processes.bit_length()) if 2**power <= processes}
    return sorted(counts | {processes})


def batches(batch: int, counts: list[int]) -> dict[tuple[int, int], list[Scaling]]:
    """Processes and batch size of each training to measure, and the kinds of scaling that use it.

    One process also trains with the smallest batch: the difference gives the cost of a step that does not
    depend on the batch.

    Raises:
        ConfigError: The batch is too small to be divided.
    """
    if batch // counts[-1] < 2:
        raise ConfigError(
            f"training.batch_size {batch}: divided among {counts[-1]} processes that is less than 2 showers "
            f"for each; expected {2 * counts[-1]} or more"
        )
    found: dict[tuple[int, int], list[Scaling]] = {}
    for count in counts:
        found.setdefault((count, batch), []).append("weak")
        found.setdefault((count, batch // count), []).append("strong")
    found.setdefault((1, batch // max(counts[-1], 2)), [])
    return found


def measure_training(
    run: dict[str, Any], data: Path, processes: int, batch: int, steps: int, seed: int
) -> TrainingTimes:
    """Train for some steps with one thread per process and measure the times.

    Args:
        run: Model and training sections of a run.
        data: The shower file.
        processes: Number of processes.
        batch: Showers per step and process.
        steps: Steps to measure.
        seed: Seed of the weights and the order of showers.

    Raises:
        TrainingError: A process failed, or the training took too long.
    """
    settings = {"batch_size": batch, "threads": 1, "trackers": []}
    # evaluate and save once, at the end
    evaluation = {**run["training"]["evaluation"], "every_epochs": 1e6, "patience": None}
    sections = {**run, "training": {**run["training"], **settings, "evaluation": evaluation}}
    job = {"kind": "training", "run": sections, "data": str(data), "steps": steps, "seed": seed}
    answers = launch(job, processes)

    def mean(kind: str) -> float:
        return statistics.fmean(answer[kind] for answer in answers)

    return TrainingTimes(
        processes,
        batch,
        mean("compute") / steps,
        mean("communication") / steps,
        mean("input") / steps,
        mean("evaluation"),
        statistics.fmean(_relative_spread(answer["stamps"]) for answer in answers),
        tuple(answers[0]["messages"]),
    )


def _relative_spread(stamps: list[float]) -> float:
    """Relative spread of the times of steps, from their end times; 0 for fewer than four steps."""
    steps = [after - before for before, after in itertools.pairwise(stamps)]
    if len(steps) < 4:
        return 0.0
    low, middle, high = (statistics.quantiles(steps, n=100)[place - 1] for place in (16, 50, 84))
    return (high - low) / 2 / middle


def measure_link(processes: int) -> tuple[Link, list[float]]:
    """Measure the connection between processes of this machine; also the times that it was fitted to."""
    answers = launch({"kind": "messages", "sizes": list(SIZES)}, processes)
    slowest = [max(times) for times in zip(*(answer["seconds"] for answer in answers), strict=True)]
    return fit([float(size) for size in SIZES], slowest, processes), slowest


def launch(job: dict[str, Any], processes: int) -> list[dict[str, Any]]:
    """Run the worker in several processes with torchrun; returns the answer of each.

    Args:
        job: See `worker`.
        processes: Number of processes.

    Raises:
        TrainingError: A process failed, or it took too long.
    """
    threads = dict.fromkeys(THREAD_VARIABLES, "1")
    with tempfile.TemporaryDirectory(prefix="caloforge-") as name, tempfile.TemporaryFile() as words:
        path = Path(name) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", "-m", "caloforge.timing.scaling.worker", str(path)]
        process = subprocess.Popen(  # noqa: S603 - without a shell
            command, stdout=words, stderr=words, env={**os.environ, **threads}, start_new_session=True
        )
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired as error:
            raise TrainingError(f"{processes} process(es): not done after {LIMIT:.0f} s") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        answers = [json.loads(file.read_text("utf-8")) for file in sorted(path.parent.glob("rank-*.json"))]
        if status or len(answers) < processes:
            words.seek(0)
            last = " ".join(words.read().decode("utf-8", "replace").split())[-MAX_ERROR_TEXT:]
            problem = next((answer["error"] for answer in answers if "error" in answer), last)
            raise TrainingError(f"{processes} process(es) ended with status {status}: {problem}")
        return answers

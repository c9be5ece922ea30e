"""One fold of a trial: runs `train` and, if the objectives need it, `generate` and `validate`."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caloforge.errors import ConfigError
from caloforge.files import write_text
from caloforge.run import load_run
from caloforge.run_directory import CHECKPOINTS, RUN
from caloforge.tuning.objective import (
    MERIT,
    Value,
    merit_of,
    needs_classifier,
    needs_validation,
    read_figures,
)
from caloforge.tuning.verb_processes import JobStatus, NotDoneError, VerbRunner, command_line, exclusive_lock

RESULT, LOG = "result.json", "trial.log"


@dataclass(frozen=True)
class Job:
    """The work of a group of processes for one fold of one trial.

    Attributes:
        trial: Number of the trial.
        fold: Number of the fold.
        folder: The run directory to fill; run.yaml is in its parent folder.
        values: Parameter values of the trial.
        data: Shower file to train on.
        part: [f, k] as in `EvaluationConfig.fold`; None for the split of the run.
        held_out: Shower file with the held-out showers; None if no objective needs it.
        figures: The objectives.
        seed: Seed of the training.
        start: Model directory whose weights the training starts from.
        threads: Threads of each process.
    """

    trial: int
    fold: int
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    data: Path = Path()
    part: tuple[int, int] | None = None
    held_out: Path | None = None
    figures: tuple[str, ...] = (MERIT,)
    seed: int = 0
    start: Path | None = None
    threads: int = 1


@dataclass(frozen=True)
class RankInfo:
    """Rank of a process in its group, number of processes, and rendezvous address."""

    rank: int = 0
    world_size: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    local_rank: int = 0

    def environment(self) -> dict[str, str]:
        """Environment variables for torch.distributed; empty for a single process."""
        if self.world_size == 1:
            return {}
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
        }


@dataclass(frozen=True)
class Result:
    """Result of a job.

    Attributes:
        status: How it ended, see `JobStatus`.
        figures: The objectives of a job that is done.
        reason: Why it was not completed.
        seconds: Wall time of this attempt.
    """

    status: JobStatus
    figures: dict[str, Value] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


Work = Callable[[Job, RankInfo, threading.Event], Result]


def train_fold(job: Job, rank_info: RankInfo, stop: threading.Event) -> Result:
    """Run a job as one process of a group; rank 0 returns the figures.

    Args:
        job: The job.
        rank_info: Which process of the group this is.
        stop: When set, the job saves and ends early.
    """
    start = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    verbs = VerbRunner(job.folder / f"{rank_info.rank}-{LOG}", job.threads, rank_info.environment(), stop)
    try:
        if rank_info.rank > 0:
            verbs.run(*_training(job))
            return Result("done", seconds=time.monotonic() - start)
        with exclusive_lock(job.folder, stop) as lock:
            figures = _figures(job, dataclasses.replace(verbs, lock=lock))
    except NotDoneError as error:
        return Result(error.status, reason=str(error), seconds=time.monotonic() - start)
    result = Result("done", figures, seconds=time.monotonic() - start)
    write_result(job.folder, result)
    return result


def write_result(folder: Path, result: Result) -> None:
    """Save a result for a resumed search."""
    document = {"figures": result.figures, "seconds": result.seconds}
    write_text(folder / RESULT, json.dumps(document))


def read_result(folder: Path) -> Result | None:
    """Read the saved result of a job; None if it was not completed."""
    try:
        document = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        figures = {name: Value(*value) for name, value in document["figures"].items()}
        return Result("done", figures, seconds=float(document["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _training(job: Job) -> list[str]:
    resume = any((job.folder / CHECKPOINTS).glob("step-*"))
    fold = None if job.part is None else f"training.evaluation.fold={list(job.part)}"
    start = None if resume else job.start
    how = command_line(seed=job.seed, resume=resume, force=not resume, set=fold, start=start)
    run = job.folder.parent / RUN
    return ["train", str(run), "--data", str(job.data), "-o", str(job.folder), "--no-progress", *how]


def _figures(job: Job, verbs: VerbRunner) -> dict[str, Value]:
    verbs.run(*_training(job))
    figures = {}
    if MERIT in job.figures:
        merit = merit_of(job.folder, load_run(job.folder.parent / RUN).training.evaluation)
        if not math.isfinite(merit):
            raise NotDoneError("numeric", f"the merit is {merit}")
        figures[MERIT] = Value(merit, math.nan)
    if needs_validation(job.figures):
        assert job.held_out is not None
        # a single process: the other ranks have ended
        single = dataclasses.replace(verbs, environment={})
        report = job.folder / "validation"
        figures |= generate_and_validate(job.folder, job.held_out, report, job.figures, job.seed, single)
    shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)
    return {name: figures[name] for name in job.figures}


def generate_and_validate(
    model: Path, truth: Path, report: Path, figures: Sequence[str], seed: int, verbs: VerbRunner
) -> dict[str, Value]:
    """Generate showers like those of a file and compare them with it.

    Args:
        model: A run or model directory.
        truth: The shower file.
        report: Report directory to create or replace.
        figures: Names of the figures to read from the report.
        seed: Seed of the noise.
        verbs: Runs both verbs.

    Raises:
        NotDoneError: A verb failed or was stopped, or a figure is missing or not finite.
    """
    generated = report.with_name(f"{report.name}.h5")
    how = command_line(backend="torch", precision="fp32", seed=seed, threads=verbs.threads, force=True)
    verbs.run("generate", str(model), "-o", str(generated), "--like", str(truth), "--no-progress", *how)
    how = command_line(
        workers=verbs.threads, no_classifier=not needs_classifier(figures), no_pdf=True, no_progress=True
    )
    shutil.rmtree(report, ignore_errors=True)
    verbs.run("validate", str(truth), str(generated), "-o", str(report), "--allow-undecided", *how)
    generated.unlink(missing_ok=True)
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    try:
        found = read_figures(figures, metrics)
    except ConfigError as error:
        raise NotDoneError("refused", str(error)) from error
    for name, (value, _) in found.items():
        if not math.isfinite(value):
            raise NotDoneError("numeric", f"{name} is {value}")
    return found

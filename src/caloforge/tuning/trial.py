"""One fold of one trial: train, and where the objectives ask for it generate and validate, by the verbs."""

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
from caloforge.tuning.verb_processes import Ending, NotDoneError, Verbs, alone_in, command_line

RESULT, LOG = "result.json", "trial.log"


@dataclass(frozen=True)
class Job:
    """What one group does for one fold of one trial.

    Attributes:
        trial: Number of the trial.
        fold: Number of the fold.
        folder: The run directory to fill; the run lies in the folder above it.
        values: The point of the space.
        data: Shower file to train on.
        part: [f, k] as in `EvaluationConfig.fold`; None for what the run holds out.
        held: Shower file with what the training holds out; None where no objective needs it.
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
    held: Path | None = None
    figures: tuple[str, ...] = (MERIT,)
    seed: int = 0
    start: Path | None = None
    threads: int = 1


@dataclass(frozen=True)
class Seat:
    """A process's place in its group: its rank, their number, and where they meet."""

    rank: int = 0
    size: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    local_rank: int = 0

    def environment(self) -> dict[str, str]:
        """What torch.distributed reads; nothing for a process alone."""
        if self.size == 1:
            return {}
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
        }


@dataclass(frozen=True)
class Result:
    """How a job ended.

    Attributes:
        ending: See `Ending`.
        figures: The objectives of a job that is done.
        reason: Why it is not done.
        seconds: Wall time of this attempt.
    """

    ending: Ending
    figures: dict[str, Value] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


Work = Callable[[Job, Seat, threading.Event], Result]


def train_fold(job: Job, seat: Seat, stop: threading.Event) -> Result:
    """Train, and judge, as one process of a group; the first one has the result.

    Args:
        job: What to do.
        seat: Which process of the group this is.
        stop: Set by whoever wants it to end early; everything is then saved.
    """
    start = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    verbs = Verbs(job.folder / f"{seat.rank}-{LOG}", job.threads, seat.environment(), stop)
    try:
        if seat.rank > 0:
            verbs.run(*_training(job))
            return Result("done", seconds=time.monotonic() - start)
        with alone_in(job.folder, stop) as lock:
            figures = _figures(job, dataclasses.replace(verbs, lock=lock))
    except NotDoneError as error:
        return Result(error.ending, reason=str(error), seconds=time.monotonic() - start)
    result = Result("done", figures, seconds=time.monotonic() - start)
    write_result(job.folder, result)
    return result


def write_result(folder: Path, result: Result) -> None:
    """Keep a result where a resumed search finds it."""
    document = {"figures": result.figures, "seconds": result.seconds}
    write_text(folder / RESULT, json.dumps(document))


def read_result(folder: Path) -> Result | None:
    """The result of a job that was done before the search was interrupted."""
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


def _figures(job: Job, verbs: Verbs) -> dict[str, Value]:
    verbs.run(*_training(job))
    figures = {}
    if MERIT in job.figures:
        merit = merit_of(job.folder, load_run(job.folder.parent / RUN).training.evaluation)
        if not math.isfinite(merit):
            raise NotDoneError("numeric", f"the merit is {merit}")
        figures[MERIT] = Value(merit, math.nan)
    if needs_validation(job.figures):
        assert job.held is not None
        # the others of the group are done
        alone = dataclasses.replace(verbs, environment={})
        figures |= judge(job.folder, job.held, job.folder / "validation", job.figures, job.seed, alone)
    shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)
    return {name: figures[name] for name in job.figures}


def judge(
    model: Path, truth: Path, report: Path, figures: Sequence[str], seed: int, verbs: Verbs
) -> dict[str, Value]:
    """Generate showers like those of a file and compare them with it.

    Args:
        model: A run or model directory.
        truth: The shower file.
        report: Report directory to make or replace.
        figures: What is wanted of it.
        seed: Of the noise.
        verbs: Runs both.

    Raises:
        NotDoneError: One of them failed or was stopped, or a figure is not there or not finite.
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

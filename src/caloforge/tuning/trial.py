"""One fold of one trial: train, and where the objectives ask for it generate and validate, by the verbs."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from caloforge.errors import ConfigError
from caloforge.files import write_text
from caloforge.run import load_run
from caloforge.tuning.objective import CLASSIFIER, MERIT, Value, merit_of, needs_validation, read_figures

RESULT, LOG, RUN = "result.json", "trial.log", "run.yaml"
# seconds that a process has to save and leave before it is killed
GRACE = 60.0
POLL = 0.1
# how a job ended: "lost" may go well from where it stands, "numeric" with another seed, "refused" never
Ending = Literal["done", "stopped", "lost", "numeric", "refused"]
_ENDINGS: dict[str, Ending] = {
    "TrainingError": "numeric",
    "ConfigError": "refused",
    "GeometryError": "refused",
    "DataError": "refused",
    "ModelError": "refused",
    "MissingDependencyError": "refused",
}


@dataclass(frozen=True)
class Job:
    """What one group does for one fold of one trial.

    Attributes:
        trial: Number of the trial.
        fold: Number of the fold.
        folder: The run directory to fill; the run lies in the folder above it.
        values: The point of the space.
        data: Shower file to train on.
        share: Part of it that is held out, at its end; None for what the run says.
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
    share: float | None = None
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


class NotDoneError(Exception):
    """A verb that did not end well."""

    def __init__(self, ending: Ending, reason: str) -> None:
        super().__init__(reason)
        self.ending: Ending = ending


def train_fold(job: Job, seat: Seat, stop: threading.Event) -> Result:
    """Train, and judge, as one process of a group; the first one has the result.

    Args:
        job: What to do.
        seat: Which process of the group this is.
        stop: Set by whoever wants it to end early; everything is then saved.
    """
    start = time.monotonic()
    try:
        figures = _figures(job, seat, stop)
    except NotDoneError as error:
        return Result(error.ending, reason=str(error), seconds=time.monotonic() - start)
    result = Result("done", figures, seconds=time.monotonic() - start)
    if seat.rank == 0:
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


def _figures(job: Job, seat: Seat, stop: threading.Event) -> dict[str, Value]:
    job.folder.mkdir(parents=True, exist_ok=True)
    run = job.folder.parent / RUN
    resume = any((job.folder / "checkpoints").glob("step-*"))
    training = ["train", str(run), "--data", str(job.data), "-o", str(job.folder), "--no-progress"]
    training += ["--seed", str(job.seed), "--resume" if resume else "--force"]
    if job.share is not None:
        training += ["--set", f"training.evaluation.share={job.share!r}"]
    if job.start is not None and not resume:
        training += ["--start", str(job.start)]
    _verb(training, job, seat, stop)
    if seat.rank > 0:
        return {}
    figures = {}
    if MERIT in job.figures:
        merit = merit_of(job.folder, load_run(run).training.evaluation)
        if not math.isfinite(merit):
            raise NotDoneError("numeric", f"the merit is {merit}")
        figures[MERIT] = Value(merit, math.nan)
    if needs_validation(job.figures):
        assert job.held is not None
        figures |= judge(job.folder, job.held, job.folder / "validation", job, stop)
    shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
    return {name: figures[name] for name in job.figures}


def judge(
    model: Path, truth: Path, report: Path, job: Job, stop: threading.Event | None = None
) -> dict[str, Value]:
    """Generate showers like those of a file and compare them with it.

    Args:
        model: A run or model directory.
        truth: The shower file.
        report: Report directory to make or replace.
        job: Whose figures, seed and threads are used.
        stop: Ends it early.

    Raises:
        ConfigError: A figure that the validation does not give.
    """
    stop, alone = stop or threading.Event(), Seat()
    generated = report.with_name(f"{report.name}.h5")
    threads = ["--threads", str(job.threads)]
    how = ["--backend", "torch", "--precision", "fp32", "--no-progress", "--force", *threads]
    _verb(
        ["generate", str(model), "-o", str(generated), "--like", str(truth), "--seed", str(job.seed), *how],
        job,
        alone,
        stop,
    )
    boosted = any(name in CLASSIFIER for name in job.figures)
    how = ["--no-pdf", "--no-progress", "--workers", str(job.threads)]
    how += [] if boosted else ["--no-classifier"]
    shutil.rmtree(report, ignore_errors=True)
    _verb(["validate", str(truth), str(generated), "-o", str(report), *how], job, alone, stop)
    generated.unlink(missing_ok=True)
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    try:
        figures = read_figures(job.figures, metrics)
    except ConfigError as error:
        raise NotDoneError("refused", str(error)) from error
    for name, (value, _) in figures.items():
        if not math.isfinite(value):
            raise NotDoneError("numeric", f"{name} is {value}")
    return figures


def _verb(arguments: Sequence[str], job: Job, seat: Seat, stop: threading.Event) -> None:
    """Run a verb as a process of its own, and stop it when asked."""
    threads = str(job.threads)
    environment = os.environ | seat.environment()
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    environment["CALOFORGE_PARENT"] = str(os.getpid())
    command = [sys.executable, "-m", "caloforge.tuning.child", *arguments, "--json"]
    log = job.folder / f"{seat.rank}-{LOG}"
    with log.open("a", encoding="utf-8") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            start_new_session=True,
        )
        report = _report(_wait(process, stop))
    if report.get("error") == "Interrupted" or (stop.is_set() and process.returncode):
        raise NotDoneError("stopped", "stopped on request")
    # 3: a validation below its thresholds is a result
    if process.returncode not in (0, 3):
        reason = str(report.get("message") or _last_words(log, process.returncode))
        ending = _ENDINGS.get(str(report.get("error")), "lost")
        raise NotDoneError(ending, f"{arguments[0]}: {reason}")


def _wait(process: subprocess.Popen[str], stop: threading.Event) -> str:
    """What a process wrote; it is asked to end when `stop` is set, and killed if it does not."""
    asked: float | None = None
    while True:
        try:
            return process.communicate(timeout=POLL)[0]
        except subprocess.TimeoutExpired:
            if stop.is_set() and asked is None:
                process.terminate()
                asked = time.monotonic()
            if asked is not None and time.monotonic() - asked > GRACE:
                process.kill()


def _report(answer: str) -> dict[str, Any]:
    """The JSON that a verb prints, in its last line."""
    try:
        report = json.loads(answer.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _last_words(log: Path, code: int) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{how}: {lines[-1][:300]}" if lines and code > 0 else how

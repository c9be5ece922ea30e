"""Runs verbs of caloforge as subprocesses that can be stopped, with a lock per run directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

LOCK = "lock"
# seconds that a process has to save and exit before it is killed
GRACE = 60.0
POLL = 0.1
# how a job ended: "lost" can be resumed, "numeric" may succeed with another seed, "refused" cannot succeed
JobStatus = Literal["done", "stopped", "lost", "numeric", "refused"]
_STATUS_OF_ERROR: dict[str, JobStatus] = {
    "TrainingError": "numeric",
    "ConfigError": "refused",
    "GeometryError": "refused",
    "DataError": "refused",
    "ModelError": "refused",
    "MissingDependencyError": "refused",
}


class NotDoneError(Exception):
    """A job was not completed: a verb failed or was stopped, or its result is not usable.

    Attributes:
        status: How the job ended.
    """

    def __init__(self, status: JobStatus, reason: str) -> None:
        super().__init__(reason)
        self.status: JobStatus = status


@dataclass(frozen=True)
class VerbRunner:
    """Runs verbs as subprocesses, one at a time.

    Attributes:
        log: File for their messages.
        threads: Threads of each process.
        environment: Additional environment variables.
        stop: When set, the running verb is asked to end.
        lock: Descriptor of a lock that the processes inherit, so that it is held while they live.
    """

    log: Path
    threads: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: int | None = None

    def run(self, *arguments: str) -> None:
        """Run a verb to its end, or ask it to end when `stop` is set.

        Raises:
            NotDoneError: It failed or was stopped.
        """
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = os.environ | dict.fromkeys(threads, str(self.threads)) | self.environment
        environment["CALOFORGE_PARENT"] = str(os.getpid())
        with self.log.open("a", encoding="utf-8") as stream:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "caloforge.tuning.supervised_process", *arguments, "--json"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                pass_fds=() if self.lock is None else (self.lock,),
                # Ctrl-C goes to the search, which then stops its verbs
                start_new_session=True,
            )
            report = _report(self._wait(process))
        if report.get("error") == "Interrupted" or (self.stop.is_set() and process.returncode):
            raise NotDoneError("stopped", "stopped on request")
        # 3: a validation that fails its thresholds has a result too
        if process.returncode not in (0, 3):
            reason = str(report.get("message") or _last_error_line(self.log, process.returncode))
            status = _STATUS_OF_ERROR.get(str(report.get("error")), "lost")
            raise NotDoneError(status, f"{arguments[0]}: {reason}")

    def _wait(self, process: subprocess.Popen[str]) -> str:
        """Wait for a process; returns its output."""
        asked: float | None = None
        while True:
            try:
                return process.communicate(timeout=POLL)[0]
            except subprocess.TimeoutExpired:
                if self.stop.is_set() and asked is None:
                    process.terminate()
                    asked = time.monotonic()
                if asked is not None and time.monotonic() - asked > GRACE:
                    process.kill()


def _report(answer: str) -> dict[str, Any]:
    """The JSON in the last line of the output of a verb."""
    try:
        report = json.loads(answer.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _last_error_line(log: Path, code: int) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{how}: {lines[-1][:300]}" if lines and code > 0 else how


@contextlib.contextmanager
def exclusive_lock(folder: Path, stop: threading.Event) -> Iterator[int]:
    """Lock a folder; waits for verbs that a killed search has left running in it.

    Yields:
        The descriptor of the lock, for subprocesses to inherit.

    Raises:
        NotDoneError: The lock is not released in time, or `stop` is set.
    """
    end = time.monotonic() + GRACE
    with (folder / LOCK).open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if stop.is_set() or time.monotonic() > end:
                    status: JobStatus = "stopped" if stop.is_set() else "lost"
                    raise NotDoneError(status, f"another process works in {folder}") from error
                time.sleep(POLL)
        yield lock.fileno()


def command_line(**options: object) -> Sequence[str]:
    """Command-line options: `no_progress=True` is --no-progress, `seed=3` is --seed 3, None is left out."""
    words: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, str(value)]
    return words

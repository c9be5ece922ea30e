"""Runs the worker process for one case of the benchmark, with a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# characters of the error output of a failed process that are quoted
MAX_ERROR_TEXT = 300


@dataclass(frozen=True)
class WorkerResult:
    """Output of a worker.

    Attributes:
        answers: The documents that it wrote, in order.
        problem: Why it stopped early; empty if it finished.
    """

    answers: list[dict[str, Any]]
    problem: str = ""

    def with_keys(self, *keys: str) -> list[dict[str, Any]]:
        """The answers with these keys."""
        return [answer for answer in self.answers if all(key in answer for key in keys)]


def measure(
    job: dict[str, Any],
    limit: float,
    *,
    cache: Path | None = None,
    report: Callable[[dict[str, Any]], object] = lambda _: None,
) -> WorkerResult:
    """Run a job in a separate process.

    Args:
        job: See `worker`; `threads` and `core` set the CPU resources.
        limit: Time limit in s; answers written before the process is killed are returned.
        cache: Cache folder of the process; by default the user's.
        report: Called with each answer when it arrives.
    """
    settings = dict.fromkeys(THREAD_VARIABLES, str(job["threads"]))
    if cache is not None:
        settings["XDG_CACHE_HOME"] = str(cache)
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "caloforge.timing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **settings},
            start_new_session=True,
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, stop)
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(job).encode())
            process.stdin.close()
            for line in process.stdout:
                answers.append(json.loads(line))
                report(answers[-1])
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        errors.seek(0)
        words = " ".join(errors.read().decode("utf-8", "replace").split())[-MAX_ERROR_TEXT:]
    if late.is_set():
        return WorkerResult(answers, f"stopped after {limit:.0f} s")
    failed = next((answer["error"] for answer in answers if "error" in answer), None)
    if failed is not None or status:
        return WorkerResult(answers, failed or f"ended with status {status}: {words}")
    return WorkerResult(answers)

"""Runs the worker for one case, under a time limit."""

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
# of what a process that died said last
LAST_WORDS = 300


@dataclass(frozen=True)
class Found:
    """What a worker has told.

    Attributes:
        answers: Its documents, in order.
        problem: Why it ended before it was done; empty where it was.
    """

    answers: list[dict[str, Any]]
    problem: str = ""

    def having(self, *keys: str) -> list[dict[str, Any]]:
        """The answers with these keys."""
        return [answer for answer in self.answers if all(key in answer for key in keys)]


def measure(
    job: dict[str, Any],
    limit: float,
    *,
    cache: Path | None = None,
    tell: Callable[[dict[str, Any]], object] = lambda _: None,
) -> Found:
    """Run a job in a process of its own.

    Args:
        job: See `worker`; `threads` and `core` say what it may use.
        limit: It is stopped after this time, s; what it has answered until then counts.
        cache: Folder for what can be made again; the default is the user's.
        tell: Called with each answer as it comes.
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
                tell(answers[-1])
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        errors.seek(0)
        words = " ".join(errors.read().decode("utf-8", "replace").split())[-LAST_WORDS:]
    if late.is_set():
        return Found(answers, f"stopped after {limit:.0f} s")
    failed = next((answer["error"] for answer in answers if "error" in answer), None)
    if failed is not None or status:
        return Found(answers, failed or f"ended with status {status}: {words}")
    return Found(answers)

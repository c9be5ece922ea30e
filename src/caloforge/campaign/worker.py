"""The worker process of a `Pool`, such as `python -m caloforge.fullsim.worker`: makes blocks of showers.

It reads JSON lines from standard input, first the job and then blocks `[start, stop]`, and writes one answer
per line to standard output. Other output is discarded; warnings go to standard error, which the pool
writes to a file. The worker ends at the end of its input, and when its parent ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import CaloforgeError

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # the parent ended before the call
        os._exit(1)


class SavedBlock(Protocol):
    """What a worker needs of a block."""

    @property
    def seconds(self) -> NDArray[np.float32]:
        """Wall time of each shower."""

    def save(self, folder: Path) -> None:
        """Write the block atomically."""


class Simulates(Protocol):
    """What makes the blocks of a worker: an application of Geant4, or a generator."""

    @property
    def version(self) -> str:
        """Version of Geant4, or of the generator."""

    def simulate(self, seed: int, start: int, stop: int, /) -> SavedBlock:
        """The showers or events [start, stop) of a campaign."""


# opens what makes the blocks of a job
Open = Callable[[dict[str, Any]], Simulates]


def serve(requests: IO[str], answers: IO[str], open_application: Open) -> None:
    """Make the requested blocks until the input ends."""
    job = json.loads(requests.readline() or "null")
    if job is None:
        return
    die_with_parent(job["parent"])
    try:
        _simulate_blocks(job, requests, answers, open_application(job))
    except CaloforgeError as error:
        _answer(answers, error=type(error).__name__, message=str(error))


def _simulate_blocks(
    job: dict[str, Any], requests: IO[str], answers: IO[str], application: Simulates
) -> None:
    _answer(answers, version=application.version)
    for line in requests:
        start, stop = json.loads(line)
        block = application.simulate(job["seed"], start, stop)
        block.save(Path(job["folder"]))
        # the warnings of a finished block are not needed
        os.ftruncate(sys.stderr.fileno(), 0)
        _answer(answers, block=[start, stop], seconds=float(block.seconds.sum()))


def _answer(answers: IO[str], **facts: Any) -> None:
    answers.write(json.dumps(facts) + "\n")
    answers.flush()


def main(open_application: Open) -> None:
    """Reserve standard output for the answers, then serve.

    Args:
        open_application: Opens what makes the blocks of a job, such as Geant4.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with Path(os.devnull).open("w") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers, open_application)
    # skip the destructors of Geant4, which crash when Python runs them at exit
    os._exit(0)

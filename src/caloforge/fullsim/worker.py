"""A process that simulates blocks of showers: `python -m caloforge.fullsim.worker`, started by a `Pool`.

It reads one JSON document a line on standard input, first the job and then blocks `[start, stop]`, and
answers each with one on standard output. Geant4's own words go nowhere; its warnings go to standard error,
which the pool keeps in a file. The worker ends with its input, and when its parent dies.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import IO, Any

from caloforge.beam import BeamConfig
from caloforge.errors import CaloforgeError
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when the one that started it dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # it died before the kernel was asked
        os._exit(1)


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Simulate until the input ends."""
    job = json.loads(requests.readline() or "null")
    if job is None:
        return
    die_with_parent(job["parent"])
    try:
        _serve(job, requests, answers)
    except CaloforgeError as error:
        _answer(answers, error=type(error).__name__, message=str(error))


def _serve(job: dict[str, Any], requests: IO[str], answers: IO[str]) -> None:
    # loads Geant4
    from caloforge.fullsim.application import Application

    application = Application(
        Detector.model_validate(job["detector"]),
        BeamConfig.model_validate(job["beam"]),
        FullSimConfig.model_validate(job["fullsim"]),
    )
    _answer(answers, version=application.version)
    for line in requests:
        start, stop = json.loads(line)
        block = application.simulate(job["seed"], start, stop)
        block.save(Path(job["folder"]))
        # nobody asks for the warnings of a block that ended well
        os.ftruncate(sys.stderr.fileno(), 0)
        _answer(answers, block=[start, stop], seconds=float(block.seconds.sum()))


def _answer(answers: IO[str], **facts: Any) -> None:
    answers.write(json.dumps(facts) + "\n")
    answers.flush()


def main() -> None:
    """Keep standard output for the answers alone, then serve."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    with Path(os.devnull).open("w") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers)
    # Geant4 takes itself apart in an order that does not suit Python
    os._exit(0)


if __name__ == "__main__":
    main()

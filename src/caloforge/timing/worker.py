"""One measurement in a process of its own: `python -m caloforge.timing.worker`, started by `case.measure`.

It reads a job as JSON on standard input and answers with one JSON document a line: a parent that stops it for
taking too long keeps what it has found so far. Libraries that count their threads at the start see as many
cores as the job allows.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import CaloforgeError

if TYPE_CHECKING:
    from caloforge.timing.generators import Engine

# repeats of a measurement, at least and at most
FEWEST, MOST = 3, 9
# showers of the first try, before anything is measured
TRIED = 1
# a path that needs this long for a shower is not measured further, s
TOO_SLOW = 2.0
# a pass that takes this many times what a measurement is meant to take is not repeated
LONG = 3.0
# showers a file at least, so that opening and closing it does not count
FILE_SHOWERS = 512
FILE_BATCH = 128

Answer = Callable[..., None]


def measure_engine(job: dict[str, Any], engine: Engine, answer: Answer) -> None:
    """Time an engine: a try of few showers, the batch sizes, then generation to disk.

    Args:
        job: `batches`, sizes; `seconds`, what a measurement may take; `disk`, whether files are written.
        engine: Makes the showers.
        answer: Takes the findings.
    """
    engine.prepare(1)
    engine.make(TRIED, 1)
    single = _time(engine, TRIED, 1)
    if single > TOO_SLOW:
        answer(slow=single)
        return
    disk = None
    for batch in job["batches"]:
        # every thread has a batch of its own
        whole = batch * job["threads"]
        engine.prepare(batch)
        first = _time(engine, whole, batch)
        if first * whole > LONG * job["seconds"]:
            # what it takes to warm up is little then, and repeats would take minutes
            answer(batch=batch, seconds=[first])
            continue
        warm = _time(engine, whole, batch)
        repeats, showers = plan_repeats(warm, whole, job["seconds"])
        answer(batch=batch, seconds=[_time(engine, showers, batch) for _ in range(repeats)])
        disk = warm
    if job["disk"] and disk is not None:
        answer(**_to_disk(engine, disk, job["seconds"]))


def plan_repeats(seconds: float, batch: int, budget: float) -> tuple[int, int]:
    """How often to measure, and how many showers each time, in whole batches.

    Args:
        seconds: Time of a shower, s.
        batch: Showers made together, those of all threads.
        budget: What all repeats together may take, s; the fewest repeats of one batch may take more.
    """
    batches = budget / max(seconds * batch, 1e-9)
    repeats = int(min(MOST, max(FEWEST, batches)))
    return repeats, batch * max(1, int(batches / repeats))


def _time(engine: Engine, showers: int, batch: int) -> float:
    """Wall time of a shower, s."""
    start = time.perf_counter()
    engine.make(showers, batch)
    return (time.perf_counter() - start) / showers


def _to_disk(engine: Engine, single: float, budget: float) -> dict[str, Any]:
    """Wall times of a shower in `generate`, opening and closing the file included, and the bytes it takes."""
    showers = max(FILE_SHOWERS, int(budget / FEWEST / max(single, 1e-9)) // FILE_BATCH * FILE_BATCH)
    found = []
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        path = Path(folder) / "showers.h5"
        for _ in range(FEWEST):
            start = time.perf_counter()
            engine.write(showers, FILE_BATCH, path)
            found.append((time.perf_counter() - start) / showers)
        size = path.stat().st_size
    return {"disk": FILE_BATCH, "seconds": found, "showers": showers, "bytes": size / showers}


def _full_simulation(job: dict[str, Any], answer: Answer) -> None:
    from caloforge.beam import BeamConfig
    from caloforge.fullsim.config import FullSimConfig
    from caloforge.fullsim.timing import time_showers
    from caloforge.geometry import Detector
    from caloforge.showers import ShowerWriter

    detector = Detector.model_validate(job["detector"])
    batch = time_showers(
        detector,
        BeamConfig.model_validate(job["beam"]),
        FullSimConfig.model_validate(job["fullsim"]),
        job["showers"],
        seed=job["seed"],
        workers=job["threads"],
        progress=lambda done, _: answer(done=done),
    )
    assert batch.seconds is not None
    with ShowerWriter(job["out"], detector, {}, with_seconds=True, force=True) as writer:
        writer.append(batch)
    answer(energy=batch.incident_energy.tolist(), seconds=batch.seconds.tolist())


def _serve(job: dict[str, Any], answer: Answer) -> None:
    if job["kind"] == "full simulation":
        _full_simulation(job, answer)
        return
    from caloforge.timing.generators import open_engine

    engine = open_engine(job)
    answer(opened=engine.facts)
    measure_engine(job, engine, answer)


def main() -> None:
    """Read the job, keep to its cores, answer."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # what libraries print is no answer
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = json.loads(sys.stdin.read())
    if job["core"] is not None:
        os.sched_setaffinity(0, {job["core"]})

    def answer(**facts: Any) -> None:
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    try:
        _serve(job, answer)
    except CaloforgeError as error:
        answer(error=str(error))
    answers.flush()
    # some libraries crash when they are taken apart
    os._exit(0)


if __name__ == "__main__":
    main()

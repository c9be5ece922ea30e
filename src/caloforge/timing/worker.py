"""Worker process of the benchmark: `python -m caloforge.timing.worker`, started by `timed_process.measure`.

It reads a job as JSON from standard input and writes one JSON document per line, so that the parent has all
earlier results if it kills a worker that takes too long. A separate process lets libraries that fix their
number of threads at import see the cores of the job only.
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

# limits of the number of repeats of a measurement
MIN_REPEATS, MAX_REPEATS = 3, 9
# showers of the trial before the measurement
TRIAL_SHOWERS = 1
# an engine that needs more seconds per shower is not measured further
TOO_SLOW = 2.0
# a pass that takes longer than the intended time of a measurement by this factor is not repeated
LONG_FACTOR = 3.0
# smallest number of showers per file, so that opening and closing it is negligible
FILE_SHOWERS = 512
FILE_BATCH = 128

Answer = Callable[..., None]


def measure_engine(job: dict[str, Any], engine: Engine, answer: Answer) -> float | None:
    """Time an engine: a trial, each batch size in memory, then generation to disk.

    Args:
        job: `batches`, the batch sizes; `seconds`, the intended time of a measurement; `disk`, whether to
            measure generation to disk; `cpu_time`, whether CPU time counts, which other work on the machine
            hardly changes, in place of wall time.
        engine: The engine.
        answer: Called with the results as keywords.

    Returns:
        Seconds per shower in the largest batch that was repeated; None if it is too slow for that.
    """
    clock = time.process_time if job.get("cpu_time") else time.perf_counter
    engine.prepare(1)
    engine.make(TRIAL_SHOWERS, 1)
    single = _time(engine, TRIAL_SHOWERS, 1, clock)
    if single > TOO_SLOW:
        answer(slow=single)
        return None
    disk = None
    for batch in job["batches"]:
        # each thread generates whole batches
        whole = batch * job["threads"]
        engine.prepare(batch)
        first = _time(engine, whole, batch, clock)
        if first * whole > LONG_FACTOR * job["seconds"]:
            # warm-up is negligible in such a long pass, and repeats would take minutes
            answer(batch=batch, seconds=[first])
            continue
        warm = _time(engine, whole, batch, clock)
        repeats, showers = plan_repeats(warm, whole, job["seconds"])
        answer(batch=batch, seconds=[_time(engine, showers, batch, clock) for _ in range(repeats)])
        disk = warm
    if job["disk"] and disk is not None:
        answer(**_to_disk(engine, disk, job["seconds"]))
    return disk


def plan_repeats(seconds: float, batch: int, budget: float) -> tuple[int, int]:
    """Number of repeats, and of showers per repeat in whole batches.

    Args:
        seconds: Time per shower, s.
        batch: Showers generated together by all threads.
        budget: Intended time of all repeats, s; `MIN_REPEATS` of a single batch may take longer.
    """
    batches = budget / max(seconds * batch, 1e-9)
    repeats = int(min(MAX_REPEATS, max(MIN_REPEATS, batches)))
    return repeats, batch * max(1, int(batches / repeats))


def _time(engine: Engine, showers: int, batch: int, clock: Callable[[], float]) -> float:
    """Time per shower, s."""
    start = clock()
    engine.make(showers, batch)
    return (clock() - start) / showers


def _to_disk(engine: Engine, single: float, budget: float) -> dict[str, Any]:
    """Wall times per shower of generation to a file, opened and closed each time, and bytes per shower."""
    showers = max(FILE_SHOWERS, int(budget / MIN_REPEATS / max(single, 1e-9)) // FILE_BATCH * FILE_BATCH)
    found = []
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        path = Path(folder) / "showers.h5"
        for _ in range(MIN_REPEATS):
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
    seconds = measure_engine(job, engine, answer)
    like = job.get("like")
    if like is None or seconds is None:
        return
    if (needed := seconds * like["showers"]) > job["longest"]:
        answer(error=f"not compared: {like['showers']} showers would take {needed:.0f} s")
        return
    engine.write_like(Path(like["truth"]), like["showers"], FILE_BATCH, Path(like["out"]))


def main() -> None:
    """Read the job, pin the process to its core and run it."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # keep the output of libraries apart from the answers
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
    # skip the clean-up of libraries, in which some crash
    os._exit(0)


if __name__ == "__main__":
    main()

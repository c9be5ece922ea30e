"""Benchmark of an inference runtime in a separate process, since it may hang, crash or be far too slow.

    python -m caloforge.generation.runtime_benchmark < job.json > result.json

Importing this does not import torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.generation.runtimes import Arrays, Worker, open_runtime

# seconds for the whole process, and for the measurement of one batch size
LIMIT = 60.0
PATIENCE = 0.4
REPEATS = 8


def measure(worker: Worker, inputs: Arrays, batch: int, threads: int, *, patience: float = PATIENCE) -> float:
    """CPU seconds per shower with all threads busy, the best of a few passes.

    CPU time does not depend on other work of the machine as wall time does.

    Args:
        worker: Function that generates showers; called by all threads.
        inputs: Inputs of at least one shower; repeated to fill the batch.
        batch: Showers per pass.
        threads: Number of threads.
        patience: Seconds after which no further pass is started.
    """
    rows = np.arange(batch) % len(inputs["energy"])
    filled = {name: value[rows] for name, value in inputs.items()}
    best, begin = np.inf, time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS):
            start = time.process_time()
            list(pool.map(worker, [filled] * threads))
            best = min(best, (time.process_time() - start) / (batch * threads))
            if time.perf_counter() - begin > patience:
                break
    return float(best)


def try_runtime(job: dict[str, Any], inputs: Arrays, *, limit: float = LIMIT) -> dict[int, float]:
    """Run the benchmark in a subprocess: CPU seconds per shower by batch size; empty if it fails.

    Args:
        job: Arguments of `open_runtime` except the batch, as text or numbers, and `batches`.
        inputs: Inputs of a few showers.
        limit: Seconds after which the process is killed.
    """
    document = {**job, "inputs": {name: value.tolist() for name, value in inputs.items()}}
    document["dtypes"] = {name: str(value.dtype) for name, value in inputs.items()}
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, fixed arguments
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps(document),
            capture_output=True,
            text=True,
            timeout=limit,
            check=True,
        )
        return {int(batch): float(seconds) for batch, seconds in json.loads(done.stdout).items()}
    except (subprocess.SubprocessError, OSError, ValueError):
        return {}


def run_job(job: dict[str, Any]) -> dict[int, float]:
    """Measure in this process, smallest batch first; stops before batches that would take too long."""
    inputs = {name: np.array(value, job["dtypes"][name]) for name, value in job["inputs"].items()}
    result: dict[int, float] = {}
    for batch in sorted(job["batches"]):
        if result and min(result.values()) * batch * job["threads"] > PATIENCE:
            break
        runtime = open_runtime(
            job["backend"],
            Path(job["graph"]),
            precision=job["precision"],
            batch=batch,
            threads=job["threads"],
            cache=Path(job["cache"]),
        )
        if not result:
            # skip a runtime that is far too slow for a single shower
            begin = time.perf_counter()
            runtime.worker()({name: value[:1] for name, value in inputs.items()})
            if time.perf_counter() - begin > 10 * PATIENCE:
                break
        result[batch] = measure(_WorkerPool(runtime.worker), inputs, batch, job["threads"])
    return result


class _WorkerPool:
    """Gives each concurrent call a worker of its own."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._free: list[Worker] = []

    def __call__(self, inputs: Arrays) -> Any:
        try:
            worker = self._free.pop()
        except IndexError:
            worker = self._make()
        showers = worker(inputs)
        self._free.append(worker)
        return showers


if __name__ == "__main__":
    json.dump(run_job(json.load(sys.stdin)), sys.stdout)

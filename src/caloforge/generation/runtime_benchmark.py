"""How fast a runtime is, measured in a process of its own: it may hang, crash, or be hopelessly slow.

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

# seconds that a process, and within it the measurement of one batch size, may take
LIMIT = 60.0
PATIENCE = 0.4
REPEATS = 8


def measure(worker: Worker, inputs: Arrays, batch: int, threads: int, *, patience: float = PATIENCE) -> float:
    """Seconds of CPU time for a shower, the best of a few passes, all threads at work.

    CPU time, because on a busy machine the clock on the wall would measure the neighbours.

    Args:
        worker: What makes showers; called by all threads.
        inputs: Inputs of at least one shower; repeated up to the batch.
        batch: Showers in a pass.
        threads: Threads.
        patience: Seconds after which nothing more is started.
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
    """Seconds for a shower at each batch size; empty where it fails or takes too long.

    Args:
        job: Keywords of `open_runtime` except the batch, all as text or numbers, and `batches`.
        inputs: Inputs of a few showers.
        limit: Seconds after which the process is ended.
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
    """What the process does: smallest batch first, no larger one after one that was too slow."""
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
            # one pass of one shower tells what is hopeless
            begin = time.perf_counter()
            runtime.worker()({name: value[:1] for name, value in inputs.items()})
            if time.perf_counter() - begin > 10 * PATIENCE:
                break
        result[batch] = measure(_Shared(runtime.worker), inputs, batch, job["threads"])
    return result


class _Shared:
    """Workers of a runtime, handed out so that no two calls at the same time have the same one."""

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

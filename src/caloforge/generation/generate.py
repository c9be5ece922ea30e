"""Generate showers with a trained model and stream them to a shower file."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.conditions import Conditions
from caloforge.errors import ConfigError
from caloforge.files import check_new, check_space
from caloforge.generation.noise import NoiseStream
from caloforge.generation.opening import open_model
from caloforge.generation.plan import LoadedModel, Plan
from caloforge.geometry import Detector
from caloforge.models.store import StoredModel
from caloforge.showers import ShowerBatch, ShowerWriter

if TYPE_CHECKING:
    from caloforge.models.base import ShowerModel


# upper estimate of compressed over raw size of sparse showers, to check the disk space
COMPRESSION = 0.5


def stream(
    model: ShowerModel | StoredModel,
    conditions: Conditions,
    *,
    seed: int,
    plan: Plan = Plan(),  # noqa: B008 - frozen
) -> Iterator[ShowerBatch]:
    """Yield generated showers in order, a batch of the plan at a time, with the wall time of each.

    Shower i is a function of (model, conditions of i, seed, i): the plan changes it at most by rounding.

    Args:
        model: A trained model.
        conditions: Conditions of the showers.
        seed: Seed of the noise.
        plan: How the model runs; `caloforge.generation.backend_selection.plan_for` chooses the fastest.
    """
    yield from run(open_model(model, plan), conditions, seed=seed)


def run(
    loaded: LoadedModel,
    conditions: Conditions,
    *,
    seed: int,
    first: int = 0,
    pool: Executor | None = None,
) -> Iterator[ShowerBatch]:
    """Yield the batches of a loaded model, in order.

    Args:
        loaded: From `open_model`.
        conditions: Conditions of the showers.
        seed: Seed of the noise.
        first: Number of the first shower, which the noise depends on.
        pool: Threads to use; the default is one per thread of its plan, none for a single one.
    """
    plan = loaded.plan
    generators = _BatchGenerators(loaded, seed)
    size = min(plan.batch_size, max(1, -(-len(conditions) // plan.threads)))
    starts = range(0, len(conditions), size)
    if plan.threads == 1:
        for start in starts:
            yield generators.make(conditions[start : start + size], first + start)
        return
    with nullcontext(pool) if pool else ThreadPoolExecutor(plan.threads) as workers:
        # one batch more than threads, so that no thread waits for the consumer
        waiting: deque[Future[ShowerBatch]] = deque()
        try:
            for start in starts:
                waiting.append(
                    workers.submit(generators.make, conditions[start : start + size], first + start)
                )
                if len(waiting) > plan.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _BatchGenerators:
    """Generates batches in several threads; each call uses a worker and a noise stream of its own."""

    def __init__(self, loaded: LoadedModel, seed: int) -> None:
        self.loaded = loaded
        self.seed = seed
        self._free: list[tuple[Callable[..., Any], NoiseStream]] = []

    def make(self, conditions: Conditions, start: int) -> ShowerBatch:
        """Generate the showers from index `start` on."""
        try:
            generate, noise = self._free.pop()
        except IndexError:
            noise = NoiseStream(self.seed, self.loaded.noise_shape)
            generate = self.loaded.worker()
            # loads the machine code of the noise
            noise.lend(start, start + 1)
        # without what each thread does once, which takes as long as hundreds of showers
        begin = time.perf_counter()
        showers = generate(conditions, lambda first, last: noise.lend(start + first, start + last))
        self._free.append((generate, noise))
        seconds = (time.perf_counter() - begin) / len(conditions)
        return conditions.with_showers(showers, np.full(len(conditions), seconds, np.float32))


def generate_batch(
    model: ShowerModel | StoredModel,
    conditions: Conditions,
    *,
    seed: int,
    plan: Plan,
    extrapolate: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ShowerBatch:
    """Generate showers for `conditions` in memory; the arguments are those of `generate_file`.

    Raises:
        ConfigError: Conditions outside the trained range without `extrapolate`, a plan that cannot be done,
            or more showers than half of the machine's memory holds.
        MissingDependencyError: The extra that the backend needs is not installed.
    """
    plan.check()
    model.claim.check(conditions, extrapolate=extrapolate)
    check_memory(model.detector, len(conditions))
    shape = model.detector.shower_shape
    showers = np.empty((len(conditions), *shape), np.float32)
    seconds = np.empty(len(conditions), np.float32)
    done = 0
    for batch in run(open_model(model, plan), conditions, seed=seed):
        stop = done + len(batch)
        showers[done:stop], seconds[done:stop] = batch.showers, batch.seconds
        done = stop
        if progress is not None:
            progress(done, len(conditions))
    return conditions.with_showers(showers, seconds, model.detector)


def check_memory(detector: Detector, count: int) -> None:
    """Check that the showers fit into half of the machine's memory.

    Raises:
        ConfigError: They do not.
    """
    shape = detector.shower_shape
    needed = 4 * math.prod(shape) * count
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if needed > most:
        raise ConfigError(
            f"{count} showers of {shape} need {needed / 1e9:.1f} GB of memory, at most {most / 1e9:.1f} GB, "
            "half of what there is, are taken; write a file with out='showers.h5', or ask for fewer showers"
        )


def generate_file(
    model: ShowerModel | StoredModel,
    conditions: Conditions,
    out: Path,
    *,
    seed: int,
    provenance: dict[str, Any],
    plan: Plan,
    first: int = 0,
    extrapolate: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Generate showers for `conditions` into a shower file, at constant memory.

    Args:
        model: A trained model.
        conditions: Conditions of the showers.
        out: The shower file; appears only when complete.
        seed: Seed of the noise.
        provenance: Provenance to store in the file.
        plan: How the model runs; its threads compress the file, too.
        first: Number of the first shower, of a part of a campaign.
        extrapolate: Allow conditions outside the trained range.
        force: Replace an existing file.
        progress: Called with (done, total).

    Raises:
        ConfigError: Conditions outside the trained range without `extrapolate`, or an impossible plan.
        MissingDependencyError: The extra that the backend needs is not installed.
        OutputError: The file exists without `force`, or the disk is full.
    """
    plan.check()
    check_output(out, model.detector, len(conditions), force=force)
    model.claim.check(conditions, extrapolate=extrapolate)
    loaded = open_model(model, plan)
    return write_file(
        loaded, conditions, out, seed=seed, first=first, provenance=provenance, force=force, progress=progress
    )


def check_output(out: Path, detector: Detector, count: int, *, force: bool = False) -> None:
    """Make sure that a file of showers can be written.

    Args:
        out: The shower file.
        detector: What the showers are of.
        count: How many showers.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists without `force`, the place is not writable, or the disk too full.
    """
    check_new(out, force=force)
    size = 4 * math.prod(detector.shower_shape) * count
    check_space(out, int(size * COMPRESSION), f"a file of {count} showers")


def write_file(
    loaded: LoadedModel,
    conditions: Conditions,
    out: Path,
    *,
    seed: int,
    first: int = 0,
    provenance: dict[str, Any],
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Generate showers into a shower file with a loaded model; see `generate_file`."""
    threads = loaded.plan.threads
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        writer = ShowerWriter(
            out,
            loaded.detector,
            provenance,
            energy_meaning=loaded.energy_meaning,
            with_seconds=True,
            force=force,
            pool=pool,
        )
        with writer:
            for batch in run(loaded, conditions, seed=seed, first=first, pool=pool):
                writer.append(batch)
                if progress is not None:
                    progress(writer.count, len(conditions))
    return out

"""The benchmark: measures each case in a separate process, one at a time, and computes speed-up ratios."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caloforge import provenance
from caloforge.beam import BeamConfig
from caloforge.errors import SimulationError
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector
from caloforge.timing.machine import machine, quietest_core
from caloforge.timing.sources import PUBLISHED, Source, library
from caloforge.timing.timed_process import WorkerResult, measure

FORMAT = "caloforge-benchmark"
FORMAT_VERSION = 1
# percentiles quoted as the spread of repeats: one standard deviation of a normal distribution
QUANTILES = (16, 84)
# time limit of a case: START_SECONDS plus this multiple of the intended time of its measurements
TIME_FACTOR = 10
START_SECONDS = 90.0
FULL_SIMULATION_LIMIT = 3600.0


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark.

    Attributes:
        name: Name of the run that is simulated.
        detector: Its detector.
        beam: Its beam.
        fullsim: Its full simulation.
        models: Trained models to measure.
        showers: Full-simulation showers for each number of threads.
        batches: Batch sizes.
        seconds: Intended time of one measurement, s.
        backends: Backends to measure.
        threads: Numbers of threads; for 1 the process is pinned to a core.
        seed: Seed of showers, weights and noise.
    """

    name: str
    detector: Detector
    beam: BeamConfig
    fullsim: FullSimConfig
    models: tuple[Source, ...] = ()
    showers: int = 40
    batches: tuple[int, ...] = (1, 128)
    seconds: float = 3.0
    backends: tuple[str, ...] = ("torch",)
    threads: tuple[int, ...] = (1,)
    seed: int = 1

    @property
    def limit(self) -> float:
        """Time limit of a case, s."""
        return START_SECONDS + TIME_FACTOR * self.seconds * (len(self.batches) + 1)

    def cases(self, showers: Path) -> list[tuple[Source, str, str]]:
        """Source, backend and precision of every case except the full simulation, which wrote `showers`."""
        sources = (*PUBLISHED, library(str(showers)), *self.models)
        return [(source, *engine) for source in sources for engine in source.engines(self.backends)]


Report = Callable[[int, int, str], object]


def compare(plan: Plan, report: Report = lambda *_: None) -> dict[str, Any]:
    """Measure everything; returns the document of benchmark.json.

    Args:
        plan: Settings of the benchmark.
        report: Called with (steps done, total steps, name of the current case).

    Raises:
        SimulationError: Geant4 does not run on this machine.
    """
    facts = machine()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        showers, graphs = Path(folder) / "showers.h5", Path(folder) / "cache"
        cases = plan.cases(showers)
        total, done = len(plan.threads) * (len(cases) + 1), 0
        for threads in plan.threads:
            core = quietest_core() if threads == 1 else None
            report(done, total, f"Geant4, {threads} core(s)")
            rows.append(_full_simulation(plan, threads, core, showers))
            done += 1
            for source, backend, precision in cases:
                report(done, total, f"{source.name}, {backend} {precision}, {threads} core(s)")
                rows += _engine(plan, source, backend, precision, threads, core, graphs)
                done += 1
    report(total, total, "")
    _add_ratios(rows)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **provenance.collect(),
        "machine": facts,
        "run": plan.name,
        "detector": plan.detector.name,
        "beam": plan.beam.model_dump(mode="json"),
        "fullsim": plan.fullsim.model_dump(mode="json"),
        "seed": plan.seed,
        "results": rows,
    }


def _full_simulation(plan: Plan, threads: int, core: int | None, out: Path) -> dict[str, Any]:
    job = {
        "kind": "full simulation",
        "threads": threads,
        "core": core,
        "detector": plan.detector.model_dump(mode="json"),
        "beam": plan.beam.model_dump(mode="json"),
        "fullsim": plan.fullsim.model_dump(mode="json"),
        "showers": plan.showers,
        "seed": plan.seed,
        "out": str(out),
    }
    found = measure(job, FULL_SIMULATION_LIMIT)
    if not (answers := found.with_keys("energy")):
        raise SimulationError(f"Geant4 cannot be timed: {found.problem}")
    energy, seconds = (np.array(answers[0][key]) for key in ("energy", "seconds"))
    # the processes simulate in parallel
    mean, error = (value / threads for value in spectrum_mean(energy, seconds))
    return {
        "name": "Geant4",
        "kind": "full simulation",
        "detector": plan.detector.name,
        "shape": list(plan.detector.shower_shape),
        "backend": provenance.package_version("geant4-pybind"),
        "threads": threads,
        "showers": len(energy),
        "status": "measured",
        "ms": 1e3 * mean,
        "low": 1e3 * (mean - error),
        "high": 1e3 * (mean + error),
        "energy": energy.tolist(),
        "seconds": seconds.tolist(),
    }


def spectrum_mean(energy: np.ndarray[Any, Any], seconds: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Mean time over the energy spectrum and its standard error, from showers at quantiles of the spectrum.

    The error is computed from the residuals of a straight line in the energy: the dependence on the energy is
    sampled evenly and does not contribute.
    """
    scatter = seconds
    if len(seconds) > 2 and np.ptp(energy) > 0:
        scatter = seconds - np.polyval(np.polyfit(energy, seconds, 1), energy)
    return float(seconds.mean()), float(scatter.std() / np.sqrt(max(1, len(seconds) - 2)))


def _engine(
    plan: Plan, source: Source, backend: str, precision: str, threads: int, core: int | None, graphs: Path
) -> list[dict[str, Any]]:
    job = {
        "kind": source.kind,
        "threads": threads,
        "core": core,
        "source": source.source,
        "backend": backend,
        "precision": precision,
        "batches": plan.batches,
        "seconds": plan.seconds,
        "disk": source.trained,
        "seed": plan.seed,
    }
    # a temporary cache: graphs of networks with random weights are of no further use
    found = measure(job, plan.limit, cache=graphs)
    opened = found.with_keys("opened")
    common = {
        "name": source.name,
        "kind": source.kind,
        **(opened[0]["opened"] if opened else {}),
        "backend": backend,
        "precision": precision,
        "threads": threads,
    }
    return [{**common, **row} for row in _rows(plan, source, found)]


def _rows(plan: Plan, source: Source, found: WorkerResult) -> Iterator[dict[str, Any]]:
    """A row for each batch size and one for generation to disk, also for failed measurements."""
    slow = found.with_keys("slow")
    for key, batch in [*(("batch", size) for size in plan.batches), ("disk", None)]:
        if key == "disk" and not source.trained:
            continue
        measured = [a for a in found.with_keys(key, "seconds") if batch in (None, a[key])]
        what = {"batch": measured[0][key] if measured else batch, "to_disk": key == "disk"}
        if measured:
            yield {**what, **_quantiles(measured[0]), "status": "measured"}
        elif slow and not found.problem:
            yield {**what, "status": "too slow", "reason": f"{slow[0]['slow']:.2g} s a shower"}
        else:
            late = found.problem.startswith("stopped")
            status = "too slow" if late else "failed"
            yield {**what, "status": status, "reason": found.problem or "not measured"}


def _quantiles(answer: dict[str, Any]) -> dict[str, Any]:
    repeats = 1e3 * np.array(answer["seconds"])
    low, high = np.percentile(repeats, QUANTILES)
    facts = {"ms": float(np.median(repeats)), "low": float(low), "high": float(high)}
    extra = {"bytes": answer["bytes"]} if "bytes" in answer else {}
    return {**facts, **extra, "repeats": repeats.tolist()}


def _add_ratios(rows: list[dict[str, Any]]) -> None:
    """Add the speed-up over Geant4 and over the published network for showers of the same shape.

    Both run on the same number of cores. For the published network the fastest backend with the same batch
    size counts.
    """
    for row in rows:
        if row["status"] != "measured" or row["kind"] == "full simulation":
            continue
        same = [r for r in rows if r["status"] == "measured" and r["threads"] == row["threads"]]
        row["times_geant4"] = next(r["ms"] for r in same if r["kind"] == "full simulation") / row["ms"]
        published = [
            r["ms"]
            for r in same
            if r["kind"] == "published" and r["shape"] == row["shape"] and r["batch"] == row["batch"]
        ]
        if published:
            row["times_published"] = min(published) / row["ms"]

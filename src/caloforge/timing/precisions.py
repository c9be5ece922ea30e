"""Accuracy and speed of models on every backend, in every arithmetic.

Each path runs in a process of its own with a time limit, as in the benchmark: it is timed, and then makes the
showers of a Geant4 file again, with one noise for all paths. The parent compares them with Geant4, and with
those of torch in fp32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from caloforge import provenance
from caloforge.generation.plan import Plan, packages_of
from caloforge.generation.runtimes import BACKENDS, Precision
from caloforge.metrics.relative_shifts import mean_shift
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.metrics.tree_classifier import classifier_auc
from caloforge.number_format import plain
from caloforge.observables import default_threshold, high_level_features
from caloforge.showers import ShowerFile
from caloforge.timing.compare import START_SECONDS, TIME_FACTOR, Report
from caloforge.timing.machine import machine, quietest_core
from caloforge.timing.sources import Source
from caloforge.timing.tables import machine_line
from caloforge.timing.timed_process import measure
from caloforge.validation.classifiers import STRONG, classify
from caloforge.validation.conditions import INCLUSIVE, AtFixedConditions
from caloforge.validation.observed_sample import Sample, read_sample

FORMAT, FORMAT_VERSION = "caloforge-precisions", 1
REFERENCE = ("torch", "fp32")
# paths that differ less than this make the same showers, but for rounding
SAME_SHOWERS = 1e-5
# making the showers of the comparison takes at most so long, s
LONGEST_COMPARISON = 300.0
# at most so many showers of each sample train and test the CNN, or a row would take a quarter of an hour
CNN_SHOWERS = 1000
SHIFTS = ("response", "hits")


@dataclass(frozen=True)
class PrecisionPlan:
    """Settings of the table.

    Attributes:
        models: Trained models.
        truth: Geant4 showers that none of them was trained on.
        showers: Number of its showers that are made again.
        batches: Batch sizes that are timed.
        seconds: Intended time of one measurement, s.
        seed: Seed of the noise.
        cnn: Also train the CNN that judges cells, on at most `CNN_SHOWERS` of each sample; minutes for each
            path with showers of its own.
    """

    models: tuple[Source, ...]
    truth: Path
    showers: int
    batches: tuple[int, ...] = (1, 128)
    seconds: float = 3.0
    seed: int = 1
    cnn: bool = False


def compare_precisions(plan: PrecisionPlan, report: Report = lambda *_: None) -> dict[str, Any]:
    """Measure every path; returns the document of precisions.json.

    Args:
        plan: Settings of the table.
        report: Called with (steps done, total steps, name of the current path).
    """
    facts, core = machine(), quietest_core()
    paths = [(source, *path) for source in plan.models for path in _paths()]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="caloforge-") as name:
        folder, read = Path(name), _reader(plan, plan.showers)
        few = _reader(plan, min(plan.showers, CNN_SHOWERS))
        truth = read(plan.truth, "truth")
        judged = few(plan.truth, "truth") if plan.cnn else truth
        reference: Sample | None = None
        cnn: dict[str, Any] = {}
        for done, (source, backend, precision) in enumerate(paths):
            report(done, len(paths), f"{source.name}, {backend} {precision}")
            row: dict[str, Any] = {"name": source.name, "backend": backend, "precision": precision}
            made, timed = folder / f"{done}.h5", _reason(source, backend)
            row |= {"reason": timed} if timed else _run(plan, source, backend, precision, core, made, folder)
            if (backend, precision) == REFERENCE:
                reference = None
            if made.exists():
                sample = read(made, f"{backend} {precision}")
                reference = sample if reference is None else reference
                row |= _accuracy(truth, sample, plan.seed)
                row["other_cells"] = _other_cells(sample, reference)
                if plan.cnn:
                    report(done, len(paths), f"{source.name}, {backend} {precision}, CNN")
                    known = sample is not reference and row["other_cells"] < SAME_SHOWERS
                    if not known:
                        seen, first = few(made, sample.name), sample is reference
                        row["cnn"] = _cnn(judged, seen, plan.seed, floor=first)
                        cnn = row["cnn"] if first else cnn
                    else:
                        row["cnn"] = cnn
                made.unlink()
            rows.append(row)
    report(len(paths), len(paths), "")
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **provenance.collect(),
        "machine": facts,
        "truth": str(plan.truth),
        "showers": plan.showers,
        **({"cnn_showers": min(plan.showers, CNN_SHOWERS)} if plan.cnn else {}),
        "batches": list(plan.batches),
        "seed": plan.seed,
        "results": rows,
    }


def _paths() -> Iterator[tuple[str, str]]:
    """Every backend and precision, torch in fp32 first."""
    for name, backend in BACKENDS.usable().items():
        for precision in sorted(backend.precisions, key=get_args(Precision).index):
            yield name, precision


def _reason(source: Source, backend: str) -> str:
    """Why a model cannot run on a backend, without trying; empty if it may."""
    if backend == "numba" and not source.compilable:
        return "the family has no compiled form"
    if backend != "torch" and not source.exportable and backend != "numba":
        return "the family cannot be written as a graph"
    missing = [name for name in packages_of(Plan(backend)) if find_spec(name) is None]
    return f"{', '.join(missing)} not installed: pip install 'caloforge[onnx]'" if missing else ""


def _run(
    plan: PrecisionPlan, source: Source, backend: str, precision: str, core: int, made: Path, cache: Path
) -> dict[str, Any]:
    """Times by batch size, or why there are none; writes showers to `made` if that is not too slow."""
    job = {
        "kind": "model",
        "threads": 1,
        "core": core,
        "source": source.source,
        "backend": backend,
        "precision": precision,
        "batches": plan.batches,
        "seconds": plan.seconds,
        "disk": False,
        "cpu_time": True,
        "seed": plan.seed,
        "like": {"truth": str(plan.truth), "showers": plan.showers, "out": str(made)},
        "longest": LONGEST_COMPARISON,
    }
    limit = START_SECONDS + TIME_FACTOR * plan.seconds * (len(plan.batches) + 1) + LONGEST_COMPARISON
    found = measure(job, limit, cache=cache)
    times = {answer["batch"]: answer["seconds"] for answer in found.with_keys("batch", "seconds")}
    row: dict[str, Any] = {"ms": {str(batch): 1e3 * float(np.median(s)) for batch, s in times.items()}}
    slow = [f"too slow: {answer['slow']:.2g} s a shower" for answer in found.with_keys("slow")]
    reason = found.problem or next(iter(slow), "")
    return row | ({"reason": reason} if reason else {})


def _reader(plan: PrecisionPlan, showers: int) -> Callable[[Path, str], Sample]:
    """A function that reads the first `showers` of a file, with the hit threshold of the truth."""
    with ShowerFile(plan.truth) as file:
        threshold = default_threshold(file.detector, file.energy_meaning)

    def read(path: Path, name: str) -> Sample:
        with ShowerFile(path) as file:
            keep = np.arange(len(file)) < showers
        return read_sample(path, name, [INCLUSIVE], threshold=threshold, keep=keep)

    return read


def _accuracy(truth: Sample, sample: Sample, seed: int) -> dict[str, Any]:
    """Area of boosted trees, and shifts of the means at fixed incident conditions, with uncertainties."""
    tables = [high_level_features(one.values, one.conditions.energy) for one in (truth, sample)]
    found = {"trees": classifier_auc(tables[0], tables[1], seed=seed)}
    resampler = Resampler(len(truth), len(sample), seed=seed)
    fixed = AtFixedConditions(truth.conditions, _shifting(truth))
    columns = [fixed.adjust(one.conditions, _shifting(one)).T for one in (truth, sample)]
    found |= {
        name: mean_shift(want, got, resampler) for name, want, got in zip(SHIFTS, *columns, strict=True)
    }
    return {name: metric.to_json() for name, metric in found.items()}


def _cnn(truth: Sample, sample: Sample, seed: int, *, floor: bool) -> dict[str, Any]:
    """AUC of the CNN on all cells, with its uncertainty and floor.

    With `floor` that of two halves of Geant4 is measured; otherwise it is that expected of equal samples.
    """
    [(area, _)] = classify(truth, sample, [STRONG], repeats=1, seed=seed, measure_floor=floor).values()
    return area.to_json()


def _shifting(sample: Sample) -> NDArray[np.float64]:
    """What `SHIFTS` compares, (N, k)."""
    return np.stack([sample.values[name].astype(np.float64) for name in SHIFTS], axis=1)


def _other_cells(sample: Sample, reference: Sample) -> float:
    """Share of the energy that lies in other cells than in the reference, with the same noise."""
    want = reference.kept_showers.astype(np.float64)
    return float(np.abs(sample.kept_showers - want).sum() / want.sum())


# ---- the table

TIMES, CNN = "CPU ms a shower", "CNN, AUC"
HEADINGS = ("", "arithmetic", TIMES, "trees, AUC", CNN, "mean response", "mean hits", "in other cells")


def precision_table(document: dict[str, Any]) -> str:
    """The table in Markdown, what cannot run with the reason, and the machine."""
    batches = ", ".join(map(str, document["batches"]))
    headings = [f"{h}, batch {batches}" if h == TIMES else h for h in HEADINGS]
    rules = ["---" if column < 2 else "---:" for column in range(len(headings))]
    measured = [row for row in document["results"] if row.get("ms")]
    lines = [headings, rules, *map(_cells, measured)]
    if not any("cnn" in row for row in measured):
        column = HEADINGS.index(CNN)
        lines = [[*cells[:column], *cells[column + 1 :]] for cells in lines]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    reasons = [
        f"- {row['name']}, {row['backend']} {row['precision']}: {row['reason']}"
        for row in document["results"]
        if "reason" in row
    ]
    notes = "\n".join(reasons) + "\n\n" if reasons else ""
    return (
        f"{table}\n\n{notes}{document['showers']} showers against Geant4, noise the same for all. "
        f"{_cnn_note(document)}"
        f"{machine_line(document)}. Measured by `{document['command']}`.\n"
    )


def _cnn_note(document: dict[str, Any]) -> str:
    """Note below the table: number of showers of the CNN, and its AUC between two halves of Geant4."""
    floors = [
        row["cnn"]["floor"]
        for row in document["results"]
        if "cnn" in row and (row["backend"], row["precision"]) == REFERENCE
    ]
    if not floors:
        return ""
    shown = " and ".join(f"{floor:.3f}" for floor in floors)
    count = document["cnn_showers"]
    return f"CNN: {count} of them; between two halves of those of Geant4 {shown}. "


def _cells(row: dict[str, Any]) -> list[str]:
    times = ", ".join(plain(ms) for ms in row["ms"].values())
    front = [row["name"], f"{row['backend']} {row['precision']}", times]
    if "trees" not in row:
        return [*front, *[""] * (len(HEADINGS) - len(front))]
    areas = [Metric(**row[name]) if name in row else None for name in ("trees", "cnn")]
    shifts = [Metric(**row[name]) for name in SHIFTS]
    return [
        *front,
        *("" if area is None else f"{area.value:.3f} ± {area.uncertainty:.3f}" for area in areas),
        *(f"{100 * s.value:.2f} ± {100 * s.uncertainty:.2f} %" for s in shifts),
        f"{row['other_cells']:.1e}",
    ]

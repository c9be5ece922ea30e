"""`validate_files`: shower files in, a verdict, a report and metrics.json out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge import provenance
from caloforge.errors import ConfigError, OutputError
from caloforge.files import check_new, write_text, writing
from caloforge.observables import Observable, catalogue, default_threshold
from caloforge.references import REFERENCES
from caloforge.validation import notes, showers
from caloforge.validation.comparison import Comparison, Difference, compare_showers
from caloforge.validation.conditions import Bin, make_bins
from caloforge.validation.document import metrics_document
from caloforge.validation.drawing import Drawers
from caloforge.validation.figures import Figure
from caloforge.validation.inputs import Inputs, Progress, admit, read_samples
from caloforge.validation.report import Contents, build_report
from caloforge.validation.sample import Sample
from caloforge.validation.thresholds import ThresholdSet, load_thresholds
from caloforge.validation.verdict import judge

# a folder without both is no report, and --force leaves it alone
MARKS = ("report.html", "metrics.json")


@dataclass(frozen=True)
class Result:
    """The outcome of a validation.

    Attributes:
        passed: Whether every generator is within the thresholds.
        report: The report, report.html.
        metrics: The content of metrics.json.
    """

    passed: bool
    report: Path
    metrics: dict[str, Any]


def validate_files(
    truth: Path | str,
    generated: Sequence[Path | str],
    out: Path | str,
    *,
    thresholds: str = "3dgan",
    classifier: bool = True,
    reweight: bool = False,
    threshold: float | None = None,
    seed: int = 0,
    workers: int = 2,
    force: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Compare generated showers with full simulation and write a report with a verdict.

    Args:
        truth: Shower file of the full simulation.
        generated: Shower files to judge; all are overlaid in one report.
        out: Report directory to make: report.html, metrics.json, figures.json, figures/.
        thresholds: Name of a threshold set ("strict", "3dgan") or a YAML file.
        classifier: Also train boosted trees to tell the samples apart.
        reweight: Thin samples whose incident spectrum differs to the truth's instead of refusing them.
        threshold: Voxels above it are hits, MeV; by default what analyses of this kind of detector use.
        seed: Seed of bootstrap, classifier and thinning.
        workers: Threads, and processes that draw.
        force: Replace an earlier report.
        progress: Called with (what is being done, done, total).

    Returns:
        Verdict, path of the report, and all numbers.

    Raises:
        DataError: Files that cannot be compared: another detector, mesh, unit, energy meaning or incident
            spectrum; values that are not finite; too few showers.
        ConfigError: Unknown thresholds, or no generated sample.
        OutputError: The report exists without `force`, or cannot be written.
    """
    out = _check_out(Path(out), force)
    if not generated:
        raise ConfigError("no generated sample: give at least one shower file to judge")
    tell: Progress = progress or (lambda *_: None)
    inputs = admit(truth, generated, reweight=reweight, seed=seed)
    if threshold is None:
        threshold = default_threshold(inputs.detector, inputs.energy_meaning)
    observables = catalogue(inputs.detector, threshold=threshold)
    chosen = load_thresholds(thresholds, [o.name for o in observables])
    bins = make_bins(inputs.files[0].taken, [file.taken for file in inputs.files[1:]])
    samples = read_samples(inputs, bins, threshold=threshold, workers=workers, progress=tell)
    differences, figures = _compare(samples, observables, bins, seed=seed, workers=workers, progress=tell)
    with _report_folder(out) as folder:
        names = [sample.name for sample in samples]
        numbers = {"samples": names, "figures": [figure.to_json() for figure in figures]}
        write_text(folder / "figures.json", json.dumps(numbers, separators=(",", ":"), allow_nan=False))
        drawers = Drawers(folder / "figures.json", folder / "figures", workers)
        try:
            for sample in samples[1:]:
                differences += compare_showers(samples[0], sample, classifier=classifier, seed=seed)
            facts = {"hit_threshold_MeV": threshold, "provenance": _provenance(inputs, seed)}
            contents = _contents(inputs, samples, observables, bins, figures, differences, chosen, facts)
            write_text(folder / "report.html", build_report(contents))
            write_text(folder / "metrics.json", json.dumps(contents.metrics, indent=1, allow_nan=False))
            tell("draw figures", 0, 1)
            drawers.wait()
            tell("draw figures", 1, 1)
        finally:
            drawers.stop()
    return Result(contents.metrics["passed"], out / "report.html", contents.metrics)


def _check_out(out: Path, force: bool) -> Path:
    if out.exists() and force and not all((out / mark).is_file() for mark in MARKS):
        raise OutputError(f"{out} holds no report, so --force does not replace it; choose another name")
    return check_new(out, force=force)


def _compare(
    samples: list[Sample],
    observables: Sequence[Observable],
    bins: list[Bin],
    *,
    seed: int,
    workers: int,
    progress: Progress,
) -> tuple[list[Difference], list[Figure]]:
    """Every difference and figure, several observables at once."""
    comparison = Comparison(samples[0], samples[1:], bins, seed=seed)
    differences: list[Difference] = []
    figures: list[Figure] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, (found, drawn) in enumerate(pool.map(comparison.examine, observables), start=1):
            differences += found
            figures += drawn
            progress("compare observables", done, len(observables))
    return differences, figures


def _contents(
    inputs: Inputs,
    samples: list[Sample],
    observables: Sequence[Observable],
    bins: list[Bin],
    figures: list[Figure],
    differences: list[Difference],
    thresholds: ThresholdSet,
    facts: dict[str, Any],
) -> Contents:
    """Judge, and collect what the report shows."""
    truth, others = samples[0], samples[1:]
    verdicts = [judge(s.name, [d for d in differences if d.generator == s.name], thresholds) for s in others]
    sentences = inputs.notes()
    for sample in samples:
        sentences += notes.odd_showers(sample)
    sentences += notes.small_samples(verdicts, others)
    metrics = metrics_document(
        truth,
        others,
        verdicts,
        thresholds,
        bins=[{"key": b.key, "label": b.label, "axis": b.axis} for b in bins],
        spectra={file.name: vars(file.spectra) for file in inputs.files[1:]},
        notes=sentences,
        **facts,
    )
    return Contents(
        title=f"{', '.join(s.name for s in others)} against {truth.name}",
        truth=truth,
        generated=others,
        observables=observables,
        bins=bins,
        figures=figures,
        verdicts=verdicts,
        picked=showers.pick(truth, others),
        notes=sentences,
        metrics=metrics,
        references=REFERENCES,
    )


def _provenance(inputs: Inputs, seed: int) -> dict[str, Any]:
    files = {file.name: {"file": file.path.name} | file.provenance for file in inputs.files}
    return provenance.collect(packages=("numpy", "scikit-learn", "h5py"), seed=seed, files=files)


@contextlib.contextmanager
def _report_folder(out: Path) -> Iterator[Path]:
    """A folder beside the final place, moved there when everything in it is complete."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with writing(out):
            shutil.rmtree(partial, ignore_errors=True)
            (partial / "figures").mkdir(parents=True)
        yield partial
        with writing(out):
            if out.exists():
                shutil.rmtree(out)
            partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

"""`validate_files`: shower files in, a verdict, a report and metrics.json out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caloforge import provenance
from caloforge.errors import ConfigError, OutputError
from caloforge.files import check_new, write_text, writing
from caloforge.observables import Observable, catalogue, default_threshold
from caloforge.references import REFERENCES
from caloforge.validation import notes
from caloforge.validation.chapters import add_correlations, add_response, add_whole_showers
from caloforge.validation.comparison import Comparison, Difference
from caloforge.validation.conditions import Bin, make_bins
from caloforge.validation.contents import Contents
from caloforge.validation.derived import AT_DEPTH, add_response_at_depth
from caloforge.validation.document import metrics_document
from caloforge.validation.drawing import Drawers
from caloforge.validation.figures import Figure
from caloforge.validation.inputs import Inputs, Progress, admit, read_samples
from caloforge.validation.report import build_report
from caloforge.validation.sample import Sample
from caloforge.validation.showers import averages, events, pick, planes
from caloforge.validation.slow import Slow, add_slow, check_networks, check_protocol
from caloforge.validation.thresholds import ThresholdSet, load_thresholds
from caloforge.validation.verdict import judge
from caloforge.validation.whole_showers import compare_correlations, compare_showers

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
    truth2: Path | str | None = None,
    reweight: bool = False,
    threshold: float | None = None,
    neural: Sequence[str] = (),
    repeats: int = 1,
    triforce: Sequence[Path | str] = (),
    protocol: str | None = None,
    pdf: bool = True,
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
        truth2: Second, independent shower file of the full simulation: the floor of every metric is then its
            distance from the first one, instead of that between halves of the first.
        reweight: Thin samples whose incident spectrum differs to the truth's instead of refusing them.
        threshold: Voxels above it are hits, MeV; by default what analyses of this kind of detector use.
        neural: Neural classifiers to train: "low", "low-normed", "high", "cnn"; minutes to hours each.
        repeats: Trainings of each neural classifier.
        triforce: Shower files of the full simulation to train a particle classifier and an energy regressor
            on, which are then applied to truth and generated showers; minutes.
        protocol: "calochallenge" adds the row that a submission to the challenge would have; the neural
            classifiers asked for are part of it.
        pdf: Also draw every figure as a vector PDF.
        seed: Seed of everything random.
        workers: Threads, and processes that draw.
        force: Replace an earlier report.
        progress: Called with (what is being done, done, total).

    Returns:
        Verdict, path of the report, and all numbers.

    Raises:
        DataError: Files that cannot be compared: another detector, mesh, unit, energy meaning or incident
            spectrum; values that are not finite; too few showers.
        ConfigError: Unknown thresholds, networks or protocol, or no generated sample.
        OutputError: The report exists without `force`, or cannot be written.
    """
    tell: Progress = progress or (lambda *_: None)
    out = _check_out(Path(out), force)
    if not generated:
        raise ConfigError("no generated sample: give at least one shower file to judge")
    check_networks(neural)
    check_protocol(protocol)
    inputs = admit(truth, generated, second=truth2, reweight=reweight, seed=seed)
    if threshold is None:
        threshold = default_threshold(inputs.detector, inputs.energy_meaning)
    observables = (*catalogue(inputs.detector, threshold=threshold), AT_DEPTH)
    chosen = load_thresholds(thresholds, [o.name for o in observables])
    bins = make_bins(inputs.files[0].taken, [file.taken for file in inputs.files[1:]])
    samples = read_samples(inputs, bins, threshold=threshold, workers=workers, progress=tell)
    samples = add_response_at_depth(samples)
    judged = samples[1:-1] if truth2 else samples[1:]
    comparison = Comparison(samples[0], judged, bins, seed=seed)
    differences, figures = _compare(comparison, observables, workers=workers, progress=tell)
    contents = Contents(samples[0], judged, observables, bins, figures, references=REFERENCES)
    contents.events = events(pick(samples[0], judged), inputs.detector)
    contents.averages = averages(contents.samples, bins)
    add_response(contents)
    correlated = compare_correlations(samples[0], judged)
    add_correlations(contents, correlated)
    differences += correlated.differences
    with _report_folder(out) as folder:
        slow = Slow(neural, repeats, [Path(path) for path in triforce], protocol)
        add_slow(contents, slow, inputs, seed=seed, progress=tell)
        write_text(folder / "figures.json", _figures_document(contents))
        drawers = Drawers(folder / "figures.json", folder / "figures", workers if pdf else 0)
        try:
            for sample in judged:
                differences += compare_showers(samples[0], sample, bins, classifier=classifier, seed=seed)
            if truth2:
                differences = _floors_from(samples, observables, bins, differences, classifier, seed)
            _judge(contents, differences, chosen, inputs, {"hit_threshold_MeV": threshold, "seed": seed})
            add_whole_showers(contents)
            write_text(folder / "report.html", build_report(contents))
            write_text(folder / "metrics.json", json.dumps(contents.metrics, indent=1, allow_nan=False))
            drawers.wait()
        finally:
            drawers.stop()
    return Result(contents.metrics["passed"], out / "report.html", contents.metrics)


def _check_out(out: Path, force: bool) -> Path:
    if out.exists() and force and not all((out / mark).is_file() for mark in MARKS):
        raise OutputError(f"{out} holds no report, so --force does not replace it; choose another name")
    return check_new(out, force=force)


def _compare(
    comparison: Comparison, observables: Sequence[Observable], *, workers: int, progress: Progress
) -> tuple[list[Difference], list[Figure]]:
    """Every difference and figure, several observables at once."""
    differences: list[Difference] = []
    figures: list[Figure] = []
    with ThreadPoolExecutor(workers) as pool:
        for done, (found, drawn) in enumerate(pool.map(comparison.examine, observables), start=1):
            differences += found
            figures += drawn
            progress("compare observables", done, len(observables))
    return differences, figures


def _floors_from(
    samples: list[Sample],
    observables: Sequence[Observable],
    bins: Sequence[Bin],
    differences: list[Difference],
    classifier: bool,
    seed: int,
) -> list[Difference]:
    """The differences with the floor that a second sample of the truth, the last one, measures."""
    first, second = samples[0], samples[-1]
    comparison = Comparison(first, [second], bins, seed=seed)
    among, _ = _compare(comparison, observables, workers=1, progress=lambda *_: None)
    among += compare_correlations(first, [second]).differences
    among += compare_showers(first, second, bins, classifier=classifier, seed=seed)
    floor = {(d.observable, d.metric, d.bin.key, d.place): abs(d.result.value) for d in among}
    return [
        replace(d, result=replace(d.result, floor=floor.get(key, d.result.floor)))
        for d in differences
        for key in [(d.observable, d.metric, d.bin.key, d.place)]
    ]


def _judge(
    contents: Contents,
    differences: list[Difference],
    thresholds: ThresholdSet,
    inputs: Inputs,
    facts: dict[str, Any],
) -> None:
    """Fill in verdicts, notes and metrics.json."""
    judged = contents.generated
    contents.verdicts = [
        judge(s.name, [d for d in differences if d.generator == s.name], thresholds) for s in judged
    ]
    contents.notes += inputs.notes()
    for sample in contents.samples:
        contents.notes += notes.odd_showers(sample)
    contents.notes += notes.small_samples(contents.verdicts, judged)
    files = {file.name: {"file": file.path.name} | file.provenance for file in inputs.files}
    contents.metrics |= metrics_document(
        contents.truth,
        judged,
        contents.verdicts,
        thresholds,
        bins=[{"key": b.key, "label": b.label, "axis": b.axis} for b in contents.bins],
        spectra={file.name: vars(file.spectra) for file in inputs.files[1:]},
        notes=contents.notes,
        provenance=provenance.collect(packages=("numpy", "scikit-learn", "h5py"), files=files),
        **facts,
    )


def _figures_document(contents: Contents) -> str:
    numbers = {
        "samples": [sample.name for sample in contents.samples],
        "figures": [figure.to_json() for figure in contents.figures],
        "matrices": [vars(matrix) for matrix in contents.matrices],
        "planes": planes(contents.truth.detector),
        "events": [{key: event[key] for key in ("label", "showers")} for event in contents.events],
        "averages": contents.averages,
    }
    return json.dumps(numbers, separators=(",", ":"), allow_nan=False)


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

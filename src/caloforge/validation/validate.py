"""Validation of shower files: comparison, verdict, report and metrics.json."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from caloforge import provenance
from caloforge.errors import ConfigError, OutputError
from caloforge.files import check_new, partial_path, write_text, writing
from caloforge.observables import Observable, catalogue, default_threshold
from caloforge.references import REFERENCES
from caloforge.showers import ShowerFile
from caloforge.showers.joined import file_record
from caloforge.validation import data_warnings
from caloforge.validation.comparison import Comparison, Difference
from caloforge.validation.conditions import Bin, make_bins
from caloforge.validation.energy_bands import (
    BandArea,
    band_areas,
    band_differences,
    band_figure,
    energy_bands,
)
from caloforge.validation.event_displays import averages, events, extents, pick, planes
from caloforge.validation.figure_data import Figure
from caloforge.validation.inputs import Inputs, Progress, admit, read_samples
from caloforge.validation.leakage_correction import AT_DEPTH, add_response_at_depth
from caloforge.validation.metrics_document import metrics_document
from caloforge.validation.multivariate import (
    compare_correlations,
    compare_generators,
    compare_showers,
    summarise,
)
from caloforge.validation.observed_sample import Sample
from caloforge.validation.optional_tests import Slow, add_slow, check_networks, check_protocol
from caloforge.validation.particle_separation import (
    ParticlePair,
    pair_differences,
    particle_bands,
    particle_pairs,
)
from caloforge.validation.pdf_figures import Drawers
from caloforge.validation.report import build_report
from caloforge.validation.report_model import Contents
from caloforge.validation.report_sections import (
    add_correlations,
    add_particle_pairs,
    add_position,
    add_response,
    add_whole_showers,
)
from caloforge.validation.thresholds import ThresholdSet, load_thresholds
from caloforge.validation.verdict import State, judge

# files of a report; --force replaces no folder without them
MARKS = ("report.html", "metrics.json")


@dataclass(frozen=True)
class Result:
    """The outcome of a validation.

    Attributes:
        verdict: The worst of all generators: "within", "undecided" or "not within".
        report: The report, report.html.
        metrics: The content of metrics.json.
    """

    verdict: State
    report: Path
    metrics: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every generator is within the thresholds."""
        return self.verdict == "within"


def validate_files(
    truth: Path | str,
    generated: Sequence[Path | str],
    out: Path | str,
    *,
    thresholds: str = "3dgan",
    classifier: bool = True,
    truth2: Path | str | None = None,
    training: Sequence[Path | str] = (),
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
        training: Shower files that the generators were trained on: whether generated showers are near copies
            of them. The truth must not be among them.
        reweight: Thin samples whose incident spectrum differs to the truth's instead of refusing them.
        threshold: Voxels above it are hits, MeV; by default what analyses of this kind of detector use.
        neural: Neural classifiers to train: "strong", and of the CaloChallenge "low", "low-normed", "high",
            "cnn"; minutes to hours each.
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
    if not generated:
        raise ConfigError("no generated sample: give at least one shower file to judge")
    out = Path(out)
    request = check_request(
        truth,
        generated,
        out,
        thresholds=thresholds,
        truth2=truth2,
        training=training,
        reweight=reweight,
        threshold=threshold,
        neural=neural,
        triforce=triforce,
        protocol=protocol,
        seed=seed,
        force=force,
    )
    inputs = request.inputs
    job = _Job(
        inputs=inputs,
        observables=request.observables,
        bins=make_bins(inputs.files[0].taken, [file.taken for file in inputs.files[1:]]),
        thresholds=request.thresholds,
        hit_threshold=request.hit_threshold,
        second=truth2 is not None,
        classifier=classifier,
        seed=seed,
        workers=workers,
        tell=progress or (lambda *_: None),
    )
    # our own threads are enough: those of BLAS and OpenMP would wait for one another
    with threadpool_limits(limits=1):
        samples, trained_on = job.read()
        contents, differences = job.compare(samples)
    slow = Slow(neural, repeats, [Path(path) for path in triforce], protocol)
    add_slow(contents, slow, inputs, seed=seed, progress=job.tell)
    with threadpool_limits(limits=1), _report_folder(out) as folder:
        write_text(folder / "figures.json", _figures_document(contents))
        drawers = Drawers(folder / "figures.json", folder / "figures", workers if pdf else 0)
        try:
            job.judge(samples, trained_on, contents, differences)
            write_text(folder / "report.html", build_report(contents))
            write_text(folder / "metrics.json", json.dumps(contents.metrics, indent=1, allow_nan=False))
            drawers.wait()
        finally:
            drawers.stop()
    return Result(contents.metrics["verdict"], out / "report.html", contents.metrics)


@dataclass(frozen=True)
class Request:
    """What was asked for, found to be possible.

    Attributes:
        inputs: The files.
        observables: What is compared.
        thresholds: What is tolerated.
        hit_threshold: Voxels above it are hits, MeV.
    """

    inputs: Inputs
    observables: tuple[Observable, ...]
    thresholds: ThresholdSet
    hit_threshold: float


def check_request(
    truth: Path | str,
    generated: Sequence[Path | str],
    out: Path,
    *,
    thresholds: str = "3dgan",
    truth2: Path | str | None = None,
    training: Sequence[Path | str] = (),
    reweight: bool = False,
    threshold: float | None = None,
    neural: Sequence[str] = (),
    triforce: Sequence[Path | str] = (),
    protocol: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> Request:
    """Check everything that can be checked before a shower is read.

    The arguments are those of `validate_files`; `generated` may lack the files that are made later.

    Raises:
        DataError, ConfigError, OutputError: See `validate_files`.
    """
    _check_out(out, force)
    check_networks(neural)
    check_protocol(protocol)
    for path in triforce:
        with ShowerFile(path):
            pass
    inputs = admit(truth, generated, second=truth2, training=training, reweight=reweight, seed=seed)
    if threshold is None:
        threshold = default_threshold(inputs.detector, inputs.energy_meaning)
    impacts = inputs.files[0].conditions.off_axis
    observables = (*catalogue(inputs.detector, threshold=threshold, impacts=impacts), AT_DEPTH)
    tolerated = load_thresholds(thresholds, [o.name for o in observables])
    return Request(inputs, observables, tolerated, threshold)


@dataclass(frozen=True)
class _Job:
    """A validation: samples, observables, bins, thresholds and options."""

    inputs: Inputs
    observables: tuple[Observable, ...]
    bins: list[Bin]
    thresholds: ThresholdSet
    hit_threshold: float
    second: bool
    classifier: bool
    seed: int
    workers: int
    tell: Progress

    def read(self) -> tuple[list[Sample], Sample | None]:
        """Observables of all samples, the truth first, a second truth last; and of the training showers."""
        samples, trained_on = read_samples(
            self.inputs, self.bins, threshold=self.hit_threshold, workers=self.workers, progress=self.tell
        )
        if trained_on is None:
            return add_response_at_depth(samples), None
        *samples, trained_on = add_response_at_depth([*samples, trained_on])
        return samples, trained_on

    def compare(self, samples: list[Sample]) -> tuple[Contents, list[Difference]]:
        """Every difference of single observables, and the figures."""
        judged = samples[1:-1] if self.second else samples[1:]
        differences, figures = self._examine(samples[0], judged)
        contents = Contents(samples[0], judged, self.observables, self.bins, figures, references=REFERENCES)
        contents.events = events(pick(samples[0], judged), self.inputs.detector)
        contents.averages = averages(contents.samples, self.bins)
        add_response(contents)
        add_position(contents)
        correlated = compare_correlations(samples[0], judged)
        add_correlations(contents, correlated)
        areas, pairs = self._band_areas(samples, judged), self._particle_pairs(samples, judged)
        figure = band_figure(judged, areas)
        contents.figures += [figure] if figure else []
        add_particle_pairs(contents, pairs)
        differences += [*correlated.differences, *band_differences(areas), *pair_differences(pairs)]
        return contents, differences

    def _band_areas(self, samples: Sequence[Sample], judged: Sequence[Sample]) -> list[BandArea]:
        """Areas of boosted trees by energy and particle, between the first sample and those judged."""
        if not self.classifier:
            return []
        # the same bands for the generators and the second truth
        bands = [*energy_bands(samples, self.bins), *particle_bands(samples, self.bins)]
        return band_areas(samples[0], judged, bands, seed=self.seed, workers=self.workers, tell=self.tell)

    def _particle_pairs(self, samples: Sequence[Sample], judged: Sequence[Sample]) -> list[ParticlePair]:
        """How well particles are told apart, in the first sample and in those judged."""
        if not self.classifier:
            return []
        bands = particle_bands(samples, self.bins)
        return particle_pairs(samples[0], judged, bands, seed=self.seed, workers=self.workers, tell=self.tell)

    def _examine(self, truth: Sample, judged: list[Sample]) -> tuple[list[Difference], list[Figure]]:
        """Several observables at once."""
        comparison = Comparison(truth, judged, self.bins, seed=self.seed)
        differences: list[Difference] = []
        figures: list[Figure] = []
        with ThreadPoolExecutor(self.workers) as pool:
            found = pool.map(comparison.examine, self.observables)
            for done, (measured, drawn) in enumerate(found, start=1):
                differences += measured
                figures += drawn
                self.tell("compare observables", done, len(self.observables))
        return differences, figures

    def judge(
        self,
        samples: list[Sample],
        trained_on: Sample | None,
        contents: Contents,
        differences: list[Difference],
    ) -> None:
        """Compare all observables at once; fill in verdicts, notes and metrics.json."""
        for sample in contents.generated:
            differences = [*differences, *self._multivariate(samples[0], sample, trained_on)]
        if self.classifier:
            differences += compare_generators(samples[0], contents.generated, seed=self.seed)
        differences = [*differences, *summarise(differences)]
        if self.second:
            differences = self._with_floors(samples, trained_on, differences)
        contents.verdicts = [
            judge(
                s.name,
                [d for d in differences if d.generator == s.name],
                self.thresholds,
                (len(contents.truth), len(s)),
            )
            for s in contents.generated
        ]
        contents.notes += self.inputs.notes()
        for sample in contents.samples:
            contents.notes += data_warnings.odd_showers(sample)
        contents.notes += data_warnings.few_bins(self.bins, contents.samples)
        contents.notes += data_warnings.not_measured(self.thresholds, contents.verdicts)
        contents.notes += data_warnings.small_samples(contents.verdicts, contents.generated)
        contents.metrics |= metrics_document(
            contents.truth,
            contents.generated,
            contents.verdicts,
            self.thresholds,
            bins=_describe_bins([*self.bins, *(difference.bin for difference in differences)]),
            spectra={file.name: vars(file.spectra) for file in self.inputs.files[1:]},
            notes=contents.notes,
            hit_threshold_MeV=self.hit_threshold,
            seed=self.seed,
            **self._training(),
            provenance=self._provenance(),
        )
        add_whole_showers(contents)

    def _multivariate(self, truth: Sample, other: Sample, trained_on: Sample | None) -> list[Difference]:
        found = compare_showers(
            truth, other, self.bins, classifier=self.classifier, seed=self.seed, training=trained_on
        )
        return list(found)

    def _with_floors(
        self, samples: list[Sample], trained_on: Sample | None, differences: list[Difference]
    ) -> list[Difference]:
        """The differences with the floor that the second sample of the truth measures."""
        first, second = samples[0], samples[-1]
        among, _ = self._examine(first, [second])
        among += compare_correlations(first, [second]).differences
        among += band_differences(self._band_areas(samples, [second]))
        among += pair_differences(self._particle_pairs(samples, [second]))
        among += self._multivariate(first, second, trained_on)
        among += list(summarise(among))

        def key(d: Difference) -> tuple[str, str, str, int | None]:
            return d.observable, d.metric, d.bin.key, d.place

        floors = {key(d): abs(d.result.value) for d in among}
        return [
            replace(d, result=replace(d.result, floor=floors.get(key(d), d.result.floor)))
            for d in differences
        ]

    def _training(self) -> dict[str, Any]:
        """The entry of the training files, where they were given."""
        files = [{**file_record(file.path), "showers": len(file.conditions)} for file in self.inputs.training]
        return {"training": files} if files else {}

    def _provenance(self) -> dict[str, Any]:
        files = {file.name: file_record(file.path) | file.provenance for file in self.inputs.files}
        return provenance.collect(packages=("numpy", "scikit-learn", "h5py"), files=files)


def _describe_bins(bins: Sequence[Bin]) -> list[dict[str, str]]:
    """Each bin once, JSON-compatible."""
    return [{"key": b.key, "label": b.label, "axis": b.axis} for b in dict.fromkeys(bins)]


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and force and not all((out / mark).is_file() for mark in MARKS):
        raise OutputError(f"{out} holds no report, so --force does not replace it; choose another name")
    check_new(out, force=force)


def _figures_document(contents: Contents) -> str:
    numbers = {
        "samples": [sample.name for sample in contents.samples],
        "figures": [figure.to_json() for figure in contents.figures],
        "matrices": [vars(matrix) for matrix in contents.matrices],
        "planes": planes(contents.truth.detector),
        "extents": extents(contents.truth.detector),
        "events": [{key: event[key] for key in ("label", "showers")} for event in contents.events],
        "averages": contents.averages,
    }
    return json.dumps(numbers, separators=(",", ":"), allow_nan=False)


@contextlib.contextmanager
def _report_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside the report directory, renamed to it when complete."""
    partial = partial_path(out)
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

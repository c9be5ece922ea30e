"""Boosted trees in bands of the incident energy, and for each of several particles.

One classifier over a spectrum cannot see its ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from caloforge.metrics.resampling import Metric
from caloforge.metrics.tree_classifier import auc_and_floor
from caloforge.observables import high_level_features
from caloforge.validation import formatting
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import INCLUSIVE, MAX_LISTED, Array, Axis, Bin
from caloforge.validation.figure_data import Figure, Series
from caloforge.validation.multivariate import SHOWER
from caloforge.validation.observed_sample import Sample
from caloforge.validation.report_model import Table
from caloforge.validation.verdict import Verdict

METRIC = "classifier_auc"
# fewest showers of a band in every sample, largest number of bands of a spectrum, most showers used of a band
BAND_SHOWERS, MAX_BANDS, MAX_PER_BAND = 300, 6, 3000
# columns of the table: title, observable, metric
COLUMNS = (
    ("response", "response", "mean_shift"),
    ("its width", "response", "width_shift"),
    ("hits", "hits", "mean_shift"),
    ("their spread", "hits", "width_shift"),
)


@dataclass(frozen=True)
class BandArea:
    """Area of the trees in one band of the energy.

    Attributes:
        generator: Name of the sample.
        band: The band.
        energy: Mean incident energy of the truth, MeV.
        area: Area under the ROC curve; its floor is that between halves of the truth.
        floor_error: Standard error of the floor.
    """

    generator: str
    band: Bin
    energy: float
    area: Metric
    floor_error: float


def energy_bands(samples: Sequence[Sample], bins: Sequence[Bin]) -> list[Bin]:
    """The bands of energy that hold at least `BAND_SHOWERS` showers of every sample.

    Each of several listed energies is a band; a spectrum has up to `MAX_BANDS` of equal width in the
    logarithm. A band with too few showers is joined with the next one above.

    Args:
        samples: Full simulation first.
        bins: Those of the comparison, which have the listed energies.
    """
    energies = [sample.conditions.energy for sample in samples]
    distinct = len(np.unique(energies[0]))
    if distinct == 1:
        return []
    if distinct <= MAX_LISTED:
        listed = [where for where in bins if where.axis == "energy"]
        return [b for b in listed if all(b.select(s.conditions).sum() >= BAND_SHOWERS for s in samples)]
    low, high = float(energies[0].min()), float(energies[0].max())
    edges = _joined(energies, np.geomspace(low, high, MAX_BANDS + 1))
    if len(edges) < 3:
        return []
    # the outermost bands include showers beyond the range of the truth
    limits = [0.0, *edges[1:-1], np.inf]
    return [
        Bin(
            f"energy-band-{number}",
            f"{_gev(first)}–{_gev(last)} GeV",
            "energy",
            float(np.nextafter(limits[number - 1], np.inf)),
            float(limits[number]),
        )
        for number, (first, last) in enumerate(pairwise(edges), start=1)
    ]


def _gev(energy: float) -> str:
    """Energy in MeV as a number of GeV with three digits, without an exponent."""
    return f"{energy / 1e3:.0f}" if energy >= 1e6 else f"{energy / 1e3:.3g}"


def _joined(energies: Sequence[Array], edges: Array) -> list[float]:
    """Edges of bands with enough showers; the last ones are joined downwards."""
    kept = [float(edges[0])]
    for edge in edges[1:-1]:
        inside = [int(((e > kept[-1]) & (e <= edge)).sum()) for e in energies]
        beyond = [int((e > edge).sum()) for e in energies]
        if min(inside) >= BAND_SHOWERS and min(beyond) >= BAND_SHOWERS:
            kept.append(float(edge))
    return [*kept, float(edges[-1])]


def band_areas(
    truth: Sample,
    generated: Sequence[Sample],
    bands: Sequence[Bin],
    *,
    seed: int,
    workers: int = 1,
    tell: Callable[[str, int, int], object] = lambda *_: None,
) -> list[BandArea]:
    """Train boosted trees between the truth and each generator in each band.

    Args:
        truth: Full simulation.
        generated: The samples to judge.
        bands: From `energy_bands`, or of particles.
        seed: Seed of folds, trees and bootstrap.
        workers: Threads; trees release the interpreter lock.
        tell: Called with ("trees by band", done, total).
    """
    features = {s.name: high_level_features(s.values, s.conditions.energy) for s in (truth, *generated)}
    jobs = [(sample, band) for sample in generated for band in bands]

    def train(job: tuple[Sample, Bin]) -> BandArea:
        sample, band = job
        chosen = band.select(truth.conditions)
        area, floor_error = auc_and_floor(
            features[truth.name][chosen],
            features[sample.name][band.select(sample.conditions)],
            seed=seed,
            max_per_class=MAX_PER_BAND,
        )
        return BandArea(sample.name, band, float(truth.conditions.energy[chosen].mean()), area, floor_error)

    found = []
    with ThreadPoolExecutor(workers) as pool:
        for done, area in enumerate(pool.map(train, jobs), start=1):
            found.append(area)
            tell("trees by band", done, len(jobs))
    return found


def band_differences(areas: Sequence[BandArea]) -> list[Difference]:
    """The areas as differences for the verdict."""
    return [Difference(a.generator, SHOWER, METRIC, a.band, a.area) for a in areas]


def band_figure(generated: Sequence[Sample], areas: Sequence[BandArea]) -> Figure | None:
    """The area against the energy, with that of full simulation; None for a single band."""
    of_energy = [a for a in areas if a.band.axis == "energy"]
    own = {s.name: [a for a in of_energy if a.generator == s.name] for s in generated}
    first = next(iter(own.values()), [])
    if len(first) < 2:
        return None
    energy = np.array([a.energy for a in first]) / 1e3
    return Figure(
        observable=SHOWER,
        bin=INCLUSIVE,
        kind="trend",
        x_label="incident energy [GeV]",
        y_label="AUC of boosted trees",
        edges=energy,
        log_x=bool(energy[-1] > 10 * energy[0]),
        log_y=False,
        difference=True,
        truth=Series(np.array([a.area.floor for a in first]), np.array([a.floor_error for a in first])),
        generated=tuple(
            Series(np.array([a.area.value for a in found]), np.array([a.area.uncertainty for a in found]))
            for found in own.values()
        ),
    )


def band_table(verdict: Verdict, axis: Axis) -> Table | None:
    """One row per band of an axis: trees, and response and hits where its bins have them; None without."""
    found: dict[Bin, dict[tuple[str, str], Metric]] = {}
    for judgement in verdict.judgements:
        d = judgement.difference
        if d.bin.axis == axis and d.place is None:
            found.setdefault(d.bin, {})[d.observable, d.metric] = d.result
    bands = {band: results for band, results in found.items() if (SHOWER, METRIC) in results}
    columns = [c for c in COLUMNS if any(c[1:] in results for results in bands.values())]
    rows = tuple(
        (
            band.label,
            *(_cell(results.get(column[1:]), column[2]) for column in columns),
            _cell(results[SHOWER, METRIC], METRIC),
            formatting.format_number(results[SHOWER, METRIC].floor, METRIC),
        )
        for band, results in bands.items()
    )
    head = (axis, *(title for title, *_ in columns), "AUC of the trees", "AUC of full simulation")
    return Table("whole", f"{verdict.generator}: by {axis}", head, rows) if rows else None


def _cell(result: Metric | None, metric: str) -> str:
    return "–" if result is None else formatting.with_error(result.value, result.uncertainty, metric)

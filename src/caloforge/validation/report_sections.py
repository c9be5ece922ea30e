"""Sections of a report besides the observables: response, whole samples, neural networks, CaloChallenge."""

from __future__ import annotations

import math
from dataclasses import replace

from caloforge.metrics.calochallenge import published, published_source
from caloforge.metrics.registry import metrics
from caloforge.metrics.resampling import Metric
from caloforge.metrics.submission import Submission
from caloforge.validation import formatting
from caloforge.validation.conditions import INCLUSIVE, Axis
from caloforge.validation.energy_bands import band_table
from caloforge.validation.multivariate import CORRELATION, SHOWER, CorrelationComparison
from caloforge.validation.particle_separation import PARTICLES, ParticlePair, pair_table
from caloforge.validation.report_model import Card, Contents, Matrix, Table
from caloforge.validation.response import mip_peaks, position_resolution, summarise_response
from caloforge.validation.verdict import Verdict

# conditions that trees are trained in bands of
BAND_AXES: tuple[Axis, ...] = ("energy", "particle")
# columns of the CaloChallenge table: key, title, factor
ROW = (
    ("fpd_1e3", "FPD · 10³", 1.0),
    ("kpd_1e3", "KPD · 10³", 1.0),
    ("auc_low", "AUC low", 1.0),
    ("auc_high", "AUC high", 1.0),
    ("auc_cnn", "AUC CNN", 1.0),
    ("precision", "precision", 1.0),
    ("recall", "recall", 1.0),
    ("density", "density", 1.0),
    ("coverage", "coverage", 1.0),
    ("separation_layer_energy", "S layers · 10³", 1e3),
    ("separation_total_energy", "S total · 10³", 1e3),
    ("separation_cell_energy", "S voxels · 10³", 1e3),
    ("separation_centre_eta", "S centre η · 10³", 1e3),
    ("separation_width_eta", "S width η · 10³", 1e3),
    ("separation_sparsity", "S sparsity · 10³", 1e3),
)


def add_response(contents: Contents) -> None:
    """Resolution and linearity against the energy, and the MIP peak."""
    peaks = tuple(mip_peaks(contents.samples))
    contents.cards.append(Card("mip_peak", "Peak of minimum ionising particles", "cells", peaks))
    found = summarise_response(contents.samples)
    contents.cards += [
        Card("resolution", "Resolution against the incident energy", "response", found.resolution),
        Card("linearity", "Linearity", "response", found.linearity),
    ]
    contents.figures += found.figures


def add_position(contents: Contents) -> None:
    """Position resolution against the energy, of samples with impact points."""
    for axis in "xy":
        name = f"impact_residual_{axis}"
        if name in contents.truth.values:
            figure, facts = position_resolution(contents.samples, name)
            title = rf"position resolution in ${axis}$"
            contents.cards.append(Card(f"position_resolution_{axis}", title, "lateral", facts))
            contents.figures += [replace(figure, observable=f"position_resolution_{axis}")] if figure else []


def add_whole_showers(contents: Contents) -> None:
    """Tables of the metrics of all observables at once."""
    contents.cards.append(Card(SHOWER, "whole showers", "whole"))
    tables: list[Table] = []
    for verdict in contents.verdicts:
        bands = [band_table(verdict, axis) for axis in BAND_AXES]
        tables += [_whole_table(verdict), *(table for table in bands if table)]
    # those of pairs of particles follow
    contents.tables = [*tables, *contents.tables]


def add_particle_pairs(contents: Contents, pairs: list[ParticlePair]) -> None:
    """Tables of how well particles are told apart; nothing for a single particle."""
    if pairs:
        contents.cards.append(Card(PARTICLES, "particles told apart", "whole"))
        found = [pair_table(sample.name, pairs) for sample in contents.generated]
        contents.tables += [table for table in found if table]


def add_correlations(contents: Contents, found: CorrelationComparison) -> None:
    """The correlation matrices."""
    contents.cards.append(Card(CORRELATION, "correlations of observables", "correlations"))
    named = {o.name: o.label for o in contents.observables}
    contents.matrices.append(
        Matrix(
            "correlations",
            tuple(named[name] for name in found.names),
            tuple(f"{s.name}: correlation at fixed incident conditions" for s in contents.samples),
            tuple(matrix.r.tolist() for matrix in found.matrices),
        )
    )


def _whole_table(verdict: Verdict) -> Table:
    rows = []
    for j in verdict.judgements:
        d = j.difference
        if d.observable == SHOWER and d.bin is INCLUSIVE:
            limit = "" if j.threshold is None else formatting.format_number(j.threshold, d.metric)
            value = formatting.with_error(d.result.value, d.result.uncertainty, d.metric)
            floor = formatting.format_number(d.result.floor, d.metric)
            rows.append((metrics()[d.metric].label, value, floor, limit, j.status))
    head = ("metric", "value", "floor", "threshold", "")
    return Table("whole", f"{verdict.generator}: all observables at once", head, tuple(rows))


def networks_table(generator: str, results: dict[str, tuple[Metric, Metric]]) -> Table:
    """Areas and divergences of the CaloChallenge networks.

    Args:
        generator: Its name.
        results: By network, AUC and JSD.
    """
    rows = tuple(
        (name, *(f"{m.value:.4f} ± {m.uncertainty:.4f}" for m in numbers), f"{numbers[0].floor:.4f}")
        for name, numbers in results.items()
    )
    note = (
        "Area under the ROC curve (0.5 cannot tell) and Jensen-Shannon divergence of the calibrated scores."
    )
    head = ("input of the network", "AUC", "JSD", "AUC of full simulation")
    return Table("networks", f"{generator}: neural classifiers", head, rows, note=note)


def protocol_table(dataset: str, own: list[tuple[str, Submission]]) -> Table:
    """The rows a submission would have, above the published ones."""
    rows = [(name, submission.row(name)) for name, submission in own]
    # Geant4 against itself first, then the nearest to it
    reference, *submissions = published(dataset)
    submissions.sort(key=lambda row: float(row.get("fpd_1e3", math.inf)))
    rows += [(str(row["name"]), row) for row in (reference, *submissions)]
    columns = [column for column in ROW if any(column[0] in row for _, row in rows)]
    text = tuple(
        (name, *(_cell(row.get(key), row.get(f"{key}_error"), factor) for key, _, factor in columns))
        for name, row in rows
    )
    head = ("submission", *(title for _, title, _ in columns))
    title = f"Data set {dataset} of the CaloChallenge"
    return Table("calochallenge", title, head, text, frozenset(range(len(own))), published_source())


def _cell(value: float | None, error: float | None, factor: float) -> str:
    if value is None:
        return "–"
    text = f"{factor * value:.4g}".replace("-", "−")
    return text if error is None else f"{text} ± {factor * error:.2g}"

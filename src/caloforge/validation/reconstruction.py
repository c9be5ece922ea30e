"""Report section of TriForce: reconstruction of full and fast simulation by one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.conditions import INCLUSIVE, particle_name
from caloforge.validation.figure_data import Figure, Series, common_edges, shares
from caloforge.validation.report_model import Card, Contents, Table
from caloforge.validation.triforce_result import Curve, Roc, SampleResult, TriforceResult

SECTION = "reconstruction"
ENERGY = r"$E_\mathrm{reco} / E_\mathrm{inc} - 1$"
CURVES = (
    ("triforce_bias", f"mean of {ENERGY}", "bias_curve"),
    ("triforce_resolution", f"spread of {ENERGY}", "resolution_curve"),
    ("triforce_accuracy", "share of particles found right", "accuracy_curve"),
)
ROC_GRID = np.linspace(0, 1, 101)


def add_reconstruction(contents: Contents, results: dict[str, TriforceResult]) -> None:
    """Figures and tables of TriForce.

    Args:
        contents: Of the report.
        results: One for each generator, in its order.
    """
    samples = [next(iter(results.values())).truth, *(result.generated for result in results.values())]
    for name, title, key in CURVES:
        _add_curves(contents, name, title, [getattr(sample, key) for sample in samples])
    _add_residuals(contents, "triforce_energy", ENERGY, [sample.residual for sample in samples])
    if all(sample.angle_residual is not None for sample in samples):
        title = r"reconstructed less incident $\theta$ [rad]"
        _add_residuals(contents, "triforce_angle", title, [s.angle_residual for s in samples])
    _add_roc(contents, samples)
    for name, result in results.items():
        rows = tuple(
            (key.replace("_", " "), f"{m.value:.4f} ± {m.uncertainty:.4f}", f"{m.floor:.4f}")
            for key, m in result.metrics.items()
        )
        head = ("difference from full simulation", "value", "floor")
        contents.tables.append(Table(SECTION, f"{name}: would reconstruction notice?", head, rows))


def _add_curves(contents: Contents, name: str, title: str, curves: Sequence[Curve | None]) -> None:
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(curves) or len({len(curve.value) for curve in known}) > 1:
        return
    series = [Series(curve.value, curve.error) for curve in known]
    middle = (known[0].low + known[0].high) / 2e3
    labels = ("incident energy [GeV]", title)
    # a bias lies around zero
    signed = name == "triforce_bias"
    _add(contents, Card(name, title, SECTION), "trend", labels, middle, series, difference=signed)


def _add_residuals(contents: Contents, name: str, title: str, values: Sequence[Any]) -> None:
    edges = common_edges(values[0], values[1:])
    if edges is None:
        return
    series = [shares(sample, edges) for sample in values]
    _add(contents, Card(name, title, SECTION), "histogram", (title, "share of the showers"), edges, series)


def _add_roc(contents: Contents, samples: Sequence[SampleResult]) -> None:
    """One ROC curve for each particle that all samples have."""
    for pdg in samples[0].roc:
        if not all(pdg in sample.roc for sample in samples):
            continue
        curves = [sample.roc[pdg] for sample in samples]
        particle = particle_name(pdg)
        facts = tuple(
            f"{sample.name}: area {curve.auc:.4f} ± {curve.auc_error:.4f}"
            for sample, curve in zip(contents.samples, curves, strict=True)
        )
        card = Card(f"triforce_roc_{pdg}", f"{particle} against the other particles", SECTION, facts)
        labels = ("share of the others taken for it", f"share of {particle} found")
        _add(contents, card, "trend", labels, ROC_GRID, [_on_grid(curve) for curve in curves])


def _on_grid(curve: Roc) -> Series:
    order = np.argsort(curve.background, kind="stable")
    value = np.interp(ROC_GRID, curve.background[order], np.sort(curve.signal))
    return Series(value, np.zeros(len(value)))


def _add(
    contents: Contents,
    card: Card,
    kind: Any,
    labels: tuple[str, str],
    edges: NDArray[np.float64],
    series: Sequence[Series],
    *,
    difference: bool = False,
) -> None:
    contents.cards.append(card)
    contents.figures.append(
        Figure(
            card.name, INCLUSIVE, kind, *labels, edges, False, False, difference, series[0], tuple(series[1:])
        )
    )

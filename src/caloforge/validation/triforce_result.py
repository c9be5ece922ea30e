"""Results of the reconstruction of full and fast simulation: numbers, and arrays for plots."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.distributions import kolmogorov_smirnov
from caloforge.metrics.relative_shifts import mean_shift, width_shift
from caloforge.metrics.resampling import Array, Metric, Resampler

ENERGY_BINS = 8
MIN_PER_BIN = 20
ROC_POINTS = 201


@dataclass(frozen=True)
class Applied:
    """Predictions of the network for one sample.

    Attributes:
        energy: (N,) incident energy, MeV.
        theta: (N,) incident angle, rad.
        label: (N,) index of the incident particle among the classes.
        scores: (N, classes) probability of each class.
        found_energy: (N,) reconstructed energy, MeV.
        found_theta: (N,) reconstructed angle, rad; None where there was none to learn.
    """

    energy: Array
    theta: Array
    label: NDArray[np.integer]
    scores: Array
    found_energy: Array
    found_theta: Array | None

    @property
    def right(self) -> Array:
        """(N,) 1 where the class is correct."""
        right: Array = (self.scores.argmax(axis=1) == self.label).astype(np.float64)
        return right

    @property
    def own_score(self) -> Array:
        """(N,) probability given to the true class."""
        score: Array = self.scores[np.arange(len(self.label)), self.label]
        return score

    @property
    def energy_residual(self) -> Array:
        """(N,) reconstructed over incident energy, less 1."""
        residual: Array = self.found_energy / self.energy - 1
        return residual


@dataclass(frozen=True)
class Curve:
    """A number against incident energy for one sample.

    Attributes:
        low, high: (k,) edges of the bins that hold enough showers, MeV.
        value: (k,).
        error: (k,) standard error.
    """

    low: Array
    high: Array
    value: Array
    error: Array


@dataclass(frozen=True)
class Roc:
    """One particle against all others.

    Attributes:
        background: (k,) share of the others taken for it.
        signal: (k,) share of it found.
        auc: Area under the curve.
        auc_error: Its standard error (DeLong, Biometrics 44 (1988) 837).
    """

    background: Array
    signal: Array
    auc: float
    auc_error: float


@dataclass(frozen=True)
class SampleResult:
    """One sample.

    Attributes:
        showers: Number of showers.
        accuracy: Share of right classes; None for one class.
        confusion: (classes, classes) share of each true class (rows) taken for each class; None for one
            class.
        roc: Curve for each particle (PDG number) that the sample has. The signal is of this sample, the
            background always of the full simulation, so that a generator of a single particle has one too.
        accuracy_curve, bias_curve, resolution_curve: Accuracy, mean and spread of the energy residual against
            energy.
        residual: (N,) energy residual.
        energy: (N,) incident energy, MeV.
        angle_residual: (N,) reconstructed less incident angle, rad; None without an angle.
    """

    showers: int
    accuracy: float | None
    confusion: Array | None
    roc: dict[int, Roc]
    accuracy_curve: Curve | None
    bias_curve: Curve
    resolution_curve: Curve
    residual: Array
    energy: Array
    angle_residual: Array | None


@dataclass(frozen=True)
class TriforceResult:
    """Comparison of the reconstruction of two samples.

    Attributes:
        classes: PDG numbers the classifier knows, rising.
        metrics: Differences of generated showers from full simulation: `accuracy` (absolute), `score`
            (largest distance between the distributions of the score of the true class), `energy_bias`
            (absolute, in units of the energy), `energy_resolution` (relative), `angle_bias` (rad),
            `angle_resolution` (relative); each with uncertainty and floor.
        truth: Results for the full simulation.
        generated: Results for the generated showers.
    """

    classes: tuple[int, ...]
    metrics: dict[str, Metric]
    truth: SampleResult
    generated: SampleResult

    def to_json(self) -> dict[str, Any]:
        """Numbers and curves; without the single showers."""
        return {
            "classes": list(self.classes),
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "truth": _sample_json(self.truth),
            "generated": _sample_json(self.generated),
        }


def _sample_json(sample: SampleResult) -> dict[str, Any]:
    left_out = ("residual", "energy", "angle_residual")
    document: dict[str, Any] = _plain(
        {name: value for name, value in asdict(sample).items() if name not in left_out}
    )
    return document


def _plain(value: Any) -> Any:
    """Arrays to lists, keys to text, NaN to None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def compare(truth: Applied, generated: Applied, *, classes: tuple[int, ...], seed: int) -> TriforceResult:
    """Numbers and curves of both samples, and their differences.

    Args:
        truth: Predictions for full simulation that was not trained on.
        generated: Predictions for generated showers of the same incident energies and angles.
        classes: PDG numbers of the classes.
        seed: Seed of the uncertainties.
    """
    resampler = Resampler(len(truth.energy), len(generated.energy), seed=seed)
    residuals = truth.energy_residual, generated.energy_residual
    metrics = {
        "energy_bias": mean_shift(*residuals, resampler, scale=1.0),
        "energy_resolution": width_shift(*residuals, resampler),
    }
    if len(classes) > 1:
        metrics["accuracy"] = mean_shift(truth.right, generated.right, resampler, scale=1.0)
        metrics["score"] = kolmogorov_smirnov(truth.own_score, generated.own_score, resampler)
    if truth.found_theta is not None and generated.found_theta is not None:
        angles = truth.found_theta - truth.theta, generated.found_theta - generated.theta
        metrics["angle_bias"] = mean_shift(*angles, resampler, scale=1.0)
        metrics["angle_resolution"] = width_shift(*angles, resampler)
    edges = np.unique(np.quantile(truth.energy, np.linspace(0, 1, ENERGY_BINS + 1)))
    if len(edges) == 1:
        edges = np.array([edges[0] * (1 - 1e-6), edges[0] * (1 + 1e-6)])
    samples = [_summarise(sample, truth, edges, classes) for sample in (truth, generated)]
    return TriforceResult(classes, metrics, *samples)


def _summarise(sample: Applied, truth: Applied, edges: Array, classes: tuple[int, ...]) -> SampleResult:
    residual = sample.energy_residual
    several = len(classes) > 1
    confusion = None
    if several:
        found = sample.scores.argmax(axis=1)
        counts = np.zeros((len(classes), len(classes)))
        np.add.at(counts, (sample.label, found), 1)
        confusion = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return SampleResult(
        showers=len(residual),
        accuracy=float(sample.right.mean()) if several else None,
        confusion=confusion,
        roc={
            classes[label]: _roc(sample, truth, label)
            for label in (np.unique(sample.label).tolist() if several else ())
            if np.any(truth.label != label)
        },
        accuracy_curve=_curve(sample.energy, sample.right, edges, spread=False) if several else None,
        bias_curve=_curve(sample.energy, residual, edges, spread=False),
        resolution_curve=_curve(sample.energy, residual, edges, spread=True),
        residual=residual,
        energy=sample.energy,
        angle_residual=None if sample.found_theta is None else sample.found_theta - sample.theta,
    )


def _roc(sample: Applied, truth: Applied, label: int) -> Roc:
    """ROC curve of one class: its showers of this sample against the others of the full simulation."""
    signal = np.sort(sample.scores[sample.label == label, label])
    background = np.sort(truth.scores[truth.label != label, label])
    both = np.concatenate([signal, background])
    cuts = np.unique(np.quantile(both, np.linspace(0, 1, ROC_POINTS)))
    passed = [1 - np.searchsorted(part, cuts, side="left") / len(part) for part in (background, signal)]
    # fraction of the background below each signal shower, and of the signal above each background one
    below, above = _rank(signal, background), 1 - _rank(background, signal)
    error = np.sqrt(np.var(below) / len(below) + np.var(above) / len(above))
    return Roc(np.append(passed[0], 0.0), np.append(passed[1], 0.0), float(below.mean()), float(error))


def _rank(values: Array, ordered: Array) -> Array:
    """Fraction of an ordered sample below each value, ties counted half."""
    low, high = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    rank: Array = (low + high) / 2 / len(ordered)
    return rank


def _curve(energy: Array, values: Array, edges: Array, *, spread: bool) -> Curve:
    """Mean or standard deviation in bins of energy that hold enough showers."""
    rows = []
    for low, high, last in zip(edges[:-1], edges[1:], edges[1:] == edges[-1], strict=True):
        part = values[(energy >= low) & ((energy < high) | (last & (energy <= high)))]
        if len(part) < MIN_PER_BIN:
            continue
        width = float(np.std(part, ddof=1))
        value, error = (
            (width, width / np.sqrt(2 * (len(part) - 1)))
            if spread
            else (float(part.mean()), width / np.sqrt(len(part)))
        )
        rows.append((low, high, value, error))
    table = np.array(rows).reshape(-1, 4)
    return Curve(*table.T)

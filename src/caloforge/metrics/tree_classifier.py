"""Classifier test with gradient-boosted trees on high-level features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from caloforge.metrics.neighbours import thinned
from caloforge.metrics.resampling import Array, Metric, Resampler

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

MAX_PER_CLASS = 10_000
FOLDS = 3
# as sensitive as 255 on samples of thousands, and four times as fast
BINS = 64


def classifier_auc(
    truth: NDArray[np.float32],
    generated: NDArray[np.float32],
    *,
    seed: int = 0,
    threads: int = 1,
    max_per_class: int = MAX_PER_CLASS,
) -> Metric:
    """Cross-validated area under the ROC curve of boosted trees: 0.5 for equal samples, 1 for separable ones.

    Every shower is scored by trees that were not trained on it. The uncertainty combines a bootstrap over the
    scored showers with the spread of the area between folds. The floor is the same procedure between two
    random halves of the truth, trained on half as many showers; it is 0.5 within its error and not scaled.

    Args:
        truth: (n, k) features of the showers, n at least twice the number of folds.
        generated: (m, k) the same features; conditions such as log incident energy belong among them.
        seed: Seed of the folds, the trees and the bootstrap.
        threads: Threads of the training.
        max_per_class: Larger samples are reduced to this many random showers.
    """
    return auc_and_floor(truth, generated, seed=seed, threads=threads, max_per_class=max_per_class)[0]


def auc_and_floor(
    truth: NDArray[np.float32],
    generated: NDArray[np.float32],
    *,
    seed: int = 0,
    threads: int = 1,
    max_per_class: int = MAX_PER_CLASS,
) -> tuple[Metric, float]:
    """`classifier_auc`, and the standard error of its floor."""
    rng = np.random.default_rng(seed)
    truth, generated = (thinned(sample, max_per_class, rng) for sample in (truth, generated))
    value, uncertainty = _auc(truth, generated, seed, threads)
    halves = rng.permutation(truth)
    floor, floor_error = _auc(halves[: len(halves) // 2], halves[len(halves) // 2 :], seed, threads)
    return Metric(value, uncertainty, floor), floor_error


@dataclass(frozen=True)
class Area:
    """Area under a ROC curve, and its standard error."""

    value: float
    uncertainty: float


@dataclass(frozen=True)
class Separation:
    """How well two classes are told apart in full simulation and in a generated sample.

    Attributes:
        full: Area of full simulation.
        fast: Area of the generated sample.
        shift: Their difference. Its floor is what two full simulations of these sizes would show.
    """

    full: Area
    fast: Area
    shift: Metric


def separation(
    full: tuple[NDArray[np.float32], ...],
    fast: tuple[NDArray[np.float32], ...],
    *,
    seed: int = 0,
    threads: int = 1,
    max_per_class: int = MAX_PER_CLASS,
) -> Separation:
    """Areas of boosted trees that are trained on full simulation to tell two classes apart.

    Every shower is scored by trees that were not trained on it, a generated one by those of one fold, chosen
    at random, so that both areas are those of the same trees.

    Args:
        full: (n, k) features of either class, of full simulation.
        fast: The same of the generated sample.
        seed: Seed of the folds, the trees and the bootstrap.
        threads: Threads of the training.
        max_per_class: Larger classes are reduced to this many random showers.
    """
    from sklearn.model_selection import StratifiedKFold

    rng = np.random.default_rng(seed)
    parts = [thinned(part, max_per_class, rng) for part in (*full, *fast)]
    sizes = [len(part) for part in parts]
    features = np.split(binned(np.concatenate(parts)), [sum(sizes[:2])])
    labels = [np.repeat([0, 1], sizes[:2]), np.repeat([0, 1], sizes[2:])]
    scores = [np.zeros(len(label)) for label in labels]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    splits = [folds.split(*sample) for sample in zip(features, labels, strict=True)]
    fold_areas = []
    with threadpool_limits(limits=threads):
        for (train, *own), (_, *other) in zip(*splits, strict=True):
            trees = _fit(features[0][train], labels[0][train], seed)
            held = [*own, *other]
            for sample, score, test in zip(features, scores, held, strict=True):
                score[test] = trees.predict_proba(sample[test])[:, 1]
            both = zip(scores, labels, held, strict=True)
            fold_areas.append([_area(s[t][lab[t] == 0], s[t][lab[t] == 1]) for s, lab, t in both])
    values = np.mean(fold_areas, axis=0)
    drawn = [bootstrap_areas(s[lab == 0], s[lab == 1], seed) for s, lab in zip(scores, labels, strict=True)]
    errors = [float(np.std(areas, ddof=1)) for areas in drawn]
    # mean size of a normal deviation of two independent samples of full simulation
    floor = np.sqrt(2 / np.pi) * errors[0] * np.sqrt(1 + len(scores[0]) / len(scores[1]))
    shift = Metric(float(values[1] - values[0]), math.hypot(*errors), float(floor))
    full_area, fast_area = (Area(float(v), error) for v, error in zip(values, errors, strict=True))
    return Separation(full_area, fast_area, shift)


def _auc(
    truth: NDArray[np.float32], generated: NDArray[np.float32], seed: int, threads: int
) -> tuple[float, float]:
    """Cross-validated area and its standard error."""
    # scikit-learn takes a second to import, and every validation reads this module
    from sklearn.model_selection import StratifiedKFold

    features = binned(np.concatenate([truth, generated]))
    label = np.repeat([0, 1], [len(truth), len(generated)])
    score = np.zeros(len(label))
    fold_areas = []
    with threadpool_limits(limits=threads):
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, label):
            score[test] = _fit(features[train], label[train], seed).predict_proba(features[test])[:, 1]
            fold_areas.append(_area(score[test][label[test] == 0], score[test][label[test] == 1]))
    drawn = bootstrap_areas(score[label == 0], score[label == 1], seed)
    error = np.hypot(np.std(drawn, ddof=1), np.std(fold_areas, ddof=1) / np.sqrt(FOLDS))
    return float(np.mean(fold_areas)), float(error)


def binned(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n, k) as numbers of bins: at most `BINS` of equal content, or one for each of a few values.

    The trees use no more of them. scikit-learn bins by itself, but with weights of the classes that takes
    most of the time of a fit.
    """
    return np.stack([_bin_numbers(column) for column in features.T], axis=1)


def _bin_numbers(column: NDArray[np.float32]) -> NDArray[np.float32]:
    edges = np.unique(column)
    if len(edges) > BINS:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, column).astype(np.float32)


def _fit(features: NDArray[Any], label: NDArray[Any], seed: int) -> HistGradientBoostingClassifier:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # class weights: scores must not depend on the ratio of the sample sizes
    model = HistGradientBoostingClassifier(
        max_iter=80,
        learning_rate=0.15,
        max_leaf_nodes=15,
        max_bins=BINS,
        min_samples_leaf=20,
        l2_regularization=1.0,
        max_features=0.3,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    )
    return model.fit(features, label)


def _area(truth: Array, generated: Array) -> float:
    ones = np.ones((1, len(truth))), np.ones((1, len(generated)))
    return float(_areas(truth, generated, *ones)[0])


def _areas(truth: Array, generated: Array, w_truth: Array, w_generated: Array) -> Array:
    """Weighted probability that a generated shower scores above one of the truth, ties counted half; (R,)."""
    values, index = np.unique(np.concatenate([truth, generated]), return_inverse=True)
    split = len(truth)
    count = len(values)
    areas = []
    for first, second in zip(w_truth, w_generated, strict=True):
        h = np.bincount(index[:split], first, count) / first.sum()
        g = np.bincount(index[split:], second, count) / second.sum()
        areas.append(np.sum(g * (np.cumsum(h) - h / 2)))
    return np.array(areas)


def bootstrap_areas(truth: Array, generated: Array, seed: int) -> Array:
    """Areas under the ROC curve of bootstrap samples of scored showers."""
    resampler = Resampler(len(truth), len(generated), seed=seed)
    return np.concatenate([_areas(truth, generated, *weights) for weights in resampler.bootstrap()])

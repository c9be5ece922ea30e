"""Multi-model log-posterior: the probability of each of several generators, given true showers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from caloforge.metrics.neighbours import thinned
from caloforge.metrics.resampling import Array, Metric, halves

Floats = NDArray[np.float32]

MAX_PER_CLASS = 5_000
REPEATS = 3
# lower bound of the predicted probabilities
SMALLEST = 1e-6


def log_posterior(
    truth: Floats,
    generated: Sequence[Floats],
    *,
    seed: int = 0,
    threads: int = 1,
    max_per_class: int = MAX_PER_CLASS,
) -> list[Metric]:
    """Mean log posterior of each generator for true showers, from a classifier trained on the generators.

    Boosted trees are trained to separate the generators and never see the truth; the generator to which true
    showers are assigned more often is closer to it ("log-posterior" of the CaloChallenge, arXiv:2410.21611,
    which trains a network on the samples of all submissions). Higher is better, and -ln K for K equal ones.
    Only the ranking within one comparison is meaningful.

    Args:
        truth: (n, k) features of the truth.
        generated: (m, k) the same features for each of two or more generators.
        seed: Seed of the trees and of the choice of showers.
        threads: Threads of the training.
        max_per_class: Larger samples are thinned to this many showers.

    Returns:
        One result per generator. The floor is the value when half of the truth takes the generator's place,
        evaluated on the other half.

    Raises:
        ValueError: Fewer than two generators.
    """
    if len(generated) < 2:
        raise ValueError(f"got {len(generated)} generators, expected two or more to compare")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(REPEATS):
        samples = [thinned(sample, max_per_class, rng) for sample in generated]
        drawn.append(_log_probability(samples, thinned(truth, max_per_class, rng), rng, threads))
    means = np.array([scores.mean(axis=0) for scores in drawn])
    # scatter between trainings, and between the showers evaluated
    training = means.std(axis=0, ddof=1) / np.sqrt(REPEATS)
    sampling = np.array([scores.std(axis=0, ddof=1) / np.sqrt(len(scores)) for scores in drawn]).mean(axis=0)
    result = []
    for i in range(len(generated)):
        reference, judge = halves(thinned(truth, 2 * max_per_class, rng), rng)
        stand_in = [thinned(sample, max_per_class, rng) for sample in generated]
        stand_in[i] = reference
        floor = _log_probability(stand_in, judge, rng, threads)[:, i].mean()
        error = np.hypot(training[i], sampling[i])
        result.append(Metric(float(means[:, i].mean()), float(error), float(floor)))
    return result


def _log_probability(
    samples: Sequence[Floats], asked: Floats, rng: np.random.Generator, threads: int
) -> Array:
    """(n, generators) log probability of the generators for each shower of `asked`."""
    label = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    model = HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.1,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        l2_regularization=1.0,
        max_features=0.3,
        class_weight="balanced",
        early_stopping=False,
        random_state=int(rng.integers(2**31)),
    )
    with threadpool_limits(limits=threads):
        probability = model.fit(np.concatenate(samples), label).predict_proba(asked)
    result: Array = np.log(np.maximum(probability, SMALLEST))
    return result

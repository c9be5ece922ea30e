"""Boosted trees: the area of known distributions, its error, its floor."""

import numpy as np
import pytest
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from caloforge.metrics import tree_classifier
from caloforge.metrics.neighbours import thinned


def sample(seed, n, shift=0.0, k=4):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, k))
    values[:, 0] += shift
    return values.astype(np.float32)


def test_weighted_area_against_sklearn():
    rng = np.random.default_rng(1)
    truth, generated = rng.integers(0, 9, 200) / 9, rng.integers(1, 10, 300) / 9
    want = roc_auc_score(np.repeat([0, 1], [200, 300]), np.concatenate([truth, generated]))
    assert tree_classifier._area(truth, generated) == pytest.approx(want)
    w_truth, w_generated = rng.poisson(1.0, (1, 200)), rng.poisson(1.0, (1, 300))
    want = roc_auc_score(
        np.repeat([0, 1], [200, 300]),
        np.concatenate([truth, generated]),
        sample_weight=np.concatenate([w_truth[0], w_generated[0]]),
    )
    assert tree_classifier._areas(truth, generated, w_truth, w_generated)[0] == pytest.approx(want)


def test_area_of_two_gaussians_is_nearly_the_best_possible():
    # Neyman-Pearson: normal distributions d apart have the area Phi(d / sqrt 2)
    got = tree_classifier.classifier_auc(sample(1, 2000), sample(2, 2000, 1.0))
    best = stats.norm.cdf(1 / np.sqrt(2))
    assert best - 0.04 < got.value < best + 3 * got.uncertainty
    assert 0.003 < got.uncertainty < 0.015


def test_bins_are_what_the_trees_would_make():
    values = sample(1, 1000, k=3)
    values[:, 1] = np.round(values[:, 1])
    values[:, 2] = 7.0
    numbers = tree_classifier.binned(values)
    assert [len(np.unique(column)) for column in numbers.T] == [64, len(np.unique(values[:, 1])), 1]
    # in the order of the values, and of equal content
    order = np.argsort(values[:, 0])
    assert (np.diff(numbers[order, 0]) >= 0).all()
    assert np.bincount(numbers[:, 0].astype(int)).min() >= 1000 // 64
    assert (np.diff(numbers[np.argsort(values[:, 1]), 1]) >= 0).all()


def test_error_covers_for_equal_distributions(monkeypatch):
    # a cheap learner in place of the trees: the error is made of scores, whoever gave them
    monkeypatch.setattr(tree_classifier, "_fit", lambda x, y, seed: LinearDiscriminantAnalysis().fit(x, y))
    areas = [tree_classifier._auc(sample(seed, 250), sample(100 + seed, 250), seed, 1) for seed in range(40)]
    pulls = np.array([(area - 0.5) / error for area, error in areas])
    assert abs(pulls.mean()) < 3 / np.sqrt(40)
    assert 0.7 < pulls.std() < 1.4


def test_floor_is_at_one_half():
    got = tree_classifier.classifier_auc(sample(1, 400), sample(2, 400))
    assert abs(got.floor - 0.5) < 0.15
    assert abs(got.value - 0.5) < 4 * got.uncertainty


def test_seed_fixes_everything_and_large_samples_are_thinned():
    a, b = sample(5, 200), sample(6, 900, 0.5)
    first, again = (tree_classifier.classifier_auc(a, b, seed=3, max_per_class=200) for _ in range(2))
    assert first == again
    assert len(thinned(b, 200, np.random.default_rng(3))) == 200

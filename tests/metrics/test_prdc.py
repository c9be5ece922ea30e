"""Precision, recall, density, coverage against the definitions written out, and what each sees."""

import numpy as np
import pytest

from caloforge.metrics import neighbours
from caloforge.metrics.prdc import numbers, prdc


def by_hand(truth, generated, k):
    """The definitions, one pair of showers after the other."""

    def reach(sample):
        return [sorted(np.linalg.norm(sample - row, axis=1))[k] for row in sample]  # [0] is the row itself

    distance = np.array([[np.linalg.norm(t - g) for g in generated] for t in truth])
    near_truth = distance < np.array(reach(truth))[:, None]
    near_generated = distance < np.array(reach(generated))
    return (
        near_truth.any(0).mean(),
        near_generated.any(1).mean(),
        near_truth.sum(0).mean() / k,
        near_truth.any(1).mean(),
    )


def test_against_the_definitions(monkeypatch):
    rng = np.random.default_rng(1)
    truth, generated = rng.normal(size=(60, 3)), rng.normal(0.5, 1.2, size=(70, 3))
    monkeypatch.setattr(neighbours, "BLOCK", 500)  # several blocks
    assert numbers(truth, generated, 5) == pytest.approx(by_hand(truth, generated, 5))


def test_equal_distributions_have_density_one_and_the_known_coverage():
    got = [prdc(*np.random.default_rng(seed).normal(size=(2, 600, 4)), seed=seed) for seed in range(8)]
    # coverage of equal samples: 1 - 2^-k (arXiv:2002.09797, lemma 1, for large samples)
    for name, want in (("density", 1.0), ("coverage", 1 - 2**-5)):
        values = [getattr(metric, name).value for metric in got]
        assert np.mean(values) == pytest.approx(want, abs=4 * np.std(values, ddof=1) / np.sqrt(8))
        floors = [getattr(metric, name).floor for metric in got]
        assert np.mean(floors) == pytest.approx(want, abs=4 * np.std(floors, ddof=1) / np.sqrt(8))
        spread = np.std(values, ddof=1)
        assert 0.4 * spread < np.mean([getattr(metric, name).uncertainty for metric in got]) < 2.5 * spread


def test_what_each_number_sees():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(800, 3))
    # modes dropped: half of the truth is never generated
    half = np.abs(rng.normal(size=(800, 3)))
    half[:, 1:] *= rng.choice([-1, 1], (800, 2))
    got = prdc(truth, half)
    assert got.precision.value > 0.95
    assert got.coverage.value < 0.65
    assert got.recall.value < got.recall.floor - 5 * got.recall.uncertainty
    # crowding in the middle of many features
    wide, narrow = rng.normal(size=(2, 800, 15))
    got = prdc(wide, 0.6 * narrow)
    assert got.density.value > 1.5 > got.density.floor
    assert got.recall.value < 0.3
    # 20 showers repeated
    repeated = prdc(truth, rng.normal(size=(20, 3))[rng.integers(0, 20, 800)])
    assert repeated.recall.value < 0.01
    assert repeated.coverage.value < 0.2
    # far away
    assert prdc(truth, truth + 50).precision.value == 0


def test_thinning_is_seeded_and_small_samples_are_refused():
    truth, generated = np.random.default_rng(3).normal(size=(2, 300, 3))
    assert prdc(truth, generated, seed=1, max_showers=150) == prdc(truth, generated, seed=1, max_showers=150)
    assert prdc(truth, generated, seed=1, max_showers=150) != prdc(truth, generated, seed=2, max_showers=150)
    with pytest.raises(ValueError, match="at least 48"):
        prdc(truth[:40], generated)


def test_constant_features_are_ignored():
    truth, generated = np.random.default_rng(4).normal(size=(2, 100, 3))
    padded = [np.column_stack([sample, np.full(100, 7.0)]) for sample in (truth, generated)]
    assert prdc(*padded) == prdc(truth, generated)

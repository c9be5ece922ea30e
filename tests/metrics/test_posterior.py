"""The multi-model log-posterior against its exact value for Gaussians."""

import numpy as np
import pytest
from scipy import stats

from caloforge.metrics.posterior import log_posterior


def sample(seed, mean, n=1000):
    return np.random.default_rng(seed).normal(mean, 1, size=(n, 1)).astype(np.float32)


def exact(means):
    """Expectation over a unit normal of the log probability of each of several unit normals."""
    x = np.linspace(-8, 8, 4001)
    densities = np.array([stats.norm.pdf(x, mean) for mean in means])
    weight = stats.norm.pdf(x) / stats.norm.pdf(x).sum()
    return (np.log(densities / densities.sum(0)) * weight).sum(1)


def test_values_of_gaussians():
    means = (0.1, 1.0, -1.5)
    got = log_posterior(sample(1, 0.0), [sample(2 + i, mean) for i, mean in enumerate(means)])
    for metric, want in zip(got, exact(means), strict=True):
        # trees fit some noise, which costs a little
        assert metric.value == pytest.approx(want, abs=5 * metric.uncertainty + 0.1)
        assert 0.005 < metric.uncertainty < 0.1
    assert got[0].value > got[1].value > got[2].value
    # in the place of each, half of the truth would have got
    for i, metric in enumerate(got):
        stand_in = [0.0 if i == j else mean for j, mean in enumerate(means)]
        assert metric.floor == pytest.approx(exact(stand_in)[i], abs=0.15)


def test_equal_generators_share_the_probability():
    got = log_posterior(sample(1, 0.0), [sample(2, 0.0), sample(3, 0.0)])
    for metric in got:
        assert metric.value == pytest.approx(-np.log(2), abs=0.1)
        assert metric.floor == pytest.approx(-np.log(2), abs=0.1)


def test_seed_and_refusals():
    args = sample(1, 0.0, 200), [sample(2, 0.0, 300), sample(3, 0.5, 250)]
    assert log_posterior(*args, seed=1, max_per_class=150) == log_posterior(*args, seed=1, max_per_class=150)
    with pytest.raises(ValueError, match="two or more"):
        log_posterior(args[0], args[1][:1])

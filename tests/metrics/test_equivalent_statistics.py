"""Equivalent statistics on samples whose answer is known."""

import math

import numpy as np
import pytest
from scipy import stats

from caloforge.metrics import equivalent_statistics as module
from caloforge.metrics.distributions import kolmogorov_smirnov
from caloforge.metrics.equivalent_statistics import (
    equivalent_showers,
    fewest_showers,
    is_limit,
    median_showers,
)
from caloforge.metrics.registry import metrics
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.metrics.samples import ObservablePair


def measured(truth, generated, seed=0):
    resampler = Resampler(len(truth), len(generated), seed=seed, replicas=60)
    distance = kolmogorov_smirnov(truth, generated, resampler)
    return equivalent_showers(distance, len(truth), len(generated))


def test_the_constants_are_those_of_the_distribution():
    assert pytest.approx(stats.kstwobign.mean(), rel=1e-6) == module.MEAN
    assert stats.kstwobign.moment(2) == pytest.approx(module.MEAN_SQUARE, rel=1e-6)
    assert stats.kstwobign.ppf(0.95) == pytest.approx(module.QUANTILE, rel=1e-4)


def distance(truth, generated):
    return stats.ks_2samp(truth, generated, method="asymp").statistic


@pytest.mark.parametrize(("shift", "lowest"), [(0.05, 0.6), (0.1, 0.75), (0.2, 0.88)])
def test_a_known_difference_gives_its_number(shift, lowest):
    """Two normal distributions a shift apart have the distance 2 Phi(shift / 2) - 1, squared pi^2 / 6 / N.

    Where the distance is little above the noise, both add up at the place of the maximum: N is too small.
    """
    expected = math.pi**2 / 6 / (2 * stats.norm.cdf(shift / 2) - 1) ** 2
    rng, n = np.random.default_rng(7), 20_000
    floor = module.MEAN * math.sqrt(2 / n)
    found = [
        equivalent_showers(Metric(distance(rng.normal(size=n), rng.normal(shift, size=n)), 0, floor), n, n)
        for _ in range(40)
    ]
    assert lowest < np.median([result.value for result in found]) / expected < 1.1


def test_samples_of_that_size_have_that_distance():
    """What the number says, tried: the root mean square distance of two samples of the truth of N showers."""
    rng = np.random.default_rng(3)
    result = measured(rng.gamma(4, size=8000), rng.gamma(4.4, size=8000))
    n = round(result.value)
    distances = [distance(rng.gamma(4, size=n), rng.gamma(4, size=n)) for _ in range(400)]
    true = distance(rng.gamma(4, size=400_000), rng.gamma(4.4, size=400_000))
    assert math.sqrt(np.mean(np.square(distances))) == pytest.approx(true, rel=0.08)


def test_the_number_does_not_depend_on_the_sizes_of_the_samples():
    rng = np.random.default_rng(1)
    found = [
        np.median([measured(rng.normal(size=n), rng.normal(0.3, size=m), s).value for s in range(8)])
        for n, m in ((1000, 1000), (6000, 6000), (1000, 6000))
    ]
    assert max(found) < 1.35 * min(found)


def test_equal_samples_are_as_good_as_these_samples_can_tell():
    rng = np.random.default_rng(5)
    found = [measured(rng.normal(size=2000), rng.normal(size=2000), s) for s in range(40)]
    limits = [is_limit(result) for result in found]
    # a distance that one of twenty equal samples exceeds counts as a difference
    assert 34 <= sum(limits) < 40 or all(limits)
    for result in found:
        assert not is_limit(result) or result.value == result.floor
        assert result.floor == pytest.approx(0.8 * 2000, rel=0.1)


def test_values_that_repeat_scatter_less_and_give_the_same_number():
    """Whole numbers, as of hits: the truth's own distances are smaller, and so is the one to be explained."""
    rng = np.random.default_rng(2)
    truth, other = rng.poisson(0.5, 20_000), rng.poisson(0.56, 20_000)
    result = measured(truth.astype(float), other.astype(float))
    n = round(result.value)
    rms = math.sqrt(np.mean([distance(rng.poisson(0.5, n), rng.poisson(0.5, n)) ** 2 for _ in range(300)]))
    assert rms == pytest.approx(distance(truth, other), rel=0.2)


def test_the_error_is_that_of_repetitions():
    rng = np.random.default_rng(9)
    found = [measured(rng.normal(size=3000), rng.normal(0.3, size=3000), s) for s in range(30)]
    spread = np.std([result.value for result in found])
    assert np.median([result.uncertainty for result in found]) == pytest.approx(spread, rel=0.5)


def test_median_and_worst():
    values = [*[900] * 40, 300, 100]
    results = [Metric(value, math.nan if value == 900 else 10, 900) for value in values]
    assert median_showers(results).value == 900 and is_limit(median_showers(results))
    worst = fewest_showers(results)
    assert worst.value == 100 and worst.uncertainty == 10 and 300 < worst.floor < 900
    # of a single observable the floor is not below what every sample can tell
    assert fewest_showers(results[:1]).floor == 900
    assert median_showers(results[-2:]).value == 100


def test_a_truth_of_one_value():
    nothing = Metric(0.0, 0.0, 0.0)
    assert equivalent_showers(nothing, 100, 100).value == math.inf
    assert equivalent_showers(Metric(0.5, 0.1, 0.0), 100, 100).value == 0


def test_the_registered_metric_is_for_numbers():
    measure = metrics()["equivalent_showers"].of_observable
    rng = np.random.default_rng(4)
    resampler = Resampler(500, 500)
    numbers = ObservablePair(rng.normal(size=500), rng.normal(1, size=500), "scalar", False, resampler)
    assert measure(numbers).value == pytest.approx(11, abs=4)
    profile = ObservablePair(rng.random((500, 3)), rng.random((500, 3)), "profile", False, resampler)
    assert measure(profile) is None

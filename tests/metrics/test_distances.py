"""Distances against SciPy and closed forms; uncertainties and floors against repeated experiments."""

import numpy as np
import pytest
from scipy import stats

from caloforge.metrics import distributions, relative_shifts
from caloforge.metrics.resampling import Metric, Resampler

EDGES = np.linspace(-3, 3, 13)


def gaussians(seed, n=400, m=400, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(shift, size=m)


def names():
    return ["mean", "width", "separation", "chi2", "ks", "wasserstein", "profile"]


def measure(name, truth, generated, resampler):
    if name == "mean":
        return relative_shifts.mean_shift(truth + 10, generated + 10, resampler)
    if name == "width":
        return relative_shifts.width_shift(truth, generated, resampler)
    if name == "separation":
        return distributions.separation_power(truth, generated, EDGES, resampler)
    if name == "chi2":
        return distributions.chi2_per_ndf(truth, generated, EDGES, resampler)
    if name == "ks":
        return distributions.kolmogorov_smirnov(truth, generated, resampler)
    if name == "wasserstein":
        return distributions.wasserstein(truth, generated, resampler)
    profile = np.array([1.0, -2.0, 3.0])
    return relative_shifts.profile_deviation(
        20 + np.outer(truth, profile), 20 + np.outer(generated, profile), resampler
    )


def test_values_against_scipy():
    truth, generated = gaussians(1, 350, 500, 0.3)
    resampler = Resampler(350, 500, replicas=2)
    got = {name: measure(name, truth, generated, resampler).value for name in names()}
    assert got["ks"] == pytest.approx(stats.ks_2samp(truth, generated).statistic)
    assert got["wasserstein"] == pytest.approx(
        stats.wasserstein_distance(truth, generated) / np.std(truth), rel=1e-12
    )
    assert got["mean"] == pytest.approx((generated.mean() - truth.mean()) / (10 + truth.mean()))
    assert got["width"] == pytest.approx(generated.std() / truth.std() - 1)
    wide = np.concatenate([[-np.inf], EDGES, [np.inf]])
    h, g = np.histogram(truth, wide)[0], np.histogram(generated, wide)[0]
    keep = h + g > 0
    p, q = h[keep] / 350, g[keep] / 500
    assert got["separation"] == pytest.approx(0.5 * np.sum((p - q) ** 2 / (p + q)))
    table = stats.chi2_contingency(np.array([h[keep], g[keep]]), correction=False)
    assert got["chi2"] == pytest.approx(table.statistic / table.dof)


def test_ties_are_one_step():
    truth, generated = np.repeat([1.0, 2.0], 10), np.repeat([1.0, 2.0], [5, 15])
    resampler = Resampler(20, 20, replicas=2)
    assert distributions.kolmogorov_smirnov(truth, generated, resampler).value == 0.25
    assert distributions.wasserstein(truth, generated, resampler).value == pytest.approx(0.25 / 0.5)


def test_ks_probability_against_scipy():
    for seed, shift in ((1, 0.0), (2, 0.05), (3, 0.2)):
        truth, generated = gaussians(seed, 2000, 3000, shift)
        distance, probability = distributions.ks_probability(truth, generated)
        size = np.sqrt(2000 * 3000 / 5000)
        assert distance == pytest.approx(stats.ks_2samp(truth, generated).statistic)
        assert probability == pytest.approx(stats.kstwobign.sf(size * distance), abs=1e-9)


def test_identical_samples_are_at_zero_and_disjoint_ones_at_one():
    truth, _ = gaussians(4)
    resampler = Resampler(400, 400, replicas=5)
    for name in names():
        assert measure(name, truth, truth, resampler).value == pytest.approx(0, abs=1e-12), name
    far = truth + 100
    assert distributions.separation_power(truth, far, EDGES, resampler).value > 0.98
    assert distributions.kolmogorov_smirnov(truth, far, resampler).value == pytest.approx(1)


def test_scale_stands_in_for_a_mean_of_zero():
    truth, generated = gaussians(5, shift=0.5)
    got = relative_shifts.mean_shift(truth, generated, Resampler(400, 400, replicas=2), scale=2.0)
    assert got.value == pytest.approx((generated.mean() - truth.mean()) / 2)


def test_bins_only_the_generated_sample_fills_are_an_infinite_deviation():
    truth, generated = np.zeros((10, 2)), np.ones((10, 2))
    resampler = Resampler(10, 10, replicas=2)
    with np.errstate(invalid="ignore"):  # spread of infinities
        got = relative_shifts.profile_deviation(truth, generated, resampler)
    assert got.value == np.inf
    assert got.to_json()["value"] is None
    assert relative_shifts.profile_deviation(truth, truth, resampler).value == 0


def test_quantile_edges_cover_the_bulk():
    truth, _ = gaussians(6, 10_000)
    edges = distributions.quantile_edges(truth, 20)
    assert len(edges) == 21
    assert np.mean((truth < edges[0]) | (truth > edges[-1])) == pytest.approx(0.004, abs=5e-4)
    narrow = distributions.quantile_edges(np.full(5, 3.0))
    assert len(narrow) == 2
    assert narrow[0] < 3 < narrow[1]


@pytest.mark.parametrize("name", ["mean", "width", "wasserstein", "profile", "separation"])
def test_uncertainty_is_the_spread_of_repeated_experiments(name):
    # far from the floor, where the value itself has no bias
    drawn = []
    for seed in range(120):
        truth, generated = gaussians(seed, 300, 500, 0.8)
        drawn.append(measure(name, truth, generated * 1.3, Resampler(300, 500, seed=seed, replicas=40)))
    spread = np.std([metric.value for metric in drawn], ddof=1)
    claimed = np.sqrt(np.mean([metric.uncertainty**2 for metric in drawn]))
    # the spread of 120 experiments is known to 6.5 %
    assert claimed == pytest.approx(spread, rel=0.22)


@pytest.mark.parametrize("name", ["mean", "width", "wasserstein", "profile"])
def test_one_sigma_covers_two_thirds(name):
    truth_value = np.mean(
        [
            measure(name, *gaussians(9000 + i, 3000, 3000, 0.8), Resampler(3000, 3000, replicas=2)).value
            for i in range(40)
        ]
    )
    inside = []
    for seed in range(150):
        got = measure(name, *gaussians(seed, 300, 500, 0.8), Resampler(300, 500, seed=seed, replicas=40))
        inside.append(abs(got.value - truth_value) < got.uncertainty)
    assert 0.55 < np.mean(inside) < 0.8


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("sizes", [(400, 400), (300, 900)])
def test_floor_is_what_truth_against_truth_gives(name, sizes):
    values, floors = [], []
    for seed in range(60):
        metric = measure(name, *gaussians(seed, *sizes), Resampler(*sizes, seed=seed, replicas=30))
        values.append(abs(metric.value))
        floors.append(metric.floor)
    # halves of half the size, scaled: the scaling laws are asymptotic, hence 15 %
    error = np.std(values) / np.sqrt(60)
    assert abs(np.mean(floors) - np.mean(values)) < 0.15 * np.mean(values) + 2 * error


def test_seed_decides_the_uncertainty_and_nothing_else():
    truth, generated = gaussians(7)
    first, again, other = (
        measure("wasserstein", truth, generated, Resampler(400, 400, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.value == other.value
    assert first.uncertainty != other.uncertainty


def test_weights_are_drawn_in_blocks_of_bounded_size(monkeypatch):
    monkeypatch.setattr("caloforge.metrics.resampling.BLOCK_WEIGHTS", 1000)
    resampler = Resampler(100, 50, seed=3, replicas=17)
    blocks = list(resampler.bootstrap())
    assert max(a.size + b.size for a, b in blocks) <= 1000
    assert sum(len(a) for a, _ in blocks) == 17
    for half, rest in resampler.halves():
        np.testing.assert_array_equal(half + rest, 1)
        np.testing.assert_array_equal(half.sum(axis=1), 50)


def test_one_shower_is_too_few():
    with pytest.raises(ValueError, match="at least 2"):
        Resampler(1, 10)


def test_json_has_null_for_what_is_not_finite():
    assert Metric(1.0, np.nan, np.inf).to_json() == {"value": 1.0, "uncertainty": None, "floor": None}

"""Bins, and values at fixed incident conditions."""

from dataclasses import replace

import numpy as np
import pytest

from caloforge.conditions import Conditions
from caloforge.validation.conditions import INCLUSIVE, AtFixedConditions, make_bins


def conditions(energy, theta=None, pdg=None):
    n = len(energy)
    return Conditions(
        np.asarray(energy, float),
        np.full(n, np.pi / 2) if theta is None else np.asarray(theta, float),
        np.zeros(n),
        np.full(n, 11, np.int32) if pdg is None else np.asarray(pdg, np.int32),
    )


def test_the_energies_of_the_talk_where_they_are_filled():
    rng = np.random.default_rng(1)
    truth = conditions(rng.uniform(10e3, 500e3, 12_000))
    bins = make_bins(truth, [truth])
    # 12 000 showers over 490 GeV are 245 in 10 GeV, and half of that at the end of the range
    assert [b.key for b in bins[1:]] == [f"energy-{e}" for e in (50, 100, 200, 250, 300, 400, 500)]
    assert bins[0] == INCLUSIVE
    chosen = truth.energy[bins[2].select(truth)]
    assert chosen.min() >= 95e3 and chosen.max() <= 105e3


def test_quantiles_where_they_are_not_and_every_sample_fills_its_bins():
    rng = np.random.default_rng(2)
    truth, other = (conditions(rng.uniform(10e3, 500e3, n)) for n in (2000, 650))
    bins = make_bins(truth, [other])
    assert len(bins) == 1 + 4
    for sample in (truth, other):
        counts = np.array([b.select(sample).sum() for b in bins[1:]])
        assert counts.min() >= 100
        assert counts.sum() == len(sample)


def test_listed_energies_are_bins_of_their_own():
    truth = conditions(np.repeat([256.0, 512.0, 1024.0], 200))
    bins = make_bins(truth, [truth])
    assert [b.label for b in bins[1:]] == ["0.256 GeV", "0.512 GeV", "1.024 GeV"]
    assert all(b.select(truth).sum() == 200 for b in bins[1:])


def test_angles_and_particles_where_they_vary():
    rng = np.random.default_rng(3)
    theta = rng.uniform(np.deg2rad(60), np.deg2rad(120), 6000)
    truth = conditions(np.full(6000, 1e5), theta, rng.choice([11, 22], 6000))
    keys = [b.key for b in make_bins(truth, [truth])]
    assert keys == ["inclusive", "angle-62", "angle-90", "angle-118", "particle-e-", "particle-gamma"]
    chosen = truth.theta[make_bins(truth, [truth])[2].select(truth)]
    assert np.abs(chosen - np.pi / 2).max() <= 0.1


def test_what_the_energy_explains_is_taken_off():
    rng = np.random.default_rng(4)
    truth, other = (conditions(rng.uniform(10e3, 100e3, n)) for n in (4000, 1000))
    # a sample from other energies, 3 % too high
    other = conditions(np.sort(other.energy)[:800])

    def values(c, scale, seed):
        noise = np.random.default_rng(seed).normal(0, 0.02, len(c))
        return (scale * 0.02 * c.energy * (1 - c.energy / 1e6) * (1 + noise))[:, None]

    want, got = values(truth, 1.0, 1), values(other, 1.03, 2)
    fixed = AtFixedConditions(truth, want)
    a, b = fixed.adjust(truth, want), fixed.adjust(other, got)
    assert a.mean() == pytest.approx(want.mean())
    assert a.std() < 0.1 * want.std()
    # the shift at the energies of the other sample, far above what its energies alone would make of the means
    shift = b.mean() / a.mean() - 1
    expected = 0.03 * values(other, 1.0, 3).mean() / want.mean()
    assert shift == pytest.approx(expected, abs=2e-3)
    assert got.mean() < 0.95 * want.mean()


def test_particles_and_angles_have_averages_of_their_own():
    rng = np.random.default_rng(5)
    n = 3000
    c = conditions(rng.uniform(1e4, 1e5, n), rng.uniform(1.0, 2.1, n), rng.choice([11, 211], n))
    values = (c.energy * np.where(c.pdg_id == 11, 1.0, 0.5) * (1 + 0.3 * (c.theta - 1.57)))[:, None]
    adjusted = AtFixedConditions(c, values).adjust(c, values)
    assert adjusted.std() < 0.02 * values.std()


def test_what_the_impact_point_explains_is_taken_off():
    rng = np.random.default_rng(7)
    n = 2000
    x, y = rng.uniform(-2.5, 2.5, (2, n))
    c = replace(conditions(rng.uniform(1e4, 1e5, n)), impact_x=x, impact_y=y)
    values = (1 + 0.5 * x - 0.1 * y**2)[:, None] + rng.normal(0, 0.01, (n, 1))
    fixed = AtFixedConditions(c, values)
    assert fixed.adjust(c, values).std() < 0.02
    assert fixed.adjust(c[:10], values[:10]).std() < 0.02


def test_one_energy_leaves_values_as_they_are():
    c = conditions(np.full(200, 5e4))
    values = np.random.default_rng(6).normal(10, 1, (200, 2))
    np.testing.assert_allclose(AtFixedConditions(c, values).adjust(c, values), values)

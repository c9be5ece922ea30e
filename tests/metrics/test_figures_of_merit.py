"""P, E, A, S against the formulas written out on voxels, shower by shower."""

import numpy as np
import pytest

from caloforge.metrics.figures_of_merit import MIN_SHARE, figures_of_merit, merit
from caloforge.metrics.resampling import Resampler


def blobs(seed, n, shift=0.0, scale=1.0, layers=9, size=7):
    """Gaussian blobs of random depth and width in a box."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((layers, size, size))
    centre, width = rng.normal(4 + shift, 0.5, (n, 1, 1, 1)), rng.uniform(1.2, 1.6, (n, 1, 1, 1))
    radius = ((x - 3) ** 2 + (y - 3) ** 2) / width**2
    return scale * rng.uniform(0.8, 1.2, (n, 1, 1, 1)) * np.exp(-radius / 2 - (z - centre) ** 2 / 5)


def values_of(showers, energy=50.0):
    total = showers.sum((1, 2, 3))
    return {
        "x_profile": showers.sum((1, 2)).astype(np.float32),
        "y_profile": showers.sum((1, 3)).astype(np.float32),
        "layer_energy": showers.sum((2, 3)).astype(np.float32),
        "response": (total / energy).astype(np.float32),
        "measured_angle": (1.5 + 0.01 * np.sin(1e4 * total)).astype(np.float32),
    }


def by_hand(truth, generated):
    """P and E of 3dgan_facts 4.4, loops and all, every slice counted."""
    p, e = [], []
    for axis in (1, 2, 3):
        other = tuple({1, 2, 3} - {axis})
        s_truth, s_gan = truth.sum(other), generated.sum(other)
        i = np.arange(s_truth.shape[1])
        e.append(np.mean(np.abs(s_truth.mean(0) - s_gan.mean(0)) / s_truth.mean(0)))
        means = []
        for s in (s_truth, s_gan):
            first = [np.sum(i * row) / row.sum() for row in s]
            second = [np.sum((i - m) ** 2 * row) / row.sum() for m, row in zip(first, s, strict=True)]
            means.append((np.mean(first), np.mean(second)))
        p += [abs(a - b) / a for a, b in zip(*means, strict=True)]
    return np.mean(p), np.mean(e)


def test_p_e_s_by_hand():
    truth, generated = blobs(1, 60), blobs(2, 80, 0.4, 1.05)
    p, e = by_hand(truth, generated)
    got = figures_of_merit(values_of(truth), values_of(generated), Resampler(60, 80, replicas=3))
    assert got["P"].value == pytest.approx(p, rel=1e-5)
    assert got["E"].value == pytest.approx(e, rel=1e-5)
    s = generated.sum((1, 2, 3)).mean() / truth.sum((1, 2, 3)).mean() - 1
    assert got["S"].value == pytest.approx(abs(s), rel=1e-5)
    assert got["sum"].value == pytest.approx(p + e + abs(s), rel=1e-5)
    assert merit(values_of(truth), values_of(generated)) == pytest.approx(p + e, rel=1e-5)
    assert "A" not in got


def test_bins_are_averaged_with_equal_weight():
    truth, generated = blobs(1, 60), blobs(2, 80, 0.4)
    bins = np.arange(60) % 3, np.arange(80) % 4  # the fourth of the generated sample has no partner
    got = figures_of_merit(values_of(truth), values_of(generated), Resampler(60, 80, replicas=3), bins=bins)
    want = np.mean([by_hand(truth[bins[0] == b], generated[bins[1] == b]) for b in range(3)], axis=0)
    assert (got["P"].value, got["E"].value) == pytest.approx(tuple(want), rel=1e-5)
    bins = np.full(60, -1), np.zeros(80, int)
    with pytest.raises(ValueError, match="no energy bin"):
        figures_of_merit(values_of(truth), values_of(generated), Resampler(60, 80, replicas=3), bins=bins)


def test_nearly_empty_slices_do_not_decide():
    truth, generated = (values_of(blobs(seed, 200)) for seed in (1, 2))
    before = merit(truth, generated)
    for sample, energy in ((truth, 1e-7), (generated, 5e-4)):
        sample["x_profile"][:, 0] = energy
    assert truth["x_profile"][:, 0].sum() < MIN_SHARE * truth["x_profile"].sum()
    assert merit(truth, generated) == pytest.approx(before, rel=0.5)
    # the plain formula would add 5e3 / 7 slices / 3 axes


def test_angle_pairs_showers_of_the_same_incident_angle():
    truth, generated = values_of(blobs(1, 50)), values_of(blobs(2, 50))
    rng = np.random.default_rng(3)
    theta = rng.uniform(1.1, 2.0, 50)
    truth["measured_angle"] = theta.copy()
    order = rng.permutation(50)  # the same conditions in another order
    generated["measured_angle"] = theta[order] * 1.02
    got = figures_of_merit(truth, generated, Resampler(50, 50, replicas=3), theta=(theta, theta[order]))
    assert got["A"].value == pytest.approx(0.02)
    assert got["A"].uncertainty == pytest.approx(0, abs=1e-12)
    spacing = np.sort(theta)[: 50 // 2 * 2].reshape(-1, 2)
    assert got["A"].floor == pytest.approx(np.mean(spacing[:, 1] / spacing[:, 0] - 1))
    assert got["sum"].value == pytest.approx(sum(got[name].value for name in "PESA"))
    # a generated sample of another size is paired by rank
    fewer = {name: values[:20] for name, values in generated.items()}
    theta_fewer = theta[order][:20]
    short = figures_of_merit(truth, fewer, Resampler(50, 20, replicas=3), theta=(theta, theta_fewer))
    assert 0 < short["A"].value < 0.2


def test_uncertainty_and_floor_of_repeated_experiments():
    pool_truth, pool_generated = blobs(5, 12_500), blobs(6, 12_500, 0.3, 1.1)
    far, near = [], []
    for k in range(25):
        part = slice(500 * k, 500 * (k + 1))
        truth, same = values_of(pool_truth[part]), values_of(pool_truth[-1 - 500 * k : -501 - 500 * k : -1])
        resampler = Resampler(500, 500, seed=k, replicas=30)
        far.append(figures_of_merit(truth, values_of(pool_generated[part]), resampler))
        near.append(figures_of_merit(truth, same, resampler))
    for name in "PES":
        spread = np.std([m[name].value for m in far], ddof=1)
        assert np.mean([m[name].uncertainty for m in far]) == pytest.approx(spread, rel=0.35), name
        values = [m[name].value for m in near]
        error = 3 * np.std(values) / np.sqrt(25)
        assert np.mean([m[name].floor for m in near]) == pytest.approx(np.mean(values), abs=error), name


def test_cylindrical_mesh_has_rings_and_sectors():
    rng = np.random.default_rng(7)
    truth = rng.exponential(size=(30, 5, 8, 4))
    generated = rng.exponential(size=(30, 5, 8, 4)) * 1.1
    values = [
        {"radial_profile": s.sum((1, 2)), "azimuthal_profile": s.sum((1, 3)), "layer_energy": s.sum((2, 3))}
        for s in (truth, generated)
    ]
    assert merit(*values) == pytest.approx(sum(by_hand(truth, generated)), rel=1e-9)


def test_merit_of_a_broken_generator_is_infinite_and_of_an_empty_one_is_bad():
    truth = values_of(blobs(1, 20))
    broken = {name: np.full_like(values, np.nan) for name, values in truth.items()}
    assert merit(truth, broken) == np.inf
    empty = {name: np.zeros_like(values) for name, values in truth.items()}
    assert merit(truth, empty) == pytest.approx(2)
    assert merit(truth, truth) == 0

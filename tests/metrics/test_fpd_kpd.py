"""FPD and KPD: JetNet's numbers, closed forms, errors and floors of repeated experiments."""

import importlib.util
import warnings

import numpy as np
import pytest
from scipy import linalg

from caloforge.metrics.fpd import frechet_distance, frechet_fit, frechet_physics_distance
from caloforge.metrics.kpd import kernel_distance, kernel_physics_distance

FPD_SIZES = {"min_samples": 500, "max_samples": 3000, "points": 6}
# jetnet 0.2.5, numpy 2.3, scipy 1.17: fpd(a, b, num_batches=5, num_points=6, **sizes) and kpd(a, b,
# num_batches=6, batch_size=800) of `correlated()`, and of the halves of its truth with two constant features
JETNET = {
    "fpd": (0.3918308275376281, 0.004960013292661172),
    "kpd": (0.1345383304581793, 0.0024257070085468013),
    "fpd_halves": (0.0038446551037005145, 0.0008013813590749625),
    "kpd_halves": (0.0005270058755133533, 0.0006905472952089306),
}


def correlated(n=3000, m=3500, k=12):
    rng = np.random.default_rng(2024)
    mix = rng.normal(size=(k, k))
    truth = rng.normal(size=(n, k)) @ mix + 3 * rng.normal(size=k)
    return truth, 1.1 * rng.normal(size=(m, k)) @ mix + 3 * rng.normal(size=k) * 0.3


def halves_with_constants():
    truth, _ = correlated()
    return (np.pad(part, ((0, 0), (0, 2))) for part in (truth[:1500], truth[1500:]))


def test_stored_numbers_of_jetnet():
    fit = frechet_fit(*correlated(), batches=5, **FPD_SIZES)
    assert (fit.value, fit.fit_error) == pytest.approx(JETNET["fpd"], rel=1e-3)
    assert kernel_distance(*correlated(), batches=6, batch=800) == pytest.approx(JETNET["kpd"], rel=1e-3)
    fit = frechet_fit(*halves_with_constants(), batches=5, **FPD_SIZES | {"max_samples": 1500})
    assert (fit.value, fit.fit_error) == pytest.approx(JETNET["fpd_halves"], rel=1e-3)
    got = kernel_distance(*halves_with_constants(), batches=6, batch=800)
    assert got == pytest.approx(JETNET["kpd_halves"], rel=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("jetnet") is None, reason="jetnet is not installed")
def test_agrees_with_jetnet():
    rng = np.random.default_rng(6)
    truth, generated = rng.normal(size=(4000, 20)), rng.normal(0.1, 1.05, size=(5000, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns below 50 000 samples, and about its own dependencies
        from jetnet.evaluation import fpd, kpd

        want = fpd(truth, generated, num_batches=4, num_points=5, min_samples=1000, max_samples=4000)
        want_kernel = kpd(truth, generated, num_batches=5, batch_size=1000)
    fit = frechet_fit(truth, generated, batches=4, points=5, min_samples=1000, max_samples=4000)
    assert (fit.value, fit.fit_error) == pytest.approx(want, rel=0.01)
    assert kernel_distance(truth, generated, batches=5, batch=1000) == pytest.approx(want_kernel, rel=0.01)


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(1)
    a, b = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
    root = np.real(linalg.sqrtm(a @ b))
    want = 4.0 + np.trace(a) + np.trace(b) - 2 * np.trace(root)
    assert frechet_distance(np.zeros(5), a, np.r_[2.0, np.zeros(4)], b) == pytest.approx(want)
    singular = np.diag([1.0, 1.0, 0.0, 0.0, 0.0])
    assert frechet_distance(np.zeros(5), singular, np.zeros(5), 4 * singular) == pytest.approx(2.0)


def test_kernel_distance_is_the_double_sum():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-1, 1, (6, 3)), rng.uniform(-1, 1, (5, 3))
    x[0] = 1.0  # the normalisation of the truth is 1
    drawn = np.random.default_rng(7)
    x_drawn, y_drawn = x[drawn.choice(6, 5)], y[drawn.choice(5, 5)]

    def k(a, b):
        return (a @ b / 3 + 1) ** 4

    want = sum(k(s[i], s[j]) for s in (x_drawn, y_drawn) for i in range(5) for j in range(5) if i != j) / 20
    want -= 2 * sum(k(a, b) for a in x_drawn for b in y_drawn) / 25
    assert kernel_distance(x, y, seed=7, batch=5, batches=1)[0] == pytest.approx(want)


def test_blocks_do_not_change_the_kernel_distance(monkeypatch):
    truth, generated = correlated(300, 300)
    whole = kernel_distance(truth, generated, batch=200)
    monkeypatch.setattr("caloforge.metrics.kpd.ROWS", 17)
    assert kernel_distance(truth, generated, batch=200) == pytest.approx(whole)


@pytest.mark.parametrize("measure", [frechet_physics_distance, kernel_physics_distance])
def test_uncertainty_and_floor_of_repeated_experiments(measure):
    far, near = [], []
    for seed in range(14):
        rng = np.random.default_rng(seed)
        truth, same, other = rng.normal(size=(3, 300, 5))
        near.append(measure(truth, same, seed=seed))
        truth[0] = 4.5  # the largest value of the truth is a choice of units, no measurement
        far.append(measure(truth, other * 1.2 + 0.5, seed=seed))
    spread = np.std([metric.value for metric in far], ddof=1)
    claimed = np.mean([metric.uncertainty for metric in far])
    assert 0.65 * spread < claimed < 1.5 * spread
    values, floors = (np.array([getattr(m, name) for m in near]) for name in ("value", "floor"))
    ratio = np.mean(floors) / np.mean(np.abs(values))
    assert 0.6 < ratio < 1.7
    assert min(metric.value for metric in far) > 2.5 * max(floors)


def test_seed_fixes_the_distance_and_sample_sizes_may_differ():
    truth, generated = correlated(400, 900)
    for measure in (frechet_physics_distance, kernel_physics_distance):
        assert measure(truth, generated, seed=1) == measure(truth, generated, seed=1)
        assert measure(truth, generated, seed=1) != measure(truth, generated, seed=2)

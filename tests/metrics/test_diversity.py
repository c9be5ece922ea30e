"""Copies, crowding and memory of the training sample; null experiments and planted defects."""

import numpy as np
import pytest

from caloforge.metrics import neighbours
from caloforge.metrics.diversity import memorised, near_copies, neighbour_spacing, training_distance
from caloforge.observables import layer_energies, radial_profile, x_profile, y_profile
from caloforge.observables.energy import fractions
from caloforge.showers import ShowerFile


def sample(seed, n=600, k=6):
    return np.random.default_rng(seed).gamma(3.0, size=(n, k))


def test_radii_and_nearest_against_all_pairs(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 700)
    a, b = sample(1, 50), sample(2, 40)
    inner = np.linalg.norm(a[:, None] - a, axis=2)
    np.testing.assert_allclose(np.sqrt(neighbours.radii(a, 3)), np.sort(inner, axis=1)[:, 3])
    np.testing.assert_allclose(
        np.sqrt(neighbours.nearest(a, b)), np.linalg.norm(a[:, None] - b, axis=2).min(axis=1)
    )


def test_independent_showers_are_no_copies():
    found = [near_copies(sample(seed), sample(100 + seed), seed=seed) for seed in range(10)]
    # half the distance of the closest 0.2 %, in six dimensions: 0.2 % / 2^6
    assert np.mean([metric.value for metric in found]) < 1e-3
    assert all(metric.floor < 0.002 for metric in found)
    assert all(metric.value < 3 * metric.uncertainty for metric in found)


def test_spacing_of_equal_samples_is_one():
    found = [neighbour_spacing(sample(seed), sample(100 + seed), seed=seed) for seed in range(12)]
    values = np.array([metric.value for metric in found])
    assert abs(values.mean() - 1) < 4 * values.std(ddof=1) / np.sqrt(12)
    claimed = np.mean([metric.uncertainty for metric in found])
    assert 0.5 * values.std(ddof=1) < claimed < 2 * values.std(ddof=1)
    floors = np.array([metric.floor for metric in found])
    assert abs(floors.mean() - 1) < 4 * floors.std(ddof=1) / np.sqrt(12)


def test_a_hundred_showers_repeated():
    rng = np.random.default_rng(1)
    repeated = sample(2)[rng.integers(0, 100, 600)]
    copies = near_copies(sample(3), repeated)
    assert copies.value > 0.99
    assert copies.value > copies.floor + 10 * copies.uncertainty
    spacing = neighbour_spacing(sample(3), repeated)
    assert spacing.value < 0.01
    # a little noise on each copy hides nothing
    noisy = repeated * rng.normal(1, 0.01, repeated.shape)
    assert near_copies(sample(3), noisy).value > 0.9
    assert neighbour_spacing(sample(3), noisy).value < 0.2


def test_spacing_sees_showers_that_are_too_much_alike():
    smooth = sample(4).mean(axis=0) + 0.8 * (sample(4) - sample(4).mean(axis=0))
    got = neighbour_spacing(sample(5), smooth)
    assert got.value == pytest.approx(0.8, abs=0.05)
    assert got.value < 1 - 4 * got.uncertainty


def test_training_showers_learnt_by_heart():
    training = sample(6, 1500)
    rng = np.random.default_rng(2)
    learnt = training[rng.integers(0, 1500, 500)] * rng.normal(1, 0.002, (500, 6))
    assert memorised(training, sample(7), learnt).value > 0.95
    honest = memorised(training, sample(7), sample(8))
    assert honest.value < 0.01
    assert honest.floor < 0.01


def test_few_showers_unequal_samples_and_seeds():
    assert near_copies(sample(1, 20), sample(2, 900)).value == 0
    assert near_copies(sample(1), sample(2), seed=1, max_showers=100) == near_copies(
        sample(1), sample(2), seed=1, max_showers=100
    )
    with pytest.raises(ValueError, match="at least 16"):
        neighbour_spacing(sample(1, 15), sample(2))


def test_library_of_frozen_geant4_showers_rescaled(electrons):
    with ShowerFile(electrons) as file:
        batch, mesh = file.read(), file.detector.mesh

    def shape(showers):
        profiles = layer_energies(showers, mesh), x_profile(showers), y_profile(showers)
        return np.concatenate([fractions(p) for p in (*profiles, radial_profile(showers, mesh))], axis=1)

    truth, library = batch[slice(0, 200)], batch[slice(200, 300)]
    # the nearest in energy of 100 frozen showers, rescaled to each energy of the truth
    distance = np.abs(library.incident_energy - truth.incident_energy[:, None])
    chosen = library[distance.argmin(axis=1)]
    scale = truth.incident_energy / chosen.incident_energy
    frozen = near_copies(shape(truth.showers), shape(chosen.showers * scale[:, None, None, None]))
    assert frozen.value > 0.8
    honest = near_copies(shape(truth.showers), shape(batch[slice(300, 400)].showers))
    assert honest.value < 3 * honest.uncertainty


def test_distance_to_the_training_showers():
    training = sample(90, 1500)
    found = [training_distance(training, sample(seed), sample(50 + seed), seed=seed) for seed in range(12)]
    values = np.array([metric.value for metric in found])
    assert abs(values.mean() - 1) < 4 * values.std(ddof=1) / np.sqrt(12)
    claimed = np.mean([metric.uncertainty for metric in found])
    assert 0.5 * values.std(ddof=1) < claimed < 2 * values.std(ddof=1)
    floors = np.array([metric.floor for metric in found])
    assert abs(floors.mean() - 1) < 4 * floors.std(ddof=1) / np.sqrt(12)
    # by hand, with few showers
    one, other, known = sample(1, 30), sample(2, 20), sample(3, 25)
    scale = one.std(axis=0)
    logs = [
        np.log((np.linalg.norm((s[:, None] - known) / scale, axis=2)).min(axis=1)).mean()
        for s in (one, other)
    ]
    assert training_distance(known, one, other).value == pytest.approx(np.exp(logs[1] - logs[0]))


def test_noisy_training_showers_are_nearer_than_true_ones():
    training, rng = sample(6, 1500), np.random.default_rng(2)
    learnt = training[rng.integers(0, 1500, 500)] * rng.normal(1, 0.05, (500, 6))
    got = training_distance(training, sample(7), learnt)
    assert got.value < 0.5 and got.value < 1 - 20 * got.uncertainty
    # exact copies have a distance, too
    assert 0 < training_distance(training, sample(7), training[:400]).value < 0.01

"""Particles told apart: areas of full and fast showers, and particles that a generator makes alike."""

from dataclasses import replace

import numpy as np
import pytest
import toy_showers

from caloforge.metrics.tree_classifier import separation
from caloforge.validation.conditions import make_bins
from caloforge.validation.in_memory import _sample
from caloforge.validation.particle_separation import (
    pair_differences,
    pair_table,
    particle_bands,
    particle_pairs,
)


def test_areas_of_full_and_fast_samples():
    rng = np.random.default_rng(1)

    def sample(shift, count):
        first = rng.normal(0, 1, (count, 4))
        second = rng.normal(0, 1, (count, 4))
        second[:, 0] += shift
        return first.astype(np.float32), second.astype(np.float32)

    same = separation(sample(1, 1000), sample(1, 800))
    # of two normal distributions one standard deviation apart
    assert same.full.value == pytest.approx(0.76, abs=0.04)
    assert abs(same.shift.value) < 4 * same.shift.uncertainty
    assert 0 < same.shift.floor < same.shift.uncertainty
    alike = separation(sample(1, 1000), sample(0, 800))
    assert alike.fast.value == pytest.approx(0.5, abs=4 * alike.fast.uncertainty)
    assert alike.shift.value < -0.2


def showers(name, seed, deeper):
    """Toy electrons and photons, which are deeper by a layer or alike."""
    batch = toy_showers.batch(640, seed)
    batch.pdg_id[320:] = 22
    if deeper:
        batch.showers[320:] = np.roll(batch.showers[320:], 1, axis=1)
    return _sample(batch, name, toy_showers.detector(), 0.3, False)


def test_particles_that_are_made_alike_are_told_apart_less_well():
    truth, good, alike = showers("truth", 1, True), showers("good", 2, True), showers("alike", 3, False)
    bins = make_bins(truth.conditions, [good.conditions, alike.conditions])
    bands = particle_bands([truth, good, alike], bins)
    assert [band.label for band in bands] == ["e-", "gamma"]
    pairs = particle_pairs(truth, [good, alike], bands, seed=0)
    first, second = (d.result for d in pair_differences(pairs))
    assert abs(first.value) < 4 * first.uncertainty
    assert second.value < -5 * second.uncertainty
    assert [d.bin.key for d in pair_differences(pairs)] == ["particle-e--or-gamma"] * 2
    table = pair_table("alike", pairs)
    assert table.title == "alike: particles told apart" and table.rows[0][0] == "e- or gamma"
    # a particle with too few showers is left out, and a sample of one has no pairs
    few = replace(good, conditions=good.conditions[:400], values={k: v[:400] for k, v in good.values.items()})
    left = particle_bands([truth, few], bins)
    assert [band.label for band in left] == ["e-"]
    assert particle_pairs(truth, [few], left, seed=0) == [] and pair_table("few", []) is None

"""Defects planted in Geant4 showers are caught by `strict`, and independent Geant4 samples pass it."""

import os

import numpy as np
import pytest

from caloforge.metrics.definitions import features
from caloforge.metrics.resampling import Metric
from caloforge.showers import ShowerFile
from caloforge.testing.defects import DEFECTS, Setting
from caloforge.validation import judge_batches

SMALL = os.environ.get("CALOFORGE_SCALE") == "small"
SPLITS = 3 if SMALL else 20
# every third in the small form
PLANTED = list(DEFECTS)[:: 3 if SMALL else 1]
# what must see each defect: observable and metric
SEEN_BY = {
    "energy scale 1 % high": ("response_at_depth", "mean_shift"),
    "one layer 5 % low": ("layer_contrast", "bin_deviation"),
    "cells shuffled within a layer": ("neighbour_x", "mean_shift"),
    "layers of different showers": ("correlation", "correlation_shift"),
    "wider in x than in y": ("quadrant_asymmetry", "mean_offset"),
    "3 % more hits": ("hits", "mean_shift"),
    "tilted by 2 degrees": ("angle_residual", "mean_offset"),
    "mode collapse to 100 showers": ("shower", "near_copies"),
    "frozen library of 1 500 showers": ("shower", "near_copies"),
}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sample(truth):
    with ShowerFile(truth) as file:
        return file.read(), file.detector


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The Fréchet distance takes long and has no threshold."""
    monkeypatch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.01, 0.01))


def halves(batch, seed):
    order = np.random.default_rng(seed).permutation(len(batch))
    middle = len(batch) // 2
    return batch[np.sort(order[:middle])], batch[np.sort(order[middle:])]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_caught(sample, name):
    batch, detector = sample
    truth, other = halves(batch, 0)
    spoilt = DEFECTS[name](other, Setting(detector, np.random.default_rng(1)))
    verdict = judge_batches(truth, spoilt, detector, thresholds="strict")
    assert verdict.state == "not within"
    found = {(j.difference.observable, j.difference.metric) for j in verdict.failures}
    assert SEEN_BY[name] in found


@pytest.mark.timeout(1200)
def test_no_false_alarm(sample):
    """Independent Geant4 samples fail no comparison of `strict` in at least 19 of 20 splits."""
    batch, detector = sample
    passed = sum(
        not judge_batches(*halves(batch, seed), detector, thresholds="strict", seed=seed).failures
        for seed in range(SPLITS)
    )
    print(f"{passed} of {SPLITS} splits fail nothing")
    assert passed >= round(0.95 * SPLITS)

"""What 200 against 200 Geant4 showers decide: `strict` catches these defects, and none where there is none.

The others, such as 1 % more energy, take the thousands of test_planted_defects.py.
"""

import numpy as np
import pytest
from test_planted_defects import SEEN_BY, halves

from caloforge.metrics.definitions import features
from caloforge.metrics.resampling import Metric
from caloforge.showers import ShowerFile
from caloforge.testing.defects import DEFECTS, Setting
from caloforge.validation import judge_batches

CAUGHT = (
    "one layer 5 % low",
    "cells shuffled within a layer",
    "layers of different showers",
    "wider in x than in y",
    "tilted by 2 degrees",
    "mode collapse to 100 showers",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The Fréchet distance takes long and has no threshold."""
    monkeypatch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.01, 0.01))


@pytest.mark.parametrize("name", [None, *CAUGHT])
def test_defects_that_few_showers_show(electrons, name):
    with ShowerFile(electrons) as file:
        batch, detector = file.read(), file.detector
    truth, other = halves(batch, 0)
    if name is not None:
        other = DEFECTS[name](other, Setting(detector, np.random.default_rng(1)))
    verdict = judge_batches(truth, other, detector, thresholds="strict")
    found = {(j.difference.observable, j.difference.metric) for j in verdict.failures}
    assert found == set() if name is None else SEEN_BY[name] in found

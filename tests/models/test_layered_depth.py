"""What zones of the layered family say of each other around the axis and along the depth."""

import math

import numpy as np
import pytest
import torch

from caloforge.geometry import load_detector
from caloforge.models.layered.constants import FADE
from caloforge.models.layered.depth import SCALE, Depth
from caloforge.models.layered.plane import plane_of
from caloforge.models.training_metadata import TrainedRange

LAYERS, ZONES = 5, (0, 1, 2, 3)
DIPOLE, QUADRUPOLE = 0, 1


@pytest.fixture
def plane():
    ranges = TrainedRange(energy=(1e4, 5e5), theta=(math.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(11,))
    return plane_of(load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9")), ranges, ZONES)


@pytest.fixture
def depth(plane):
    return Depth(LAYERS, plane).requires_grad_(False)


def scores_of(plane, layer, cells):
    """Of one shower: 1 in some cells of a layer, by their columns and rows from the axis."""
    scores = torch.zeros(1, LAYERS, plane.rows, plane.columns)
    for x, y in cells:
        scores[0, layer, plane.rows // 2 + y, plane.columns // 2 + x] = 1
    return scores.flatten(2)


def test_a_layer_hears_of_those_in_front_and_less_of_far_ones(plane, depth):
    depth.share[1, QUADRUPOLE, 2, 1] = 1.0
    moved = depth(scores_of(plane, 1, [(1, 0), (-1, 0)]))[0]
    assert (moved[:2] == 0).all()
    assert (moved[2].abs() > 0).any()
    assert moved[3] == pytest.approx(FADE * moved[2])
    # nothing but the zone that hears
    assert (moved[:, plane.zone != 2] == 0).all()


def test_what_lies_on_both_sides_draws_others_there_and_away_from_across(plane, depth):
    depth.share[0, QUADRUPOLE, 2, 1] = 1.0
    moved = depth(scores_of(plane, 0, [(1, 0), (-1, 0)])).view(LAYERS, plane.rows, plane.columns)
    row = column = plane.rows // 2
    # two of four cells on the axes; the waves of 16 cells have the square sum of 4 + 8 * (3 / 5)^2
    height = SCALE * 2 / math.sqrt(4) / math.sqrt(4 + 8 * 0.36)
    assert float(moved[0, row, column + 2]) == pytest.approx(height, rel=1e-5)
    assert float(moved[0, row, column - 2]) == pytest.approx(height, rel=1e-5)
    assert float(moved[0, row + 2, column]) == pytest.approx(-height, rel=1e-5)
    assert float(moved[0, row + 2, column + 2]) == pytest.approx(0, abs=1e-7)


def test_a_shower_on_one_side_draws_to_it(plane, depth):
    depth.share[0, DIPOLE, 1, 1] = 1.0
    moved = depth(scores_of(plane, 0, [(1, 0)])).view(LAYERS, plane.rows, plane.columns)
    row = column = plane.rows // 2
    assert moved[0, row, column + 1] == -moved[0, row, column - 1]
    assert moved[0, row, column + 1] > moved[0, row + 1, column + 1] > 0
    assert float(moved[0, row + 1, column]) == pytest.approx(0, abs=1e-7)


def test_products_are_those_of_what_is_heard(plane, depth):
    """As many showers, layer by layer, wave by wave."""
    scores = torch.randn(3, LAYERS, plane.cells, generator=torch.Generator().manual_seed(0))
    found = depth.products(scores).numpy()
    waves = plane.waves((1, 2))
    want = np.zeros_like(found)
    for wave, values in enumerate(waves):
        zones = [np.where(plane.zone == zone, values, 0) for zone in range(len(ZONES))]
        height = [scores.numpy() @ (part / max(np.linalg.norm(part), 1e-6)) for part in zones]
        for i, j in np.ndindex(len(ZONES), len(ZONES)):
            want[0, wave // 2, i, j] += (height[i] * height[j]).sum() / 3
            for layer in range(LAYERS):
                for front in range(layer):
                    product = (height[i][:, layer] * height[j][:, front]).sum() / 3
                    want[1, wave // 2, i, j] += FADE ** (layer - front - 1) * product
    assert found == pytest.approx(want, abs=1e-4)
    assert want[1].std() > 0.1


def test_each_share_raises_its_own_product(plane, depth):
    scores = torch.randn(4000, LAYERS, plane.cells, generator=torch.Generator().manual_seed(0))
    before = depth.products(scores)
    for place in ((0, QUADRUPOLE, 3, 1), (1, DIPOLE, 2, 1), (1, QUADRUPOLE, 1, 1)):
        depth.share.zero_()
        depth.share[place] = 1.0
        rise = depth.products(scores + depth(scores)) - before
        # cosine and sine, by the variance of what is heard
        want = 2 * SCALE * float((depth.memory[place[0]] ** 2).sum())
        assert float(rise[place]) == pytest.approx(want, rel=0.15)

"""Share of the energy of a shower beside the mesh."""

import math

import numpy as np
import pytest

from caloforge.commands import check
from caloforge.geometry import load_detector
from caloforge.geometry.containment import LATERAL_SCALE, largest_share_beside_mesh, share_beside_mesh

ENERGY = 1e5
ONE_STEP = {"text": "left out"}


def test_share_is_the_integral_of_the_profile_beside_the_mesh():
    detector = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=7"))
    scale = LATERAL_SCALE * detector.moliere_radius
    # one layer's integral on a grid, with the axis beside the centre
    x, y = (np.linspace(-n * 2.5, n * 2.5, 1001) for n in (5, 7))
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in (x, y))
    square = (x[None] - 4.0) ** 2 + (y[:, None] + 3.0) ** 2
    inside = (scale**2 / (math.pi * (square + scale**2) ** 2)).sum() * (25 / 1000) * (35 / 1000)
    found = share_beside_mesh(detector, (0.0, 0.0), (4.0, -3.0), ENERGY)
    assert found == pytest.approx(1 - inside, abs=1e-4)


def test_share_grows_with_the_inclination_and_is_the_same_on_all_sides():
    detector = load_detector("clic-ecal-25")
    share = [
        share_beside_mesh(detector, slope, (0.0, 0.0), ENERGY) for slope in ((0, 0), (0.3, 0), (0.6, 0.6))
    ]
    assert share == sorted(share)
    sides = [
        share_beside_mesh(detector, slope, (0.0, 0.0), ENERGY) for slope in ((-0.3, 0), (0, 0.3), (0.3, 0))
    ]
    assert sides == pytest.approx([share[1]] * 3)
    wider = load_detector("clic-ecal-51")
    assert share_beside_mesh(wider, (0.6, 0.6), (0.0, 0.0), ENERGY) < share[2] / 2


def test_the_largest_share_is_in_a_corner_of_the_angles():
    detector = load_detector("clic-ecal-25")
    low, high = math.radians(70), math.radians(100)
    share, theta, phi = largest_share_beside_mesh(detector, (low, high), (-0.1, 0.4), ENERGY)
    assert (theta, phi) == (low, 0.4)
    slope = (math.tan(0.4), 1 / (math.tan(low) * math.cos(0.4)))
    assert share == share_beside_mesh(detector, slope, (0.0, 0.0), ENERGY)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([], "about 2.4 % of the energy is lost beside it at theta 60 deg, phi -30 deg"),
        (["detector.mesh.nx=9"], "warning: about"),
        (["beam.theta={kind: fixed, value: 90 deg}", "beam.phi={kind: fixed, value: 0 deg}"], ""),
    ],
    ids=["contained", "narrow", "orthogonal"],
)
def test_check_tells_what_an_inclined_beam_loses_beside_the_mesh(monkeypatch, settings, told):
    for step in ("_fullsim", "_training"):
        monkeypatch.setattr(check, step, lambda *_: ONE_STEP)
    found = check.check("clic-photon-angle", set_=settings)
    assert told in found.text
    assert ("lost beside" in found.text) == bool(told)
    assert ("warning" in found.text) == ("warning" in told)

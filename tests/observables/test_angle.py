import numpy as np
import pytest

from caloforge import observables as obs
from caloforge.geometry import CartesianMesh

MESH = CartesianMesh(nx=61, ny=61, cell_x="3 mm", cell_y="3 mm")
DEPTHS = np.arange(50) * 3.0 + 1.5


def tilted(theta, phi, *, width, rng, points=40_000):
    """A shower of Gaussian length 20 mm and the given width around an axis through the middle, as points."""
    direction = np.array([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)])
    across = np.linalg.svd(direction[None])[2][1:]
    along = rng.normal(0, 20, (points, 1)) * direction
    place = along + rng.normal(0, width, (points, 2)) @ across + [0, 0, DEPTHS.mean()]
    edges = [np.append(c - 1.5, c[-1] + 1.5) for c in (DEPTHS, MESH.y_centres(), MESH.x_centres())]
    return np.histogramdd(place[:, ::-1], edges)[0]


@pytest.mark.parametrize("degrees", [60.0, 75.0, 90.0, 118.0])
@pytest.mark.parametrize("turn", [-10.0, 0.0, 25.0])
def test_principal_axis_of_a_tilted_shower(degrees, turn):
    rng = np.random.default_rng(1)
    shower = tilted(np.radians(degrees), np.radians(turn), width=6.0, rng=rng)
    sums = obs.transverse_sums(shower[None], MESH)
    theta, phi = obs.principal_axis(sums, DEPTHS)
    assert np.degrees(theta[0]) == pytest.approx(degrees, abs=0.7)
    assert np.degrees(phi[0]) == pytest.approx(turn, abs=0.7)


@pytest.mark.parametrize("degrees", [62.0, 90.0, 118.0])
def test_both_estimates_agree_for_slender_showers(degrees):
    """The barycentres of layers follow the axis of a shower only where it is long compared to its width."""
    shower = tilted(np.radians(degrees), 0.0, width=0.8, rng=np.random.default_rng(2))[None]
    measured = obs.measured_angle(shower, MESH.x_centres(), MESH.y_centres(), DEPTHS)
    theta, _ = obs.principal_axis(obs.transverse_sums(shower, MESH), DEPTHS)
    assert np.degrees(measured[0]) == pytest.approx(degrees, abs=1.5)
    assert np.degrees(measured[0] - theta[0]) == pytest.approx(0, abs=1.5)


def test_a_shower_without_extent_points_straight_in():
    showers = np.zeros((2, 50, 61, 61))
    showers[1, 4, 30, 30] = 7.0
    theta, phi = obs.principal_axis(obs.transverse_sums(showers, MESH), DEPTHS)
    assert theta == pytest.approx([np.pi / 2] * 2)
    assert phi == pytest.approx([0, 0])

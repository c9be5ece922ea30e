import numpy as np
import pytest
from observable_samples import DETECTORS, random_showers

from caloforge import observables as obs
from caloforge.geometry import CartesianMesh, CylindricalMesh, load_detector


def test_third_and_fourth_moments_against_the_definition():
    rng = np.random.default_rng(1)
    mesh = CartesianMesh(nx=21, ny=15, cell_x="5 mm", cell_y="3 mm")
    showers = rng.exponential(size=(5, 6, 15, 21)) ** 3
    got = obs.moments(showers, mesh)
    for axis, position, over in (("x", mesh.x_centres(), (1, 2)), ("y", mesh.y_centres(), (1, 3))):
        weight = showers.sum(axis=over)
        weight /= weight.sum(axis=1, keepdims=True)
        centre = weight @ position
        residual = position - centre[:, None]
        width = np.sqrt((weight * residual**2).sum(axis=1))
        np.testing.assert_allclose(got[f"width_{axis}"], width)
        np.testing.assert_allclose(got[f"skewness_{axis}"], (weight * residual**3).sum(axis=1) / width**3)
        np.testing.assert_allclose(got[f"kurtosis_{axis}"], (weight * residual**4).sum(axis=1) / width**4 - 3)


def test_an_even_profile_has_the_kurtosis_of_the_uniform_distribution():
    n = 101
    mesh = CartesianMesh(nx=n, ny=1, cell_x="1 mm", cell_y="1 mm")
    got = obs.moments(np.ones((1, 3, 1, n)), mesh)
    # discrete uniform: -6/5 (n^2 + 1) / (n^2 - 1)
    assert got["kurtosis_x"][0] == pytest.approx(-1.2 * (n**2 + 1) / (n**2 - 1))
    assert got["skewness_x"][0] == pytest.approx(0, abs=1e-12)
    assert got["width_x"][0] == pytest.approx(np.sqrt((n**2 - 1) / 12))


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_layer_centres_and_widths_against_the_definition_of_the_calochallenge(name):
    detector = DETECTORS[name]
    showers = random_showers(detector)
    showers[2] = 0
    x, _ = obs.transverse_positions(detector.mesh)
    got = obs.layer_centres(obs.transverse_sums(showers, detector.mesh))
    for layer in range(detector.n_layers):
        if name == "ragged":
            part = detector.mesh.slices()[layer]
            voxels, here = showers[:, part].astype(float), x[part]
        else:
            voxels, here = showers[:, layer].reshape(len(showers), -1).astype(float), x
        total = voxels.sum(axis=1) + 1e-16
        centre = voxels @ here / total
        width = np.sqrt(np.maximum(voxels @ here**2 / total - centre**2, 0))
        np.testing.assert_allclose(got["layer_centre_x"][:, layer], centre, atol=1e-9)
        np.testing.assert_allclose(got["layer_width_x"][:, layer], width, atol=1e-5)


def test_ring_of_a_cylinder_has_the_radius_of_its_voxels():
    mesh = CylindricalMesh(kind="cylindrical", nr=6, nphi=8, cell_r="4 mm")
    showers = np.zeros((1, 2, 8, 6))
    showers[0, 0, :, 2] = 1.0
    showers[0, 1, 3, [1, 4]] = 1.0
    got = obs.layer_centres(obs.transverse_sums(showers, mesh))
    assert got["layer_centre_r"][0] == pytest.approx([10.0, 12.0])
    assert got["layer_width_r"][0] == pytest.approx([0.0, 6.0])


def test_radius_of_containment_of_an_evenly_filled_disc():
    mesh = CylindricalMesh(kind="cylindrical", nr=10, nphi=16, cell_r="3 mm")
    edges = obs.radial_edges(mesh)
    rings = np.diff(edges**2)[None]
    for fraction in (0.1, 0.5, 0.9, 1.0):
        radius = obs.containment_radius(rings, edges, fraction)
        assert radius[0] == pytest.approx(30 * np.sqrt(fraction)), fraction


def test_radius_of_containment_of_a_known_radial_profile():
    """f(r) = 2 r R^2 / (r^2 + R^2)^2 of GFLASH holds r^2 / (r^2 + R^2) inside r."""
    mesh = CartesianMesh(nx=301, ny=301, cell_x="1 mm", cell_y="1 mm")
    x, y = mesh.positions()
    showers = (1 / (x**2 + y**2 + 8.0**2) ** 2)[None, None]
    rings, edges = obs.fine_rings(obs.lateral_image(showers, mesh), mesh)
    radius = obs.containment_radius(rings, edges)
    # 0.9 of what lies inside the window
    inside = 0.9 * (1 - 8.0**2 / (150.0**2 * 4 / np.pi + 8.0**2))
    assert radius[0] == pytest.approx(8 * np.sqrt(inside / (1 - inside)), rel=5e-3)


def test_radius_of_containment_of_empty_and_of_one_voxel():
    mesh = CartesianMesh(nx=5, ny=5, cell_x="5 mm", cell_y="5 mm")
    showers = np.zeros((3, 1, 5, 5))
    showers[1, 0, 2, 2] = 4.0
    showers[2, 0, 0, 0] = 4.0
    rings, edges = obs.fine_rings(obs.lateral_image(showers, mesh), mesh)
    radius = obs.containment_radius(rings, edges)
    assert radius[0] == 0
    assert radius[1] == pytest.approx(np.sqrt(0.9 * 25 / np.pi))
    assert 10 < radius[2] < 5 * 5 / np.sqrt(np.pi)
    assert edges[-1] == pytest.approx(5 * 5 / np.sqrt(np.pi))


def test_regions_of_the_clic_window():
    mesh = load_detector("clic-ecal-51").mesh
    core, tail, corner = (
        f(mesh).reshape(51, 51) for f in (obs.core_region, obs.tail_region, obs.corner_region)
    )
    assert core.sum() == 9
    assert core[24:27, 24:27].all()
    # bulk is [10:41], corners are [:10] and [41:] in both axes
    assert (~tail).sum() == 31**2
    assert not tail[10:41, 10:41].any()
    assert corner.sum() == 4 * 10**2
    assert corner[:10, 41:].all()


def test_regions_of_even_and_round_meshes():
    even = CartesianMesh(nx=6, ny=6, cell_x="5 mm", cell_y="5 mm")
    assert obs.core_region(even).sum() == 4
    cylinder = DETECTORS["cylindrical"].mesh
    assert obs.core_region(cylinder).reshape(8, 5)[:, 0].all()
    assert obs.core_region(cylinder).sum() == 8
    assert obs.tail_region(cylinder).reshape(8, 5)[0].tolist() == [False] * 3 + [True] * 2
    ragged = DETECTORS["ragged"].mesh
    assert obs.core_region(ragged).sum() == 1 + 4 + 1


def test_quadrant_signs_cancel_in_every_symmetric_window():
    for name in ("square", "cylindrical"):
        signs = obs.quadrant_signs(DETECTORS[name].mesh)
        assert signs.sum() == 0, name
        assert (signs > 0).any(), name
    square = obs.quadrant_signs(DETECTORS["square"].mesh).reshape(9, 9)
    assert square[4, 8] == 1
    assert square[8, 4] == -1
    assert np.all(np.diag(square) == 0)

import numpy as np
import pytest

from caloforge import observables as obs
from caloforge.geometry import CartesianMesh, CylindricalMesh, RaggedMesh

CARTESIAN = CartesianMesh(nx=5, ny=7, cell_x="5 mm", cell_y="5 mm")
CYLINDER = CylindricalMesh(kind="cylindrical", nr=4, nphi=6, cell_r="2 mm")
RAGGED = RaggedMesh(
    kind="ragged",
    layers=[
        {"id": 0, "r_edges": ["0 mm", "5 mm", "10 mm"], "nphi": 1},
        {"id": 2, "r_edges": ["0 mm", "2 mm", "10 mm", "20 mm"], "nphi": 4},
    ],
)
SHAPES = {"cartesian": (9, 7, 5), "cylindrical": (9, 6, 4), "ragged": (14,)}
MESHES = {"cartesian": CARTESIAN, "cylindrical": CYLINDER, "ragged": RAGGED}


@pytest.fixture(params=sorted(MESHES))
def sample(request):
    rng = np.random.default_rng(1)
    showers = rng.exponential(size=(11, *SHAPES[request.param])).astype(np.float32)
    showers[showers < 0.4] = 0
    showers[3] = 0
    return showers, MESHES[request.param]


def test_every_decomposition_adds_up_to_the_visible_energy(sample):
    showers, mesh = sample
    total = obs.visible_energy(showers)
    assert total[3] == 0
    np.testing.assert_allclose(obs.layer_energies(showers, mesh).sum(1), total)
    np.testing.assert_allclose(obs.radial_profile(showers, mesh).sum(1), total)
    np.testing.assert_allclose(obs.lateral_image(showers, mesh).sum(1), total)
    regions = obs.depth_regions(obs.layer_energies(showers, mesh)).sum(1)
    np.testing.assert_allclose(regions, total > 0)


def test_hits_layers_and_spectrum_count_the_same_voxels(sample):
    showers, mesh = sample
    want = (showers.reshape(len(showers), -1) > 0.7).sum(1)
    np.testing.assert_array_equal(obs.hits(showers, 0.7), want)
    np.testing.assert_array_equal(obs.layer_hits(showers, mesh, 0.7).sum(1), want)
    np.testing.assert_array_equal(obs.cell_spectrum(showers, np.array([0.7, 1.0, 2.0])).sum(1), want)


def test_a_voxel_of_exactly_the_threshold_is_no_hit():
    showers = np.array([[[[1.0, 2.0]]]])
    assert obs.hits(showers, 1.0) == 1


def test_spectrum_agrees_with_numpy_and_keeps_the_overflow():
    showers = np.random.default_rng(2).lognormal(size=(4, 3, 5, 5))
    edges = np.geomspace(0.1, 3.0, 9)
    wide = np.append(edges[:-1], np.inf)
    want = [np.histogram(shower, wide)[0] for shower in showers]
    np.testing.assert_array_equal(obs.cell_spectrum(showers, edges), want)


def test_float32_input_is_summed_in_float64():
    showers = np.full((1, 1, 2000, 2000), 0.1, np.float32)
    assert obs.visible_energy(showers)[0] == pytest.approx(4e6 * float(np.float32(0.1)), rel=1e-12)


def test_response_is_a_ratio():
    showers = np.ones((2, 1, 2, 5), np.float32)
    np.testing.assert_allclose(obs.response(showers, np.array([100.0, 200.0])), [0.1, 0.05])


def test_depth_regions_split_25_layers_as_in_3dgan():
    layers = np.zeros((3, 25))
    layers[0, 7] = layers[1, 8] = layers[2, 16] = 2.0
    np.testing.assert_array_equal(obs.depth_regions(layers), np.eye(3))


def test_moments_of_two_cells():
    showers = np.zeros((1, 9, 7, 5))
    showers[0, 2, 3, 2] = 1.0  # on the axis
    showers[0, 6, 3, 4] = 3.0  # 10 mm along x
    got = obs.moments(showers, CARTESIAN)
    want = {"centre_x": 7.5, "centre_y": 0, "centre_z": 5, "width_y": 0}
    want |= {"width_x": 10 * np.sqrt(0.75 * 0.25), "width_z": 4 * np.sqrt(0.75 * 0.25)}
    for name, value in want.items():
        assert got[name][0] == pytest.approx(value, abs=1e-12), name


def test_moments_agree_between_meshes_for_the_same_ring():
    showers = np.zeros((1, 1, 6, 4))
    showers[0, 0, :, 2] = 1.0  # radius 5 mm, all around
    got = obs.moments(showers, CYLINDER)
    assert got["centre_x"][0] == pytest.approx(0, abs=1e-12)
    assert got["width_x"][0] == pytest.approx(5 / np.sqrt(2))


def test_ragged_single_sector_sits_on_the_axis():
    x, y = obs.transverse_positions(RAGGED)
    assert np.all(x[:2] == 0)
    assert np.hypot(x, y)[2:5] == pytest.approx([1, 6, 15])


def test_first_ring_of_an_odd_window_is_the_central_cell():
    showers = np.zeros((2, 1, 7, 5))
    showers[0, 0, 3, 2] = 1.0
    showers[1, 0, 3, 3] = 1.0
    ring = obs.radial_profile(showers, CARTESIAN)
    assert ring[0, 0] == 1
    assert ring[1, 1] == 1
    assert obs.ring_areas(CARTESIAN)[0] == 25
    assert obs.ring_areas(CARTESIAN).sum() == 35 * 25


def test_profiles_follow_their_axes():
    showers = np.zeros((1, 9, 7, 5))
    showers[0, 1, 6, 0] = 4.0
    assert obs.x_profile(showers)[0].tolist() == [4, 0, 0, 0, 0]
    assert obs.y_profile(showers)[0].tolist() == [0] * 6 + [4]


@pytest.mark.parametrize("degrees", [62.0, 90.0, 118.0])
def test_measured_angle_of_a_straight_line(degrees):
    """A line of deposits along the incident direction (0, cos theta, sin theta)."""
    depth = np.arange(25) * 5.55
    y = (np.arange(51) + 0.5 - 25.5) * 5.0
    offset = (depth - depth[10]) / np.tan(np.radians(degrees))
    showers = np.zeros((1, 25, 51, 51))
    low = np.searchsorted(y, offset, side="right") - 1
    share = (offset - y[low]) / 5.0
    for layer in range(25):  # share the deposit between two cells so that the barycentre is exact
        showers[0, layer, low[layer], 25] = 1 - share[layer]
        showers[0, layer, low[layer] + 1, 25] = share[layer]
    # unequal layers: one exactly at the barycentre has no direction and would count as 90 degrees
    showers *= np.exp(-np.arange(25) / 7.0)[:, None, None]
    got = np.degrees(obs.measured_angle(showers, x=y, y=y, z=depth))
    assert got[0] == pytest.approx(degrees, abs=0.05)


def test_measured_angle_against_the_formula_written_out():
    showers = np.random.default_rng(3).exponential(size=(2, 6, 5, 4))
    showers[:, 4] = 0
    got = obs.measured_angle(showers)
    for shower, angle in zip(showers, got, strict=True):
        iz, iy, ix = (g + 0.5 for g in np.indices(shower.shape))
        xm, ym, zm = ((shower * g).sum() / shower.sum() for g in (ix, iy, iz))
        top = bottom = 0.0
        for layer in range(6):
            energy = shower[layer].sum()
            if energy == 0:
                continue
            xl = (shower[layer] * ix[layer]).sum() / energy
            yl = (shower[layer] * iy[layer]).sum() / energy
            z = layer + 0.5
            slope = (yl - ym) / np.sqrt(max((xl - xm) ** 2 + (z - zm) ** 2, 1e-7))
            slope = -slope if z < zm else slope
            top += z * (np.pi / 2 - np.arctan(slope))
            bottom += z
        assert angle == pytest.approx(top / bottom)


def test_empty_shower_has_the_angle_nobody_can_have():
    assert obs.measured_angle(np.zeros((1, 4, 3, 3)))[0] == obs.EMPTY_ANGLE

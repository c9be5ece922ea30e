import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from observable_samples import DETECTORS, as_batch, random_showers, read_shipped

from caloforge import observables as obs
from caloforge.geometry import load_detector
from caloforge.observables import measurement

THRESHOLD = 0.9


@pytest.fixture(params=sorted(DETECTORS))
def detector(request):
    return DETECTORS[request.param]


def observe(showers, detector, **conditions):
    return obs.observe(as_batch(showers, **conditions), detector, threshold=THRESHOLD)


@pytest.mark.parametrize("name", [*sorted(DETECTORS), "clic-ecal-51", "par04-siw"])
def test_catalogue_and_measurement_agree(name):
    detector = DETECTORS.get(name) or load_detector(name)
    entries = obs.catalogue(detector, threshold=THRESHOLD)
    values = observe(random_showers(detector, 3), detector)
    assert {entry.name for entry in entries} == set(values) - {"fingerprint"}
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        value = values[entry.name]
        shape = (3,) if entry.kind == "scalar" else (3, len(entry.axis.edges) - 1)
        assert value.shape == shape, entry.name
        assert value.dtype == np.float32, entry.name
        assert np.isfinite(value).all(), entry.name
        assert entry.axis is None or np.all(np.diff(entry.axis.edges) > 0), entry.name
        assert entry.label


def test_values_are_those_of_the_single_functions(detector):
    showers, mesh = random_showers(detector), detector.mesh
    values = observe(showers, detector, energy=2e3)
    layers = obs.layer_energies(showers, mesh)
    spectrum = obs.cell_spectrum(showers, obs.SPECTRUM_EDGES)
    for name, want in {
        "visible_energy": obs.visible_energy(showers),
        "response": obs.response(showers, np.full(len(showers), 2e3)),
        "layer_energy": layers,
        "r2": obs.depth_regions(layers)[:, 1],
        "radial_profile": obs.radial_profile(showers, mesh),
        "hits": obs.hits(showers, THRESHOLD),
        "layer_hits": obs.layer_hits(showers, mesh, THRESHOLD),
        "cell_spectrum": spectrum,
        **obs.moments(showers, mesh),
    }.items():
        np.testing.assert_allclose(values[name], want, rtol=1e-5, atol=1e-5, err_msg=name)


def test_measured_angle_is_the_formula_in_millimetres():
    detector = DETECTORS["cartesian"]
    showers = random_showers(detector)
    mesh, theta = detector.mesh, np.linspace(1.1, 2.0, len(showers))
    want = obs.measured_angle(showers, mesh.x_centres(), mesh.y_centres(), detector.active_depths())
    values = observe(showers, detector, theta=theta)
    np.testing.assert_allclose(values["measured_angle"], want, rtol=1e-6)
    np.testing.assert_allclose(values["angle_residual"], want - theta, atol=1e-6)


@pytest.mark.parametrize("name", ["cartesian", "cylindrical", "ragged"])
def test_the_position_less_the_impact_point(name):
    detector = DETECTORS[name]
    names = {o.name for o in obs.catalogue(detector, threshold=THRESHOLD, impacts=True)}
    values = obs.observe(as_batch(random_showers(detector, 3)), detector, threshold=THRESHOLD, impacts=True)
    assert names == set(values) - {"fingerprint"}
    # orthogonal incidence on the axis: the centre of gravity itself
    np.testing.assert_allclose(values["impact_residual_x"], values["centre_x"], atol=1e-5)


def test_the_track_of_an_inclined_shower_is_followed():
    detector = DETECTORS["cartesian"]
    mesh, depths = detector.mesh, detector.active_depths()
    theta, phi, x, y = 1.45, 0.1, 1.5, -2.0
    depths = depths - detector.layer_fronts()[detector.axis_layer]
    along_x, along_y = x + np.tan(phi) * depths, y + depths / np.tan(theta) / np.cos(phi)
    # layers of wide deposits that lie on the track, of different energies
    shapes = [
        np.exp(-((mesh.y_centres()[:, None] - b) ** 2 + (mesh.x_centres() - a) ** 2) / 30)
        for a, b in zip(along_x, along_y, strict=True)
    ]
    showers = np.stack(shapes)[None] * np.linspace(3, 1, len(depths))[:, None, None]
    batch = as_batch(showers.astype(np.float32), theta=theta)
    batch.incident_phi[:], batch.impact_x[:], batch.impact_y[:] = phi, x, y
    values = obs.observe(batch, detector, threshold=THRESHOLD, impacts=True)
    assert abs(values["centre_y"][0]) > 1.5
    assert values["impact_residual_x"][0] == pytest.approx(0, abs=0.05)
    assert values["impact_residual_y"][0] == pytest.approx(0, abs=0.05)


def test_hottest_voxel(detector):
    showers = random_showers(detector, 4)
    flat = showers.reshape(4, -1)
    flat[:, -1] = 50.0
    values = observe(showers, detector)
    x, y = obs.transverse_positions(detector.mesh)
    assert np.all(values["hottest_energy"] == 50)
    assert np.all(values["hottest_layer"] == detector.n_layers - 1)
    np.testing.assert_allclose(values["hottest_x"], x[-1], rtol=1e-6)
    np.testing.assert_allclose(values["hottest_y"], y[-1], rtol=1e-6)


def test_empty_and_one_voxel_showers_have_finite_values(detector):
    showers = np.zeros((2, *detector.shower_shape), np.float32)
    showers.reshape(2, -1)[1, 5] = 3.0
    values = observe(showers, detector)
    for name, value in values.items():
        assert np.isfinite(value).all(), name
    for name in ("visible_energy", "response", "hits", "r90", "core_fraction", "width_x", "neighbour_r"):
        assert name not in values or values[name][0] == 0, name
    for name in ("width_x", "width_y", "width_z", "skewness_z", "kurtosis_z", "layer_width_r"):
        assert np.all(values[name] == 0), name
    assert values["hits"][1] == 1
    assert values["cell_spectrum"][1].sum() == 1


def test_an_empty_shower_has_the_angle_it_came_with():
    values = observe(np.zeros((1, 8, 9, 7), np.float32), DETECTORS["cartesian"], theta=1.2)
    assert values["measured_angle"][0] == pytest.approx(1.2)
    assert values["angle_residual"][0] == 0


def test_no_shower_at_all_is_refused(detector):
    with pytest.raises(ValueError, match="no showers"):
        observe(np.zeros((0, *detector.shower_shape), np.float32), detector)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(detector, bad):
    showers = random_showers(detector, 3)
    showers.reshape(3, -1)[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        observe(showers, detector)


def test_blocks_change_nothing_and_bound_the_memory(detector, monkeypatch):
    voxels = int(np.prod(detector.shower_shape))
    showers = random_showers(detector, 40)
    want = observe(showers, detector)
    monkeypatch.setattr(measurement, "BLOCK_VOXELS", 16 * voxels)
    for name, value in observe(showers, detector).items():
        np.testing.assert_allclose(value, want[name], rtol=1e-5, atol=1e-6, err_msg=name)

    def working_memory(n):
        sample = np.tile(showers, (n // 40, *[1] * (showers.ndim - 1)))
        batch = as_batch(sample)
        tracemalloc.start()
        values = obs.observe(batch, detector, threshold=THRESHOLD)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - sum(value.nbytes for value in values.values())

    assert working_memory(800) < 2 * working_memory(80)


MIRROR_ODD = {"centre_x", "skewness_x", "hottest_x", "axis_phi", "layer_centre_x"}


def test_mirror_image_in_x():
    detector = DETECTORS["cartesian"]
    showers = random_showers(detector)
    values, mirrored = observe(showers, detector), observe(showers[..., ::-1], detector)
    for name, value in values.items():
        if name == "fingerprint":
            continue
        want = -value if name in MIRROR_ODD else value[:, ::-1] if name == "x_profile" else value
        np.testing.assert_allclose(mirrored[name], want, rtol=1e-4, atol=1e-5, err_msg=name)


def test_exchange_of_x_and_y():
    detector = DETECTORS["square"]
    showers = random_showers(detector)
    values, swapped = observe(showers, detector), observe(showers.swapaxes(2, 3), detector)
    not_symmetric = {"fingerprint", "measured_angle", "angle_residual", "axis_theta", "axis_phi"}
    for name, value in values.items():
        if name in not_symmetric:
            continue
        if name in ("width_asymmetry", "quadrant_asymmetry"):
            value = -value
        exchanged = {"x_profile": "y_profile", "y_profile": "x_profile", "neighbour_xy": "neighbour_xy"}
        other = exchanged.get(name, name.replace("_x", "_?").replace("_y", "_x").replace("_?", "_y"))
        np.testing.assert_allclose(swapped[other], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_turning_a_cylindrical_shower_by_one_sector():
    detector = DETECTORS["cylindrical"]
    showers = random_showers(detector)
    values, turned = observe(showers, detector), observe(np.roll(showers, 1, axis=2), detector)
    for name in ("radial_profile", "r90", "core_fraction", "two_point_phi", "neighbour_r", "layer_width_r"):
        np.testing.assert_allclose(turned[name], values[name], rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(
        turned["azimuthal_profile"], np.roll(values["azimuthal_profile"], 1, axis=1)
    )


def test_what_does_not_depend_on_the_energy_scale(detector):
    showers = random_showers(detector)
    values, scaled = observe(showers, detector), observe(4 * showers, detector, energy=4e4)
    for name in values:
        if (
            "energy" in name
            or "profile" in name
            or "hits" in name
            or "spectrum" in name
            or name == "sparsity"
        ):
            continue
        np.testing.assert_allclose(scaled[name], values[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_high_level_features_are_finite_and_one_row_a_shower(detector):
    showers = random_showers(detector)
    showers[3] = 0
    energy = np.geomspace(1e3, 1e5, len(showers))
    values = observe(showers, detector, energy=energy)
    table = obs.high_level_features(values, energy)
    scalars = sum(value.ndim == 1 for value in values.values())
    assert table.shape == (len(showers), 1 + scalars + 2 * detector.n_layers)
    assert np.isfinite(table).all()
    np.testing.assert_allclose(table[:, 0], np.log10(energy), rtol=1e-6)


def test_threshold_of_the_published_analyses():
    assert obs.default_threshold(load_detector("clic-ecal-25")) == 0.3
    corrected = obs.default_threshold(load_detector("par04-siw"), "sampling-fraction corrected")
    assert corrected == pytest.approx(5e-4 / 0.033, rel=1e-3)
    assert obs.default_threshold(DETECTORS["ragged"]) == 1.0


def test_geant4_showers_against_numpy_written_out():
    batch, detector = read_shipped(20)
    values = obs.observe(batch, detector, threshold=0.3)
    mesh, depths = detector.mesh, detector.active_depths()
    for i, shower in enumerate(batch.showers.astype(np.float64)):
        z, y, x = np.meshgrid(depths, mesh.y_centres(), mesh.x_centres(), indexing="ij")
        total = shower.sum()
        mean = (shower * x).sum() / total
        width = np.sqrt((shower * (x - mean) ** 2).sum() / total)
        kurtosis = (shower * (x - mean) ** 4).sum() / total / width**4 - 3
        core = shower[:, 11:14, 11:14].sum() / total
        corner = (
            shower[:, (np.abs(mesh.y_centres()) > 37.5)][:, :, np.abs(mesh.x_centres()) > 37.5].sum() / total
        )
        root = np.sqrt(shower)
        points = np.stack([x.ravel(), y.ravel(), z.ravel()])
        axis = np.linalg.eigh(np.cov(points, aweights=shower.ravel(), ddof=0))[1][:, -1]
        for name, want in {
            "response": total / batch.incident_energy[i],
            "width_x": width,
            "kurtosis_x": kurtosis,
            "core_fraction": core,
            "corner_fraction": corner,
            "neighbour_y": (root[:, 1:] * root[:, :-1]).sum() / total,
            "neighbour_z2": (root[2:] * root[:-2]).sum() / total,
            "axis_theta": np.arccos(axis[1] * np.sign(axis[2])),
            "hits": (shower > 0.3).sum(),
        }.items():
            assert values[name][i] == pytest.approx(want, rel=1e-4), name


def test_the_reference_names_every_observable():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "observables.md").read_text(encoding="utf-8")
    detectors = [*DETECTORS.values(), load_detector("clic-ecal-51"), load_detector("par04-siw")]
    names = {entry.name for d in detectors for entry in obs.catalogue(d, threshold=0.3, impacts=True)}
    assert sorted(name for name in names if f"`{name}`" not in page) == []

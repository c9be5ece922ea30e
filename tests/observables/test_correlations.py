import numpy as np
import pytest
from observable_samples import DETECTORS, random_showers, read_shipped

from caloforge import observables as obs


def test_overlap_of_two_voxels():
    mesh = DETECTORS["square"].mesh
    showers = np.zeros((1, 8, 9, 9), np.float32)
    showers[0, 3, 4, 4] = 9.0
    showers[0, 3, 4, 6] = 4.0
    got = obs.two_point(showers, mesh)
    # sqrt(9 * 4) / 13 at a distance of two in x, nothing elsewhere
    np.testing.assert_allclose(got["x"][0], [0, 6 / 13, 0, 0, 0], atol=1e-6)
    assert not got["y"].any()
    assert not got["z"].any()
    assert not got["xy"].any()


def test_overlap_along_both_diagonals_is_the_mean():
    mesh = DETECTORS["square"].mesh
    showers = np.zeros((2, 8, 9, 9), np.float32)
    showers[0, 0, [2, 3], [2, 3]] = 1.0
    showers[1, 0, [2, 3], [3, 2]] = 1.0
    np.testing.assert_allclose(obs.two_point(showers, mesh)["xy"][:, 0], [0.25, 0.25])


def test_an_even_window_overlaps_with_itself_but_for_its_edge():
    got = obs.two_point(np.full((1, 8, 9, 7), 2.0), DETECTORS["cartesian"].mesh)
    np.testing.assert_allclose(got["x"][0], (7 - np.arange(1, 6)) / 7)
    np.testing.assert_allclose(got["y"][0], (9 - np.arange(1, 6)) / 9)
    np.testing.assert_allclose(got["z"][0], (8 - np.arange(1, 6)) / 8)


def test_the_azimuth_closes():
    mesh = DETECTORS["cylindrical"].mesh
    showers = np.zeros((1, 8, 8, 5))
    showers[0, 2, [0, 7], 3] = 1.0  # first and last sector are neighbours
    got = obs.two_point(showers, mesh)
    np.testing.assert_allclose(got["phi"][0], [0.5, 0, 0, 0])
    even = obs.two_point(np.ones((1, 8, 8, 5)), mesh)
    np.testing.assert_allclose(even["phi"], 1.0)
    np.testing.assert_allclose(even["r"][0], [0.8, 0.6, 0.4, 0.2])


def test_ragged_layers_are_looked_at_one_by_one():
    mesh = DETECTORS["ragged"].mesh
    showers = np.zeros((1, mesh.n_voxels))
    showers[0, [0, 1]] = 1.0  # neighbours in r of the first layer
    showers[0, [2, 5]] = 1.0  # neighbours in phi of the second, r fastest
    got = obs.two_point(showers, mesh)
    assert got["r"][0].tolist() == [0.25, 0]
    assert got["phi"][0].tolist() == [0.25, 0]


def test_negative_voxels_count_as_empty():
    showers = random_showers(DETECTORS["square"], 2)
    negative = np.where(showers == 0, -0.5, showers).astype(np.float32)
    for axis, value in obs.two_point(negative, DETECTORS["square"].mesh).items():
        np.testing.assert_allclose(value, obs.two_point(showers, DETECTORS["square"].mesh)[axis], rtol=1e-6)


def test_correlations_of_normal_numbers_have_the_error_of_fisher():
    rng = np.random.default_rng(3)
    n, repeats, rho = 400, 200, 0.6
    shared = rng.normal(size=(repeats, n, 1))
    columns = np.sqrt(rho) * shared + np.sqrt(1 - rho) * rng.normal(size=(repeats, n, 2))
    results = [obs.correlations(sample) for sample in columns]
    z = np.array([result.z[1, 0] for result in results])
    errors = np.array([result.uncertainty[1, 0] for result in results])
    assert z.mean() == pytest.approx(np.arctanh(rho), abs=0.015)
    assert errors.mean() == pytest.approx(1 / np.sqrt(n - 3), rel=0.05)
    assert z.std() == pytest.approx(errors.mean(), rel=0.15)


def test_errors_hold_for_numbers_that_are_far_from_normal():
    """A logarithmically flat energy spectrum drives both, so that 1/sqrt(n - 3) is not their error."""
    rng = np.random.default_rng(4)
    n, repeats = 400, 300
    energy = np.exp(rng.uniform(0, np.log(100), (repeats, n, 1)))
    columns = energy * (1 + 0.4 * rng.normal(size=(repeats, n, 2)))
    results = [obs.correlations(sample) for sample in columns]
    z = np.array([result.z[1, 0] for result in results])
    errors = np.array([result.uncertainty[1, 0] for result in results])
    assert z.std() == pytest.approx(errors.mean(), rel=0.12)
    assert abs(z.std() - 1 / np.sqrt(n - 3)) > 0.3 * z.std()


def test_correlations_agree_with_numpy_and_survive_constants_and_copies():
    rng = np.random.default_rng(5)
    columns = rng.normal(size=(100, 3))
    columns = np.column_stack([columns, np.full(100, 7.0), 2 * columns[:, 0] + 1])
    result = obs.correlations(columns)
    np.testing.assert_allclose(result.r[:3, :3], np.corrcoef(columns[:, :3].T))
    assert result.r[0, 4] == pytest.approx(1)
    assert result.r[3].tolist() == [0] * 5
    assert np.isfinite(result.z).all()
    assert np.isfinite(result.uncertainty).all()
    assert result.pulls(result).tolist() == np.zeros((5, 5)).tolist()
    with pytest.raises(ValueError, match="got 3 showers, expected at least 4"):
        obs.correlations(columns[:3])


def test_mean_difference_counts_each_pair_once():
    one, other = obs.correlations(np.eye(4)[:, :3]), obs.correlations(-np.eye(4)[:, :3])
    assert one.mean_difference(other) == pytest.approx(0)
    changed = obs.Correlations(one.r.copy(), one.z, one.uncertainty)
    changed.r[0, 1] = changed.r[1, 0] = one.r[0, 1] + 0.3
    assert one.mean_difference(changed) == pytest.approx(0.1)


def test_correlation_pulls_of_two_geant4_samples_are_standard_normal():
    batch, detector = read_shipped()
    names = [name for name in obs.CORRELATION_SET if name != "incident_energy"]
    values = obs.observe(batch, detector, threshold=0.2)
    columns = np.column_stack([batch.incident_energy, *(values[name] for name in names)])
    pulls = obs.correlations(columns[:200]).pulls(obs.correlations(columns[200:]))
    pulls = pulls[np.tril_indices(len(pulls), -1)]
    assert 0.6 < np.sqrt(np.mean(pulls**2)) < 1.5
    assert np.abs(pulls).max() < 4.5

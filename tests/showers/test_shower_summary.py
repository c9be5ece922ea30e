"""The facts of a shower file."""

import json

import h5py
import numpy as np
import pytest
from small_showers import make_batch, make_detector, write

from caloforge.errors import DataError
from caloforge.showers import ShowerFile
from caloforge.showers.summary import (
    band_of,
    describe_showers,
    energy_bands,
    layer_energies,
    particle_name,
    scan_showers,
)


def test_facts_are_those_of_the_showers(tmp_path, any_detector):
    batch = make_batch(any_detector, 200)
    batch.showers[7] = 0
    batch.showers.flat[-3:] = -1.0
    path = write(tmp_path / "a.h5", any_detector, batch[:90], batch[90:])
    facts = describe_showers(path)
    assert json.loads(json.dumps(facts)) == facts
    flat = batch.showers.reshape(200, -1).astype(np.float64)
    response = flat.sum(axis=1) / batch.incident_energy
    assert facts["showers"] == 200
    assert facts["detector"] == any_detector.name
    assert facts["particles"] == {"e-": (batch.pdg_id == 11).sum(), "gamma": (batch.pdg_id == 22).sum()}
    assert facts["incident_energy_gev"]["max"] == pytest.approx(batch.incident_energy.max() / 1e3)
    assert facts["theta_deg"] == pytest.approx({"min": 90, "mean": 90, "max": 90})
    assert facts["response"]["mean"] == pytest.approx(response.mean())
    assert facts["response"]["rms"] == pytest.approx(response.std())
    assert facts["hits"]["mean"] == pytest.approx((flat > 0).sum(axis=1).mean())
    assert facts["empty_showers"] == 1
    assert facts["negative_cells"] == 3
    assert facts["largest_voxel_mev"] == pytest.approx(flat.max())
    assert facts["seconds_per_shower"] == pytest.approx(np.median(batch.seconds))
    assert facts["size_mb"] == path.stat().st_size / 1e6
    assert facts["provenance"] == {"engine": "test", "seed": 7}


def test_the_layer_profile_is_kept_by_energy(tmp_path, any_detector):
    batch = make_batch(any_detector, 300)
    scan = scan_showers(write(tmp_path / "a.h5", any_detector, batch))
    share = layer_energies(batch, any_detector) / batch.incident_energy[:, None]
    third = (scan.incident_energy.max() - scan.incident_energy.min()) / 3
    low = scan.incident_energy < scan.incident_energy.min() + third
    np.testing.assert_allclose(scan.layer_response[0], share[low].mean(axis=0))
    np.testing.assert_allclose(scan.visible_energy, batch.visible_energy(), rtol=1e-6)
    assert scan.layer_response.shape == (3, any_detector.n_layers)


def test_listed_energies_are_bands_of_their_own():
    energy = np.repeat([1e4, 5e4, 1e5], 5)
    edges = energy_bands(energy, 3)
    np.testing.assert_array_equal(band_of(energy, edges), np.repeat([0, 1, 2], 5))
    np.testing.assert_array_equal(band_of(np.full(4, 7.0), energy_bands(np.full(4, 7.0), 3)), 0)


@pytest.mark.parametrize("spectrum", ["flat", "log-flat"])
def test_bands_hold_every_energy(spectrum):
    u = np.random.default_rng(1).random(1000)
    energy = 10 + 990 * u if spectrum == "flat" else 10 * 1000**u
    edges = energy_bands(energy, 3)
    assert (np.diff(edges) > 0).all()
    assert edges[0] == energy.min()
    assert edges[-1] == energy.max()
    assert np.bincount(band_of(energy, edges), minlength=3).min() > 250


@pytest.mark.parametrize(
    ("code", "name"),
    [(11, "e-"), (-11, "e+"), (22, "gamma"), (111, "pi0"), (13, "mu-"), (0, "0"), (-999999, "-999999")],
)
def test_names_of_particles(code, name):
    assert particle_name(code) == name


def test_a_bad_shower_is_named(tmp_path):
    path = write(tmp_path / "a.h5", make_detector(), make_batch(make_detector(), 20))
    with h5py.File(path, "r+") as file:
        file["showers"][13, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="shower 13 holds NaN"):
        describe_showers(path)


def test_the_truth_sample(truth):
    # the numbers of its README: 4500 showers, response 2.19 %, about 2400 hits
    with ShowerFile(truth) as file:
        assert file.detector.radiation_lengths == pytest.approx(22.7, abs=0.1)
    facts = describe_showers(truth)
    assert facts["showers"] == 4500
    assert facts["response"]["mean"] == pytest.approx(0.0219, abs=0.0001)
    assert facts["hits"]["mean"] == pytest.approx(2400, rel=0.01)
    assert facts["particles"] == {"e-": 4500}
    assert facts["negative_cells"] == facts["empty_showers"] == 0


@pytest.mark.parametrize(
    ("sample", "n", "particle", "response"),
    [
        ("electrons", 400, "e-", 0.0219),
        ("photons", 100, "gamma", 0.0211),
    ],
)
def test_the_shipped_samples(request, sample, n, particle, response):
    path = request.getfixturevalue(sample)
    facts = describe_showers(path)
    assert facts["showers"] == n
    assert facts["particles"] == {particle: n}
    assert facts["response"]["mean"] == pytest.approx(response, rel=0.02)
    assert facts["negative_cells"] == facts["empty_showers"] == 0
    assert facts["provenance"]["engine"].startswith("Geant4 11.")
    # a clone is not made heavy by them
    assert path.stat().st_size < 5e6

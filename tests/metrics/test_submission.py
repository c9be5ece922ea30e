"""The row of a CaloChallenge submission from shower files."""

import math

import numpy as np
import pytest

from caloforge.errors import DataError
from caloforge.geometry import load_detector
from caloforge.metrics import calochallenge as cc
from caloforge.metrics import neural_networks
from caloforge.metrics.fpd import frechet_physics_distance
from caloforge.metrics.neural_networks import Perceptron
from caloforge.metrics.submission import _Sample, submission
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters.binning import dataset_detector


def toy_showers(detector, n, seed, sharpness=1.0):
    """Showers of about the incident energy whose voxels are gamma distributed around a smooth profile."""
    rng = np.random.default_rng(seed)
    shape = detector.shower_shape
    profile = np.exp(-np.linspace(0, 3, math.prod(shape)).reshape(shape) * sharpness)
    profile /= profile.sum()
    energy = np.exp(rng.uniform(np.log(1e3), np.log(1e6), n)).astype(np.float32)
    scale = energy * rng.normal(1, 0.03, n)
    showers = rng.gamma(0.3, size=(n, *shape)) / 0.3 * profile * scale.reshape(-1, *[1] * len(shape))
    return ShowerBatch(
        showers=showers.astype(np.float32),
        incident_energy=energy,
        incident_theta=np.full(n, np.pi / 2),
        incident_phi=np.zeros(n),
        pdg_id=np.full(n, 11),
    )


def write(path, detector, batch, meaning="sampling-fraction corrected"):
    with ShowerWriter(path, detector, {}, energy_meaning=meaning) as writer:
        writer.append(batch)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submission")
    detector, _ = dataset_detector("1-pions")
    batches = [toy_showers(detector, 300, seed, sharpness) for seed, sharpness in ((1, 1), (2, 1), (3, 1.8))]
    return [write(folder / f"{i}.h5", detector, batch) for i, batch in enumerate(batches)]


def test_row_has_what_is_published_and_sees_the_difference(files, monkeypatch):
    monkeypatch.setattr(neural_networks, "Perceptron", lambda width: Perceptron(width, hidden=16))
    same = submission(files[0], files[1])
    other = submission(files[0], files[2], networks=("high",))
    assert same.dataset == "1-pions"
    row = other.row("ours")
    # times, parameters, networks that were not asked for, and what needs the showers of all others
    missing = set(cc.published("1-pions")[1]) - set(row)
    assert missing <= {
        "auc_low", "auc_low_error", "log_posterior", "parameters",
        "cpu_ms_b1", "cpu_ms_b100", "gpu_ms_b1", "gpu_ms_b100", "gpu_ms_b10000",
    }  # fmt: skip
    assert row["name"] == "ours"
    for name in ("fpd_1e3", "separation_layer_energy"):
        assert other.metrics[name].value > 2 * same.metrics[name].value
        assert 0.3 < same.metrics[name].value / same.metrics[name].floor < 3
    assert 0 <= row["auc_high"] <= 1


def test_numbers_are_those_of_the_voxels_above_threshold(files):
    got = submission(files[0], files[2], seed=5)
    vectors, spectra = [], []
    with ShowerFile(files[0]) as first, ShowerFile(files[2]) as second:
        for file in (first, second):
            batch = file.read()
            showers = np.where(batch.showers < 1.0, 0, batch.showers)
            vectors.append(
                cc.feature_vector(cc.layer_features(showers, file.detector.mesh), batch.incident_energy)
            )
            spectra.append(showers)
    fpd = frechet_physics_distance(*vectors, seed=5, min_samples=10_000)
    assert got.metrics["fpd_1e3"].value == pytest.approx(1e3 * fpd.value)
    edges = np.logspace(0, np.log10(spectra[0].max()), 50)
    h, g = (
        np.histogram(s.ravel().astype(np.float64), edges, density=True)[0] * np.diff(edges) for s in spectra
    )
    want = 0.5 * np.sum((h - g) ** 2 / (h + g + 1e-16))
    assert got.metrics["separation_cell_energy"].value == pytest.approx(want, rel=1e-3)


def test_visible_energy_of_par04_is_corrected(tmp_path):
    detector, _ = dataset_detector("2")
    batch = toy_showers(detector, 40, 1)
    paths = [write(tmp_path / "corrected.h5", detector, batch)]
    batch.showers *= np.float32(0.033)
    paths.append(write(tmp_path / "visible.h5", detector, batch, "visible"))
    samples = []
    for path in paths:
        with ShowerFile(path) as file:
            samples.append(_Sample(file, "2", 1e5, 0))
    np.testing.assert_allclose(samples[0].vector, samples[1].vector, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(samples[0].cells.sum(0) > 0, samples[1].cells.sum(0) > 0)


def test_other_meshes_are_refused(tmp_path, files):
    detector = load_detector("clic-ecal-25")
    path = write(tmp_path / "clic.h5", detector, toy_showers(detector, 3, 1), "visible")
    with pytest.raises(DataError, match="none of the CaloChallenge"):
        submission(path, path)
    with pytest.raises(DataError, match="not that of"):
        submission(files[0], path)
    with pytest.raises(DataError, match="no image"):
        submission(files[0], files[1], networks=("cnn",))

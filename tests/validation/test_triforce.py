"""TriForce on showers of known particle, energy and angle: it learns, and it notices planted defects."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from caloforge.errors import DataError
from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters.binning import dataset_detector
from caloforge.validation.triforce import TriforceConfig, triforce
from caloforge.validation.triforce_result import Applied, compare

SMALL = load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9"))
FAST = TriforceConfig(epochs=4, batch=32, learning_rate=4e-3)
DEPTH = {11: 9.0, 22: 10.5}  # photons start later


def toy(n, seed, *, particles=(11, 22), energy=None, angles=True, scale=1.0, tilt=0.0, smear=0.05):
    """Gaussian blobs: depth by particle, transverse shift with depth by angle, 2 % of the energy visible."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1e4, 1e5, n) if energy is None else np.full(n, energy)
    theta = rng.uniform(1.2, 1.9, n) if angles else np.full(n, np.pi / 2)
    pdg = rng.choice(particles, n)
    z, y, x = np.indices((25, 9, 9))
    centre = np.array([DEPTH[p] for p in pdg]) + rng.normal(0, 0.7, n)
    lean = np.cos(theta + tilt)[:, None, None, None] * (z - 10) * 0.5
    shape = np.exp(-((z - centre[:, None, None, None]) ** 2) / 20 - ((x - 4) ** 2 + (y - 4 - lean) ** 2) / 2)
    shape /= shape.sum(axis=(1, 2, 3), keepdims=True)
    visible = 0.02 * scale * energy * rng.normal(1, smear, n)
    showers = shape * rng.gamma(20, 1 / 20, shape.shape) * visible[:, None, None, None]
    showers[showers < 1e-3] = 0
    return ShowerBatch(showers, energy, theta, np.zeros(n), pdg)


def write(folder, name, batch, detector=SMALL, meaning="visible"):
    path = folder / f"{name}.h5"
    with ShowerWriter(path, detector, {}, energy_meaning=meaning) as writer:
        writer.append(batch)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("triforce")


@pytest.fixture(scope="module")
def samples(folder):
    return {
        "train": write(folder, "train", toy(800, 1)),
        "test": write(folder, "test", toy(500, 2)),
        "same": write(folder, "same", toy(500, 3)),
    }


@pytest.fixture(scope="module")
def null(samples):
    return triforce(samples["train"], samples["test"], samples["same"], config=FAST)


def test_it_learns_particle_energy_and_angle(null):
    # depth 9.0 against 10.5 with a spread of 0.7 in one number: the best cut is right this often
    assert null.truth.accuracy == pytest.approx(stats.norm.cdf(0.75 / 0.7), abs=0.06)
    assert null.classes == (11, 22)
    np.testing.assert_allclose(null.truth.confusion.sum(axis=1), 1)
    # the visible energy is smeared by 5 %
    assert np.std(null.truth.residual) == pytest.approx(0.05, abs=0.01)
    assert abs(np.mean(null.truth.residual)) < 0.01
    assert np.std(null.truth.angle_residual) < 0.1  # the spread of the angles themselves is 0.2
    assert null.truth.roc[11].auc == pytest.approx(null.truth.roc[22].auc, abs=1e-6)
    assert null.truth.roc[22].auc > 0.85


def test_equal_samples_agree(null):
    assert set(null.metrics) == {
        "accuracy", "score", "energy_bias", "energy_resolution", "angle_bias", "angle_resolution",
    }  # fmt: skip
    for name, metric in null.metrics.items():
        # floors are mean absolute values: 0.8 sigma; the distance of distributions is its own floor
        assert abs(metric.value) < 4.5 * metric.floor, name
        assert 0 < metric.uncertainty < 0.3, name


def test_it_notices_planted_defects(folder, samples, monkeypatch):
    monkeypatch.setitem(DEPTH, 11, 9.6)  # electrons that look like photons
    planted = write(folder, "planted", toy(500, 3, scale=1.03, smear=0.08, tilt=0.06))
    got = triforce(samples["train"], samples["test"], planted, config=FAST)
    sizes = {"energy_bias": 0.03, "energy_resolution": 0.6, "angle_bias": 0.06}
    for name, size in sizes.items():
        metric = got.metrics[name]
        assert metric.value == pytest.approx(size, rel=0.5), name
        assert abs(metric.value) > 4 * max(metric.floor, metric.uncertainty), name
    assert got.metrics["accuracy"].value < -0.05
    assert got.metrics["score"].value > 3 * got.metrics["score"].floor
    assert got.generated.roc[11].auc < got.truth.roc[11].auc - 3 * got.truth.roc[11].auc_error


def test_several_files_and_a_single_particle_at_one_energy_and_angle(folder):
    fixed = {"particles": (11,), "energy": 2e4, "angles": False}
    train = [write(folder, f"fixed-{i}", toy(150, 10 + i, **fixed)) for i in range(2)]
    test, same = (write(folder, f"fixed-{i}", toy(100, i, **fixed)) for i in (20, 21))
    got = triforce(train, test, [same], config=FAST)
    assert set(got.metrics) == {"energy_bias", "energy_resolution"}
    assert got.truth.accuracy is None
    assert got.truth.roc == {}
    assert len(got.truth.bias_curve.value) == 1


def test_cylindrical_mesh(folder):
    detector, _ = dataset_detector("2")
    rng = np.random.default_rng(1)

    def batch(n, scale):
        energy = rng.uniform(1e3, 1e4, n)
        shape = rng.gamma(0.5, size=(n, *detector.shower_shape))
        showers = shape * energy[:, None, None, None] * scale / 3240
        return ShowerBatch(showers, energy, np.full(n, np.pi / 2), np.zeros(n), np.full(n, 11))

    sizes = ((120, 1), (80, 1), (80, 1.1))
    paths = [write(folder, f"cylinder-{i}", batch(*size), detector) for i, size in enumerate(sizes)]
    got = triforce(*paths, config=TriforceConfig(epochs=2, batch=32)).metrics["energy_bias"]
    assert got.value == pytest.approx(0.1, abs=0.03)


def test_seed_fixes_all_and_progress_is_told(samples):
    state = torch.get_rng_state()
    calls = []
    config = TriforceConfig(epochs=2, batch=64, max_showers=200)
    paths = samples["train"], samples["test"], samples["same"]
    first = triforce(*paths, seed=4, config=config, progress=lambda *step: calls.append(step))
    again, other = (triforce(*paths, seed=seed, config=config) for seed in (4, 5))
    assert first.metrics == again.metrics
    assert first.metrics != other.metrics
    assert first.truth.showers == 200
    assert torch.equal(state, torch.get_rng_state())
    assert calls[-1] == (6, 6)  # 200 showers in three steps


def test_json_is_complete_and_small(null):
    document = json.loads(json.dumps(null.to_json(), allow_nan=False))
    assert document["metrics"]["accuracy"]["value"] == null.metrics["accuracy"].value
    assert document["truth"]["roc"]["11"]["auc"] == null.truth.roc[11].auc
    assert len(document["generated"]["bias_curve"]["value"]) == 8
    assert "residual" not in document["truth"]
    assert len(json.dumps(document)) < 100_000


def test_curves_and_areas_of_known_answers():
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, 4000)
    score = np.clip(rng.normal(0.4 + 0.2 * label, 0.15), 0, 1)
    energy = rng.uniform(1e4, 1e5, 4000)
    found = energy * rng.normal(1.02, 10 / np.sqrt(energy))
    applied = Applied(energy, np.ones(4000), label, np.column_stack([1 - score, score]), found, None)
    got = compare(applied, applied, classes=(11, 22), seed=0)
    roc = got.truth.roc[22]
    assert roc.auc == pytest.approx(roc_auc_score(label, score))
    assert roc.auc_error == pytest.approx(0.5 * np.sqrt(roc.auc * (1 - roc.auc) / 1000), rel=0.5)
    assert np.trapezoid(roc.signal[::-1], roc.background[::-1]) == pytest.approx(roc.auc, abs=2e-3)
    assert got.truth.accuracy == pytest.approx(np.mean((score > 0.5) == label))
    curve = got.truth.resolution_curve
    middle = (curve.low + curve.high) / 2
    np.testing.assert_allclose(curve.value, 10 / np.sqrt(middle), rtol=0.12)
    assert np.all(abs(got.truth.bias_curve.value - 0.02) < 4 * got.truth.bias_curve.error)
    assert all(metric.value == 0 for metric in got.metrics.values())


def test_a_generator_of_one_particle_has_a_curve_against_the_full_simulation():
    rng = np.random.default_rng(7)
    label = rng.integers(0, 2, 800)
    score = np.clip(rng.normal(0.4 + 0.2 * label, 0.15), 0, 1)
    ones = np.ones(800)
    truth = Applied(ones * 1e4, ones, label, np.column_stack([1 - score, score]), ones * 1e4, None)
    part = label == 1
    alone = Applied(
        *(a[part] for a in (truth.energy, truth.theta, label, truth.scores, truth.found_energy)), None
    )
    got = compare(truth, alone, classes=(11, 22), seed=0)
    assert set(got.generated.roc) == {22}
    assert got.generated.roc[22].auc == pytest.approx(got.truth.roc[22].auc)
    assert compare(alone, alone, classes=(11, 22), seed=0).truth.roc == {}


def test_refusals(folder, samples):
    flat, _ = dataset_detector("1-pions")
    batch = ShowerBatch(np.ones((3, 533)), np.full(3, 1e3), np.ones(3), np.ones(3), np.full(3, 211))
    ragged = write(folder, "ragged", batch, flat)
    with pytest.raises(DataError, match="needs images"):
        triforce(ragged, ragged, ragged)
    wide = load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9", "mesh.cell_x=6 mm"))
    other = write(folder, "other-cells", toy(30, 1), wide)
    with pytest.raises(DataError, match="another detector"):
        triforce(samples["train"], samples["test"], other)
    with pytest.raises(DataError, match="another detector or energy meaning"):
        triforce([samples["train"], other], samples["test"], samples["same"])
    corrected = write(folder, "corrected", toy(30, 1), SMALL, "sampling-fraction corrected")
    with pytest.raises(DataError, match="energy meaning"):
        triforce(samples["train"], samples["test"], corrected)
    batch = toy(30, 1)
    batch.pdg_id[:] = 13
    with pytest.raises(DataError, match=r"\[13\]"):
        triforce(samples["train"], samples["test"], write(folder, "muons", batch))


@pytest.mark.slow
def test_geant4_electrons(tmp_path, truth):
    with ShowerFile(truth) as file:
        ranges = ((0, 1500), (1500, 2000), (2000, 2500))
        batches = [file.read(*part) for part in ranges]
        planted = file.read(2000, 2500)
        planted.showers *= np.float32(1.02)
        paths = [write(tmp_path, f"part-{i}", b, file.detector) for i, b in enumerate([*batches, planted])]
    config = TriforceConfig(epochs=5)
    same = triforce(*paths[:3], config=config)
    assert abs(same.metrics["energy_bias"].value) < 4 * same.metrics["energy_bias"].uncertainty
    # the stochastic term falls with energy; above 250 GeV some percent are left
    resolution = same.truth.resolution_curve.value
    assert resolution[0] > 1.5 * resolution[-4:].mean()
    assert 0.005 < resolution[-4:].mean() < 0.025
    noticed = triforce(paths[0], paths[1], paths[3], config=config).metrics["energy_bias"]
    assert noticed.value == pytest.approx(0.02, abs=5 * noticed.uncertainty)
    assert noticed.value > 8 * noticed.uncertainty

"""Generation: reproducible whatever the batch size, streamed, and inside what the model was trained on."""

import os
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import caloforge
from caloforge.config import build
from caloforge.errors import ConfigError, DataError, ModelError, OutputError
from caloforge.generation.noise import NoiseStream
from caloforge.geometry import load_detector
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.gan3d.model import Gan3d
from caloforge.models.registry import build_model
from caloforge.models.store import save_model
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter

MESH = ("mesh.nx=7", "mesh.ny=7")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    ranges = TrainedRange(energy=(1e4, 1e5), theta=(1.5, 1.6), phi=(0.0, 0.0), pdg_ids=(11,))
    config = build(Gan3dConfig, {"preset": "debug", "generator": {"latent": 5}}, "model")
    detector = load_detector("clic-ecal-25", MESH)
    network = build_model(config, detector, DataFacts(ranges=ranges, response_fit=(0.02,)), seed=2)
    return save_model(network, tmp_path_factory.mktemp("model") / "model", dict(network.state_dict()))


def truth_file(path, count=40, detector=None, pdg=11, top=1e5):
    detector = detector or load_detector("clic-ecal-25", MESH)
    rng = np.random.default_rng(0)
    with ShowerWriter(path, detector, {}) as writer:
        writer.append(
            ShowerBatch(
                rng.random((count, *detector.shower_shape)),
                rng.uniform(1e4, top, count),
                rng.uniform(1.5, 1.6, count),
                np.zeros(count),
                np.full(count, pdg),
            )
        )
    return path


def read(path):
    with ShowerFile(path) as file:
        return file.read()


def test_like_takes_every_condition_in_order(model, tmp_path):
    truth = truth_file(tmp_path / "truth.h5")
    outcome = caloforge.generate(model, out=tmp_path / "g.h5", like=truth, progress=False)
    want, got = read(truth), read(tmp_path / "g.h5")
    assert outcome["n"] == 40
    for name in ("incident_energy", "incident_theta", "incident_phi", "pdg_id"):
        assert np.array_equal(getattr(want, name), getattr(got, name)), name
    assert got.showers.sum() > 0
    assert got.seconds.min() > 0
    with ShowerFile(tmp_path / "g.h5") as file:
        provenance = file.provenance
    assert provenance["seed"] == 0
    assert len(provenance["model_digest"]) == len(provenance["like"]["sha256"]) == 64


def test_the_time_of_a_shower_is_without_what_is_done_once(model, monkeypatch, tmp_path):
    def lend(self, start, stop):
        # as if the noise were compiled here
        time.sleep(0 if hasattr(self, "begun") else 2)
        self.begun = True
        return lent(self, start, stop)

    lent = NoiseStream.lend
    monkeypatch.setattr(NoiseStream, "lend", lend)
    caloforge.generate(model, out=tmp_path / "g.h5", n=4, energy="50 GeV", threads=1, progress=False)
    assert read(tmp_path / "g.h5").seconds.sum() < 1.5


@pytest.fixture
def off_axis(tmp_path, monkeypatch):
    """A model that takes impact points: it adds them to the first two cells."""

    def generate(self, condition, noise):
        showers = centred(self, condition, noise)
        showers[:, 0, 0, 0] += 10 + condition.impact_x
        showers[:, 0, 0, 1] += 10 + condition.impact_y
        return showers

    centred = Gan3d.generate
    monkeypatch.setattr(Gan3d, "takes_impact", True)
    monkeypatch.setattr(Gan3d, "generate", generate)
    detector = load_detector("clic-ecal-25", MESH)
    ranges = TrainedRange(
        energy=(1e4, 1e5),
        theta=(1.5, 1.6),
        phi=(0.0, 0.0),
        impact_x=(-2.5, 2.5),
        impact_y=(-2.5, 2.5),
        pdg_ids=(11,),
    )
    config = build(Gan3dConfig, {"preset": "debug", "generator": {"latent": 5}}, "model")
    network = build_model(config, detector, DataFacts(ranges=ranges, response_fit=(0.02,)), seed=2)
    return save_model(network, tmp_path / "off-axis", dict(network.state_dict()))


def test_impact_points_are_drawn_or_those_of_the_file(off_axis, model, tmp_path):
    showers = caloforge.generate(off_axis, n=300, progress=False, backend="torch")
    assert -2.5 <= showers.impact_x.min() < -2.3 and 2.3 < showers.impact_y.max() <= 2.5
    assert np.allclose(showers.showers[:, 0, 0, 0] - 10, showers.impact_x, atol=2.5)
    assert np.corrcoef(showers.showers[:, 0, 0, 1], showers.impact_y)[0, 1] > 0.9
    centred = caloforge.generate(off_axis, n=20, impact="centre", progress=False, backend="torch")
    assert not centred.impact_x.any()
    caloforge.generate(off_axis, out=tmp_path / "a.h5", n=20, progress=False, backend="torch")
    caloforge.generate(
        off_axis, out=tmp_path / "b.h5", like=tmp_path / "a.h5", seed=3, progress=False, backend="torch"
    )
    assert np.array_equal(read(tmp_path / "a.h5").impact_x, read(tmp_path / "b.h5").impact_x)
    # a model of showers on the axis
    for asked in ({"n": 3, "impact": "cell"}, {"like": tmp_path / "a.h5"}):
        with pytest.raises(ConfigError, match=r"impact_x: got -.* mm, the model was trained on 0 m"):
            caloforge.generate(model, progress=False, **asked)
    with pytest.raises(ConfigError, match="--impact has no meaning with --like"):
        caloforge.generate(model, like=tmp_path / "a.h5", impact="cell", progress=False)


def test_a_model_that_ignores_impact_points_is_not_built_for_them(off_axis, monkeypatch):
    monkeypatch.setattr(Gan3d, "takes_impact", False)
    with pytest.raises(ModelError, match=r"model.json: .* up to 2\.5 mm beside the axis"):
        caloforge.generate(off_axis, n=3, progress=False, backend="torch")


def test_the_graph_takes_impact_points(off_axis):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    by_graph = caloforge.generate(off_axis, n=20, progress=False, backend="onnx")
    by_torch = caloforge.generate(off_axis, n=20, progress=False, backend="torch")
    assert np.allclose(by_graph.showers, by_torch.showers, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_the_batch_size_changes_nothing(model, tmp_path, batch_size):
    for name, size in (("a", 64), ("b", batch_size)):
        caloforge.generate(
            model, out=tmp_path / name, n=300, seed=9, batch_size=size, theta="90 deg", progress=False
        )
    one, other = read(tmp_path / "a"), read(tmp_path / "b")
    assert np.array_equal(one.incident_energy, other.incident_energy)
    assert np.allclose(one.showers, other.showers, rtol=1e-4, atol=1e-4)


def test_the_seed_changes_showers_and_conditions(model, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        caloforge.generate(model, out=tmp_path / name, n=20, seed=seed, progress=False)
    a, b, c = (read(tmp_path / name) for name in "abc")
    assert np.array_equal(a.showers, b.showers)
    assert not np.array_equal(a.showers, c.showers)
    assert not np.array_equal(a.incident_energy, c.incident_energy)


def test_more_showers_of_a_seed_begin_with_the_same(model, tmp_path):
    caloforge.generate(model, out=tmp_path / "few", n=30, seed=5, progress=False)
    caloforge.generate(model, out=tmp_path / "many", n=90, seed=5, progress=False)
    assert np.allclose(read(tmp_path / "few").showers, read(tmp_path / "many").showers[:30], atol=1e-4)


def test_an_energy_range_and_an_angle_range(model, tmp_path):
    caloforge.generate(
        model, out=tmp_path / "g", n=200, energy="20 GeV:40 GeV", theta="87 deg:91 deg", progress=False
    )
    got = read(tmp_path / "g")
    assert 2e4 <= got.incident_energy.min() < 2.1e4
    assert 3.9e4 < got.incident_energy.max() <= 4e4
    assert got.incident_theta.min() < np.deg2rad(87.2)
    assert got.incident_theta.max() > np.deg2rad(90.8)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "--like"),
        ({"n": 0}, ConfigError, "at least 1"),
        ({"n": 3, "energy": "200 GeV"}, ConfigError, "10 GeV to 100 GeV"),
        ({"n": 3, "energy": "200"}, ConfigError, "without a unit"),
        ({"n": 3, "energy": "0 GeV"}, ConfigError, "energy"),
        ({"n": 3, "energy": "-5 GeV"}, ConfigError, "energy"),
        ({"n": 3, "theta": "60 deg"}, ConfigError, "extrapolate"),
        ({"n": 3, "particle": "gamma"}, ConfigError, "particle 22"),
        ({"n": 3, "particle": "elektron"}, ConfigError, "e-"),
        ({"n": 3, "batch_size": 0}, ConfigError, "batch size"),
    ],
)
def test_wrong_wishes(model, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        caloforge.generate(model, out=tmp_path / "g.h5", progress=False, **options)
    assert not list(tmp_path.iterdir())


def test_extrapolation_when_it_is_asked_for(model, tmp_path):
    caloforge.generate(model, out=tmp_path / "g", n=3, energy="200 GeV", extrapolate=True, progress=False)
    assert read(tmp_path / "g").incident_energy.tolist() == [2e5] * 3


def test_a_truth_of_another_detector(model, tmp_path):
    truth = truth_file(tmp_path / "t.h5", detector=load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9")))
    with pytest.raises(DataError, match=r"\(25, 9, 9\).*\(25, 7, 7\)"):
        caloforge.generate(model, out=tmp_path / "g.h5", like=truth, progress=False)


def test_a_truth_outside_the_trained_range(model, tmp_path):
    with pytest.raises(ConfigError, match="energy"):
        caloforge.generate(
            model, out=tmp_path / "g.h5", like=truth_file(tmp_path / "t.h5", top=9e5), progress=False
        )


def test_outputs_and_models_that_cannot_be_used(model, tmp_path):
    existing = tmp_path / "g.h5"
    existing.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        caloforge.generate(model, out=existing, n=2, progress=False)
    assert existing.read_text() == "mine"
    caloforge.generate(model, out=existing, n=2, force=True, progress=False)
    with pytest.raises(ModelError, match="no such directory"):
        caloforge.generate(tmp_path / "nothing", out=tmp_path / "x.h5", n=2, progress=False)


def test_a_failure_half_way_leaves_nothing(model, tmp_path, monkeypatch):
    calls = []
    append = ShowerWriter.append

    def fail(self, batch):
        calls.append(len(batch))
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        append(self, batch)

    monkeypatch.setattr(ShowerWriter, "append", fail)
    with pytest.raises(OSError, match="No space"):
        caloforge.generate(model, out=tmp_path / "g.h5", n=100, batch_size=20, progress=False)
    assert not list(tmp_path.iterdir())


MEMORY = """
import resource, sys
import caloforge
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
caloforge.generate(sys.argv[1], out=sys.argv[2] + "-few", n=1000, threads=1, progress=False)
few = peak()
caloforge.generate(sys.argv[1], out=sys.argv[2] + "-many", n=6000, threads=1, progress=False)
print(few, peak())
"""


def test_memory_does_not_grow_with_the_number_of_showers(model, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(model), str(tmp_path / "g")],
        capture_output=True,
        text=True,
        timeout=200,
        stdin=subprocess.DEVNULL,
        check=True,
        # freed blocks go back at once: what is measured is what is in use, not how malloc keeps its holes
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
    )
    few, many = map(float, done.stdout.split())
    # 5 000 more showers of 7x7x25 are 24 MB
    assert many - few < 6
    with h5py.File(tmp_path / "g-many") as file:
        assert file["showers"].shape == (6000, 25, 7, 7)

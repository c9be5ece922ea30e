"""`simulate --fast`: one file whatever the workers and interruptions, its summary, and what it refuses."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest

import caloforge
from caloforge import cli
from caloforge.errors import ConfigError, Interrupted, ModelError
from caloforge.showers import ShowerFile

pytestmark = pytest.mark.geant4
N = 40
# a beam of which the model takes a part only
RUN = """
name: mixed
detector: clic-ecal-25
beam: {energy: {kind: flat, min: 1 GeV, max: 30 GeV}, theta: {kind: flat, min: 88.5 deg, max: 90 deg}}
fullsim: {production_cut: 5 mm}
model: {family: frozen}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.yaml"
    path.write_text(RUN)
    return str(path)


def simulate(run, out, **options):
    given = {"n": N, "seed": 7, "fast": "clic-electron", "progress": False} | options
    return caloforge.simulate(run, out=out, **given)


def read(path):
    with ShowerFile(path) as file:
        return file.read(), file.provenance


@pytest.fixture(scope="module")
def reference(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "fast.h5"
    outcome = simulate(run, out)
    return read(out)[0], outcome


def test_summary(reference):
    showers, outcome = reference
    particles, energy = (outcome["fast_simulation"][key] for key in ("particles", "energy"))
    assert sum(particles.values()) == N
    # the beam crosses the axis of the mesh
    assert outcome["fast_simulation"]["off_centre"] == 0
    assert all(particles[route] > 0 for route in ("taken", "energy", "direction"))
    assert particles["kind"] == particles["tracked"] == particles["left"] == 0
    total = showers.incident_energy.sum(dtype=np.float64)
    assert energy["primary"] == pytest.approx(total, rel=1e-6)
    assert sum(energy[route] for route in particles) == pytest.approx(total, rel=1e-6)
    for words in (
        f"simulated by the model: {particles['taken']} particles",
        f"direction outside of the acceptance: {particles['direction']} particles",
        "time of all workers: geant4",
    ):
        assert words in outcome.text
    # mixed or not, every shower has the response of the calorimeter
    response = showers.visible_energy() / showers.incident_energy
    assert response.min() > 0.012
    assert response.max() < 0.035


def test_same_showers_with_two_workers(run, reference, tmp_path):
    outcome = simulate(run, tmp_path / "fast.h5", workers=2)
    assert outcome["fast_simulation"]["particles"] == reference[1]["fast_simulation"]["particles"]
    # batches differ, which changes the last bits of a generated shower
    np.testing.assert_allclose(read(tmp_path / "fast.h5")[0].showers, reference[0].showers, rtol=1e-5)


@pytest.mark.slow
def test_interrupted_and_resumed(run, reference, tmp_path, monkeypatch):
    from caloforge.campaign import pool

    finished = pool.Queue.finished

    def interrupt(queue, *arguments):
        finished(queue, *arguments)
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pool.Queue, "finished", interrupt)
    out = tmp_path / "fast.h5"
    with pytest.raises(Interrupted, match=rf"stopped; \d+ of {N} showers"):
        simulate(run, out)
    with pytest.raises(ConfigError, match=r"interrupted campaign with other settings.*fast"):
        simulate(run, out, resume=True, threshold="20 GeV")
    simulate(run, out, resume=True)
    batch, provenance = read(out)
    np.testing.assert_allclose(batch.showers, reference[0].showers, rtol=1e-5)
    assert sum(provenance["fast_simulation"]["particles"].values()) == N
    assert [path.name for path in tmp_path.iterdir()] == ["fast.h5"]
    # and what is finished is left alone
    assert "nothing is left to simulate" in simulate(run, out, resume=True).text


def test_a_fast_simulation_is_not_resumed_in_full(run, tmp_path):
    out = tmp_path / "fast.h5"
    simulate(run, out, n=1)
    with pytest.raises(caloforge.CaloforgeError, match=r"other settings .*fast"):
        simulate(run, out, n=1, fast=None, resume=True)


def test_like_full_simulation(tmp_path, truth):
    """Mean response, hits and layers of 1500 showers against an independent Geant4 application."""
    out = tmp_path / "fast.h5"
    simulate("clic-electron", out, n=1500)
    fast = read(out)[0]
    with ShowerFile(truth) as file:
        full = file.read(0, 1500)
    ones, twos = (
        [b.visible_energy() / b.incident_energy, (b.showers > 0).sum(axis=(1, 2, 3))] for b in (fast, full)
    )
    for one, two in zip(ones, twos, strict=True):
        error = np.hypot(one.std() / one.mean(), two.std() / two.mean()) / 1500**0.5
        assert one.mean() / two.mean() == pytest.approx(1, abs=float(max(4 * error, 0.004)))
    layers = [(b.showers.sum(axis=(2, 3)) / b.incident_energy[:, None]).mean(axis=0) for b in (fast, full)]
    np.testing.assert_allclose(layers[0], layers[1], atol=0.03 * layers[1].max())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--fast", "clic-elektron"], 1, "Did you mean 'clic-electron'"),
        (["--fast", "clic-electron", "--set", "detector=par04-siw"], 2, "its mesh is cylindrical"),
        (["--fast", "clic-electron", "--set", "detector.mesh.cell_x=4 mm"], 2, r"mesh.cell_x .5 and 4."),
        (["--fast", "clic-electron", "--threshold", "3"], 2, "--fast › threshold: got '3' without a unit"),
        (["--fast", "clic-electron", "--threshold", "1 TeV"], 2, "so that it would take no particle"),
        (["--fast", "clic-electron", "--acceptance", "40 deg"], 2, "expected 0 deg to 20 deg"),
        (["--threshold", "3 GeV"], 2, "give --fast MODEL"),
    ],
)
def test_what_is_refused(run, tmp_path, capsys, arguments, code, words):
    out = tmp_path / "fast.h5"
    assert cli.main(["simulate", run, "-n", "2", "-o", str(out), "--json", *arguments]) == code
    report = json.loads(capsys.readouterr().out)
    assert re.search(words, report["message"])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_refused_before_any_worker_starts(run, tmp_path, photon_model):
    shutil.copytree(photon_model, tmp_path / "model")
    [weights] = (tmp_path / "model/model").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match="take another copy"):
        simulate(run, tmp_path / "fast.h5", fast=str(tmp_path / "model"))
    assert not (tmp_path / "fast.h5.parts").exists()

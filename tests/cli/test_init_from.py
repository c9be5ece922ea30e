"""`caloforge init --from FILE`: a run for the showers of a file that trains on them."""

import h5py
import numpy as np
import pytest
import yaml

import caloforge
from caloforge.cli import main
from caloforge.commands.check import _data as check_data
from caloforge.errors import ConfigError, DataError
from caloforge.fullsim.beam_placement import check_physics
from caloforge.geometry import load_detector
from caloforge.models.registry import families_for
from caloforge.run import load_run
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters.binning import dataset_detector

RIGHT = np.pi / 2
SMALL = ("mesh.nx=5", "mesh.ny=5", "name=mine")


def stored(path, detector, n=60, provenance=None, *, meaning="visible", **changes):
    rng = np.random.default_rng(1)
    voxels = int(np.prod(detector.shower_shape))
    columns = {
        "showers": rng.exponential(1, (n, *detector.shower_shape)),
        "incident_energy": np.linspace(0.8, 1.2, n) * voxels / (0.01 if meaning == "visible" else 0.9),
        "incident_theta": np.full(n, RIGHT),
        "incident_phi": np.zeros(n),
        "pdg_id": np.full(n, 22),
    }
    with ShowerWriter(path, detector, provenance or {}, energy_meaning=meaning) as writer:
        writer.append(ShowerBatch(**(columns | changes)))
    return path


def run_of(path):
    out = path.with_suffix(".yaml")
    assert main(["init", "--from", str(path), "-o", str(out)]) == 0
    return load_run(out)


@pytest.mark.parametrize("name", ["clic-ecal-25", "par04-siw"])
def test_a_detector_that_ships_is_written_by_its_name(tmp_path, name):
    path = stored(tmp_path / "a.h5", load_detector(name))
    config = run_of(path)
    assert config.detector == load_detector(name)
    assert yaml.safe_load((tmp_path / "a.yaml").read_text(encoding="utf-8"))["detector"] == name
    assert config.model.family == "layered"
    assert config.beam.particle == "gamma"


def test_any_other_detector_is_written_in_full(tmp_path):
    detector = load_detector("clic-ecal-25", SMALL)
    assert run_of(stored(tmp_path / "a.h5", detector)).detector == detector


def test_the_beam_holds_every_shower(tmp_path):
    theta = np.linspace(1.05, 2.05, 60)
    path = stored(tmp_path / "a.h5", load_detector("clic-ecal-25", SMALL), incident_theta=theta)
    beam = run_of(path).beam
    with ShowerFile(path) as file:
        energy, stored_theta = file.column("incident_energy"), file.column("incident_theta")
    low, high = beam.energy_range
    assert low <= energy.min()
    assert energy.max() <= high < 1.01 * energy.max()
    low, high = beam.theta_range
    assert low <= stored_theta.min()
    assert stored_theta.max() <= high < 1.01 * stored_theta.max()
    assert beam.phi_range == (0, 0)


@pytest.mark.parametrize(
    ("energy", "kind", "values"),
    [
        (np.full(60, 5e4), "fixed", (5e4, 5e4)),
        (np.repeat([256, 512, 1024], 20), "list", (256, 1024)),
        (np.geomspace(1e3, 1e6, 60), "log-flat", (1e3, 1e6)),
    ],
)
def test_the_kind_of_the_energies(tmp_path, energy, kind, values):
    path = stored(tmp_path / "a.h5", load_detector("clic-ecal-25", SMALL), incident_energy=energy)
    beam = run_of(path).beam
    assert beam.energy.kind == kind
    assert np.allclose(beam.energy_range, values)


def test_a_declared_beam_is_taken(tmp_path):
    declared = {"particle": "gamma", "energy": {"kind": "flat", "min": "10 GeV", "max": "500 GeV"}}
    path = stored(tmp_path / "a.h5", load_detector("clic-ecal-25", SMALL), provenance={"beam": declared})
    assert run_of(path).beam.energy_range == (1e4, 5e5)


@pytest.mark.parametrize("dataset", ["1-photons", "1-pions"])
def test_set_1_of_the_calochallenge_goes_all_the_way(tmp_path, capsys, dataset):
    """Import, init, check, train and generate, with the family that takes a ragged mesh."""
    detector, pdg_id = dataset_detector(dataset)
    voxels, n = detector.shower_shape[0], 120
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        file["incident_energies"] = np.repeat([[1024.0], [2048.0], [4096.0]], n // 3, axis=0)
        file["showers"] = rng.exponential(1, (n, voxels)) * file["incident_energies"][:] / voxels
    data = tmp_path / "set.h5"
    assert main(["import", str(tmp_path / "set.hdf5"), "-o", str(data), "--format", "calochallenge"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "the mesh is ragged; model families that take one: frozen" in out
    assert "next: caloforge init --from" in out
    config = run_of(data)
    assert (config.detector, config.beam.pdg_id, config.model.family) == (detector, pdg_id, "frozen")
    run = str(data.with_suffix(".yaml"))
    assert main(["check", run, "--data", str(data)]) == 0
    assert "not simulated" in capsys.readouterr().out
    assert main(["train", run, "--data", str(data), "-o", str(tmp_path / "run"), "--no-progress"]) == 0
    generated = tmp_path / "generated.h5"
    arguments = [
        "generate",
        str(tmp_path / "run"),
        "--like",
        str(data),
        "-o",
        str(generated),
        "--no-progress",
    ]
    assert main(arguments) == 0
    with ShowerFile(generated) as file:
        assert (len(file), file.detector) == (n, detector)
    # a family that does not take it names those that do
    arguments = ["check", run, "--data", str(data), "--set", "model={family: layered}"]
    assert main(arguments) == 2
    assert "Families that take a ragged one: frozen" in " ".join(capsys.readouterr().out.split())


def test_families_of_a_mesh():
    assert families_for(dataset_detector("1-pions")[0]) == ["frozen"]
    assert {"layered", "gan3d", "frozen"} <= set(families_for(load_detector("clic-ecal-25")))


def test_one_of_both_is_given(tmp_path):
    for arguments in ((), ("demo",)):
        from_ = None if not arguments else tmp_path / "a.h5"
        with pytest.raises(ConfigError, match="give a recipe or a detector preset"):
            caloforge.init(*arguments, from_=from_, out=tmp_path / "run.yaml")


def test_showers_of_several_kinds_have_no_beam(tmp_path):
    detector = load_detector("clic-ecal-25", SMALL)
    path = stored(tmp_path / "a.h5", detector, pdg_id=[11] * 30 + [22] * 30)
    with pytest.raises(DataError, match="its showers are of e-, gamma; the beam of a run has one particle"):
        caloforge.init(from_=path, out=tmp_path / "run.yaml")
    path = stored(tmp_path / "b.h5", detector, pdg_id=[0] * 60)
    with pytest.raises(DataError, match="its showers are of 0; the beam"):
        caloforge.init(from_=path, out=tmp_path / "run.yaml")
    assert not (tmp_path / "run.yaml").exists()


def test_pions_need_the_strong_interaction():
    sections = {"fullsim.physics=FTFP_BERT": True, "fullsim.physics=G4EmStandardPhysics": False}
    for setting, good in sections.items():
        config = load_run("clic-electron", ["beam.particle=pi-", setting])
        if good:
            check_physics(config.beam, config.fullsim)
        else:
            with pytest.raises(ConfigError, match="beam of pi- needs; take FTFP_BERT"):
                check_physics(config.beam, config.fullsim)


def test_check_tells_showers_in_gev(tmp_path):
    config = load_run("clic-electron")
    rng = np.random.default_rng(1)
    showers = rng.exponential(1, (60, *config.detector.shower_shape))
    energy = showers.sum(axis=(1, 2, 3)) / 0.022
    path = stored(tmp_path / "a.h5", config.detector, showers=showers, incident_energy=energy)
    assert "response 2.2 % (visible)" in check_data(config, path)["text"]
    path = stored(tmp_path / "b.h5", config.detector, showers=showers / 1000, incident_energy=energy)
    with pytest.raises(DataError, match="1000 times too little: the showers are in GeV"):
        check_data(config, path)

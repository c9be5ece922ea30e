"""The command line: outcomes, exit codes, JSON, and errors without tracebacks."""

import json
import subprocess
import sys

import h5py
import pytest
import yaml

import caloforge
from caloforge.cli import VERBS, main
from caloforge.commands.outcome import Outcome
from caloforge.errors import DataError, Interrupted
from caloforge.geometry import preset_names

DETECTOR = """\
name: mine
layers:
  - repeat: 4
    slabs:
      - {material: G4_Pb, thickness: 5 mm}
      - {material: G4_POLYSTYRENE, thickness: 2 mm, active: true}
mesh: {kind: cartesian, nx: 4, ny: 6, cell_x: 10 mm, cell_y: 5 mm}
"""


def run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    code = main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def run_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert err == ""
    return code, json.loads(out)


# ---- usage


def test_without_a_verb_the_help_is_shown(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    for verb in VERBS:
        assert verb in out
    assert "--json" in out


@pytest.mark.parametrize("verb", [*VERBS, "config"])
def test_every_verb_has_help(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"caloforge {verb}" in out


def test_the_version(capsys):
    assert run(capsys, "--version") == (0, f"{caloforge.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["simulat"], ['"simulat"', 'Did you mean "simulate"', "caloforge --help"]),
        (["config", "shwo"], ['Did you mean "show"', "caloforge config --help"]),
        (["simulate"], ["requires an argument", "caloforge simulate --help"]),
        (["simulate", "r.yaml", "-n", "many", "-o", "x.h5"], ["-n", '"many"', "int"]),
        (
            ["simulate", "r.yaml", "-n", "1", "-o", "x.h5", "--worker", "2"],
            ["--worker. Did you mean --workers?"],
        ),
        (["generate", "m", "-o", "x.h5", "--precision", "fp31"], ['"fp31"', '"fp32"']),
        (["list", "everything"], ["everything"]),
        (["train", "--data", "a.h5", "demo", "-o", "x"], ["--run requires", "--data took a.h5 demo, up to"]),
    ],
)
def test_usage_errors_end_with_2_and_say_what_was_meant(capsys, arguments, messages):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for message in messages:
        assert message in err
    code, report = run_json(capsys, *arguments)
    assert (code, report["exit_code"], report["error"]) == (2, 2, "ConfigError")
    assert messages[0] in report["message"]


# ---- outcomes


@pytest.mark.parametrize(
    ("error", "code", "stream"),
    [
        (DataError("broken"), 1, "error: broken\n"),
        (Interrupted("run it with --resume"), 0, "run it with --resume\n"),
    ],
)
def test_errors_become_exit_codes(capsys, monkeypatch, error, code, stream):
    def fail():
        raise error

    monkeypatch.setattr("caloforge.commands.cite.cite", fail)
    assert run(capsys, "cite") == (code, "", stream)
    assert run_json(capsys, "cite")[1] == {
        "error": type(error).__name__, "message": str(error), "exit_code": code
    }  # fmt: skip


def test_a_failed_verdict_ends_with_3(capsys, monkeypatch):
    monkeypatch.setattr("caloforge.commands.cite.cite", lambda: Outcome("below", exit_code=3, passed=False))
    assert run(capsys, "cite") == (3, "below\n", "")
    assert run_json(capsys, "cite") == (3, {"passed": False})


def test_traceback_is_shown_when_asked_for(capsys, tmp_path):
    with pytest.raises(DataError):
        main(["inspect", str(tmp_path / "none.h5"), "--traceback"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupts_leave_no_traceback(capsys, monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr("caloforge.commands.cite.cite", fail)
    code, out, err = run(capsys, "cite")
    assert (code, out) == (1, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_reader_that_stops_early_is_no_error(option):
    command = f"set -o pipefail; {sys.executable} -m caloforge config schema {option} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- verbs


def test_list(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    for name in (*preset_names(), "clic-electron", "e-", "G4EmStandardPhysics", "3dgan", "gan3d"):
        assert name in out
    facts = run_json(capsys, "list")[1]
    assert list(facts["detectors"]) == preset_names()
    assert "clic-electron" in facts["recipes"]


def test_cite(capsys):
    _, out, _ = run(capsys, "cite")
    assert "Geant4" in out
    assert "ACAT 2019" in out
    assert "Geant4" in run_json(capsys, "cite")[1]


@pytest.mark.parametrize("name", ["clic-electron", "clic-ecal-25"])
def test_init_writes_a_run_that_resolves(capsys, tmp_path, name):
    path = tmp_path / "new/run.yaml"
    code, out, _ = run(capsys, "init", name, "-o", path)
    assert code == 0
    assert f"next: caloforge check {path}" in out
    assert "#" in path.read_text(encoding="utf-8")
    code, resolved, _ = run(capsys, "config", "show", path, "--set", "beam.particle=gamma", "--set", "seed=5")
    assert code == 0
    document = yaml.safe_load(resolved)
    assert document["detector"]["name"] == "clic-ecal-25"
    assert (document["beam"]["particle"], document["seed"]) == ("gamma", 5)
    # what is shown is a whole run of its own
    (tmp_path / "again.yaml").write_text(resolved, encoding="utf-8")
    assert run(capsys, "config", "show", tmp_path / "again.yaml") == (0, resolved, "")


def test_init_keeps_what_is_there(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("mine")
    code, _, err = run(capsys, "init", "demo", "-o", path)
    assert code == 1
    assert "exists already; give --force" in err
    assert path.read_text() == "mine"
    assert run(capsys, "init", "demo", "-o", path, "--force")[0] == 0


def test_init_names_the_nearest_recipe(capsys, tmp_path):
    code, _, err = run(capsys, "init", "clic-elektron", "-o", tmp_path / "run.yaml")
    assert code == 2
    assert "Did you mean 'clic-electron'" in err
    assert list(tmp_path.iterdir()) == []


def test_config_schema(capsys):
    schema = run_json(capsys, "config", "schema")[1]
    assert {"detector", "beam", "fullsim", "model", "training"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_a_misspelt_key_of_a_run(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    run(capsys, "init", "demo", "-o", path)
    path.write_text(path.read_text(encoding="utf-8") + "\ntrainning: {}\n", encoding="utf-8")
    code, _, err = run(capsys, "config", "show", path)
    assert code == 2
    assert "trainning: unknown setting" in err
    assert "Did you mean 'training'" in err
    code, _, err = run(capsys, "config", "show", "demo", "--set", "detector.layers.0.slabs.0.thickness=3")
    assert code == 2
    assert "without a unit, expected something like '5 mm'" in err


def test_doctor(capsys):
    code, facts = run_json(capsys, "doctor")
    assert code == 0
    assert facts["packages"]["numpy"]
    assert facts["machine"]["cores"] >= 1
    assert not any("cannot run" in entry for entry in facts["missing"])
    assert facts["geant4"]["starts"]


def test_data_sets_that_are_not_there_are_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("G4LEDATA", str(tmp_path / "nowhere"))
    words = f"G4LEDATA is set to {tmp_path / 'nowhere'}, which is no directory"
    _, facts = run_json(capsys, "doctor")
    assert f"simulate cannot run: Geant4 does not start: {words}" in "\n".join(facts["missing"])
    code, _, err = run(capsys, "simulate", "demo", "-n", 1, "-o", tmp_path / "t.h5")
    assert code == 1
    assert err.startswith(f"error: {words}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_a_missing_package_is_for(capsys, monkeypatch):
    from caloforge.commands import doctor

    monkeypatch.setattr(doctor, "package_version", lambda name: None if name == "geant4-pybind" else "1.0")
    monkeypatch.setattr(doctor, "_geant4", lambda: {"error": "Geant4 is not installed"})
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "geant4-pybind is missing (simulate, check, demo cannot run)" in out
    assert "simulate cannot run: Geant4 is not installed" in out
    assert "GPUs: none" in out


# ---- inspect


@pytest.mark.parametrize("name", preset_names())
def test_inspect_a_preset(capsys, name):
    code, out, _ = run(capsys, "inspect", name)
    assert code == 0
    assert "depth_radiation_lengths" in out
    assert run_json(capsys, "inspect", name)[1]["name"] == name


def test_inspect_a_detector_of_ones_own_with_pictures(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(DETECTOR)
    code, facts = run_json(capsys, "inspect", path, "-o", tmp_path / "pictures", "--set", "mesh.nx=8")
    assert code == 0
    assert facts["shower_shape"] == [4, 6, 8]
    assert facts["pictures"] == [str(tmp_path / "pictures/detector.png")]
    assert (tmp_path / "pictures/detector.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_the_detector_of_a_run(capsys):
    assert run_json(capsys, "inspect", "demo")[1]["name"] == "clic-ecal-25"


@pytest.fixture
def shower_file(tmp_path):
    path = tmp_path / "showers.h5"
    detector = caloforge.load_detector(yaml.safe_load(DETECTOR))
    with caloforge.ShowerWriter(path, detector, {"engine": "test"}) as writer:
        shape = (12, *detector.shower_shape)
        writer.append(caloforge.ShowerBatch([[[[1.0] * 4] * 6] * 4] * 12, *[[1.5] * 12] * 3, [11] * 12))
        assert writer.count == shape[0]
    return path


def test_inspect_showers(capsys, shower_file, tmp_path):
    code, facts = run_json(capsys, "inspect", shower_file, "-o", tmp_path / "pictures")
    assert code == 0
    assert (facts["showers"], facts["hits"]["mean"], facts["particles"]) == (12, 96, {"e-": 12})
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["energies.png", "mean_shower.png", "single_shower.png"]
    code, out, _ = run(capsys, "inspect", shower_file)
    assert code == 0
    assert "e- 12" in out


def test_inspect_what_is_broken_or_absent(capsys, shower_file, tmp_path):
    with h5py.File(shower_file, "r+") as file:
        file["showers"][3, 0, 0, 0] = float("nan")
    code, _, err = run(capsys, "inspect", shower_file)
    assert code == 1
    assert "shower 3 holds NaN" in err
    assert run(capsys, "inspect", tmp_path / "none.h5")[0] == 1
    code, _, err = run(capsys, "inspect", "clic-ecal-26")
    assert code == 2
    assert "Did you mean 'clic-ecal-25'" in err
    code, _, err = run(capsys, "inspect", tmp_path)
    assert code == 1
    assert "model.json" in err
    assert run(capsys, "inspect", tmp_path / "none.yaml")[0] == 2


def test_pictures_in_a_place_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "inspect", "clic-ecal-25", "-o", tmp_path / "file/pictures")
    assert code == 1
    assert "cannot create this directory" in err


@pytest.fixture
def run_directory(tmp_path):
    """A model with random weights and the history of a training."""
    from caloforge.config import build
    from caloforge.models.gan3d.config import Gan3dConfig
    from caloforge.models.registry import build_model
    from caloforge.models.store import save_model
    from caloforge.models.training_metadata import DataFacts, TrainedRange

    ranges = TrainedRange(energy=(1e4, 1e5), theta=(1.5, 1.6), phi=(0.0, 0.0), pdg_ids=(11,))
    detector = caloforge.load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"))
    facts = DataFacts(ranges=ranges, response_fit=(0.02,))
    model = build_model(build(Gan3dConfig, {"preset": "debug"}, "model"), detector, facts)
    save_model(model, tmp_path / "run/model", dict(model.state_dict()), merit=0.25)
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 10, "seconds": 3.0, "g_loss": 2.0}\n')
    return tmp_path / "run"


def test_inspect_a_model(capsys, run_directory, tmp_path):
    code, facts = run_json(capsys, "inspect", run_directory, "-o", tmp_path / "pictures")
    assert code == 0
    assert (facts["family"], facts["merit"]) == ("gan3d", 0.25)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["detector.png", "training.png"]
    code, out, _ = run(capsys, "inspect", run_directory / "model")
    assert code == 0
    assert "gan3d" in out
    assert "parameters" in out


def test_inspect_a_damaged_model(capsys, run_directory):
    (run_directory / "model/model.json").write_text("{")
    code, _, err = run(capsys, "inspect", run_directory)
    assert code == 1
    assert "cannot be read as JSON" in err

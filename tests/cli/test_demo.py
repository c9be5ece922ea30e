"""The demo: which steps it takes; the steps themselves have tests of their own."""

from pathlib import Path

import numpy as np
import pytest

from caloforge.beam import BeamConfig
from caloforge.cli import main
from caloforge.commands.demo import RELEASED_SHOWERS, demo
from caloforge.commands.outcome import Outcome
from caloforge.errors import SimulationError
from caloforge.models import released
from caloforge.run import load_run
from caloforge.showers import ShowerBatch, ShowerWriter


@pytest.fixture
def calls(monkeypatch):
    """What is called, in order, with verbs that write the smallest files."""
    made = []

    def showers(run, out, seconds, overrides=()):
        detector = load_run(run, list(overrides)).detector
        with ShowerWriter(out, detector, {}, with_seconds=True) as writer:
            ones = np.ones(2)
            writer.append(
                ShowerBatch(np.ones((2, *detector.shower_shape)), ones, ones, ones, ones, seconds * ones)
            )

    def simulate(run, *, n, out, seed, set_=(), **_):
        made.append(("simulate", Path(run).name, n, seed, tuple(set_)))
        showers(run, out, 1.0, set_)

    def generate(model, *, out, like, seed, **_):
        made.append(("generate", Path(model).name, like.name))
        showers("demo", out, 0.01 if Path(model).name == "model" else 0.0001)

    def validate(truth, generated, *, out, **_):
        made.append(("validate", truth.name, generated.name))
        name = generated.stem
        facts = {name: {"sentence": f"UNDECIDED with '3dgan', {truth.name}"}}
        return Outcome("", 4, report=out / "report.html", verdict="undecided", passed=False, generators=facts)

    monkeypatch.setattr("caloforge.fullsim.campaign.preflight", lambda *_: 0.1)
    monkeypatch.setattr("caloforge.commands.simulate.simulate", simulate)
    monkeypatch.setattr("caloforge.commands.generate.generate", generate)
    monkeypatch.setattr("caloforge.commands.validate.validate", validate)
    monkeypatch.setattr("caloforge.commands.train.train", lambda *_, **__: made.append(("train",)))
    return made


SMALL = [
    ("simulate", "run.yaml", 1500, 1, ()),
    ("simulate", "run.yaml", 500, 2, ()),
    ("train",),
    ("generate", "model", "truth.h5"),
    ("validate", "truth.h5", "generated.h5"),
]


def test_without_a_released_model(calls, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(released, "RELEASED", tmp_path / "none")
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    assert calls == SMALL
    out, err = capsys.readouterr()
    assert "100 times faster than Geant4" in out.replace("\n", " ")
    assert out.rstrip().endswith("demo/report/report.html")
    assert "5/5" in err


def test_the_released_model_is_judged_by_showers_of_its_own(calls, tmp_path, monkeypatch, capsys):
    (tmp_path / "released/clic-electron").mkdir(parents=True)
    (tmp_path / "released/clic-electron/model.json").write_text("{}")
    monkeypatch.setattr(released, "RELEASED", tmp_path / "released")
    outcome = demo(out=tmp_path / "demo", workers=1)
    assert calls[:5] == SMALL
    assert calls[5:] == [
        ("simulate", "clic-electron", RELEASED_SHOWERS, 3, ("beam.energy.kind=log-flat",)),
        ("generate", "clic-electron", "clic-electron-truth.h5"),
        ("validate", "clic-electron-truth.h5", "clic-electron.h5"),
    ]
    assert outcome["verdict"] == outcome["released"]["verdict"] == "undecided"
    assert "generated: UNDECIDED with '3dgan', truth.h5" in outcome.text
    assert "clic-electron: UNDECIDED with '3dgan', clic-electron-truth.h5" in outcome.text
    assert outcome["released"]["speed_up"] == pytest.approx(10000, rel=1e-3)
    assert outcome.text.rstrip().endswith("demo/clic-electron-report/report.html")
    assert "8/8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "got", "expected"), [("--train-showers", 4, 5), ("--test-showers", 99, 100)]
)
def test_too_few_showers_are_refused_before_an_old_demo_is_removed(
    calls, tmp_path, capsys, option, got, expected
):
    demo(out=tmp_path / "demo", workers=1)
    calls.clear()
    assert main(["demo", "-o", str(tmp_path / "demo"), "--force", option, str(got)]) == 2
    assert f"{option}: got {got}, expected at least {expected}" in capsys.readouterr().err
    assert not calls and (tmp_path / "demo/train.h5").is_file()


def test_geant4_that_does_not_start_costs_no_old_demo(calls, tmp_path, capsys, monkeypatch):
    demo(out=tmp_path / "demo", workers=1)
    calls.clear()

    def preflight(*_):
        raise SimulationError("Geant4 does not start")

    monkeypatch.setattr("caloforge.fullsim.campaign.preflight", preflight)
    assert main(["demo", "-o", str(tmp_path / "demo"), "--force"]) == 1
    assert "Geant4 does not start" in capsys.readouterr().err
    assert not calls and (tmp_path / "demo/train.h5").is_file()


def test_the_showers_of_the_released_model_cover_its_range():
    beam = load_run("clic-electron", ["beam.energy.kind=log-flat"]).beam
    assert isinstance(beam, BeamConfig)
    assert beam.energy_range == load_run("clic-electron").beam.energy_range == (1e4, 5e5)

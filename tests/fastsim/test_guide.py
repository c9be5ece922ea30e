"""The guides "In Geant4 from Python" and "Events in, hits out": every block runs, in a small form."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from event_files import particle, write_hepmc

from caloforge import ShowerFile, cli

pytestmark = pytest.mark.geant4
PAGES = Path(__file__).parents[2] / "docs/how-to"


def commands(page):
    return re.findall(r"^    (caloforge .*)$", (PAGES / page).read_text(), re.MULTILINE)


def programs(page):
    return re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)


def run(program, folder):
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=200, check=True
    ).stdout


@pytest.mark.slow
def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = commands("geant4-python.md")
    assert [line.split()[1] for line in lines] == ["simulate", "simulate", "validate"]
    for line in lines[:2]:
        small = [*shlex.split(line.replace("5000", "100"))[1:], "--set", "beam.energy.max=11 GeV"]
        assert cli.main(small) == 0, line
    assert "simulated by the model: 100 particles" in capsys.readouterr().out
    # 100 showers decide few comparisons
    assert cli.main([*shlex.split(lines[2])[1:], "--no-classifier", "--no-pdf"]) in (0, 3, 4)
    assert (tmp_path / "report/report.html").is_file()


def test_program(tmp_path):
    program, own = programs("geant4-python.md")
    printed = run(program, tmp_path)
    assert "2 of 3 particles were taken by the model" in printed
    visible = dict(re.findall(r"^(\S+ of \d+ GeV) at .* mm: (\S+) MeV", printed, re.MULTILINE))
    for what, energy in (("e- of 50 GeV", 50e3), ("e- of 20 GeV", 20e3), ("gamma of 1 GeV", 1e3)):
        assert 0.015 < float(visible[what]) / energy < 0.03, what
    # what Geant4's destructors would crash on
    run(f"{own}\nconstruction.Construct()\nconstruction.check()\nimport os\nos._exit(0)", tmp_path)


def test_events(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    electrons = [[particle(11, energy, 0.05)] for energy in (10.5, 12.0, 15.0)]
    write_hepmc(tmp_path / "events.hepmc", electrons)
    lines = commands("events.md")
    assert len(lines) == 2
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, line
    assert "simulated by the model: 3 particles" in capsys.readouterr().out
    reading, converting = programs("events.md")
    printed = run(reading, tmp_path)
    assert "particles of the model: [1, 1, 1]" in printed
    run(converting, tmp_path)
    with ShowerFile(tmp_path / "showers.h5") as file:
        batch = file.read()
    np.testing.assert_allclose(batch.incident_energy, [10.5e3, 12e3, 15e3], rtol=1e-3)
    np.testing.assert_allclose(batch.incident_theta, np.pi / 2)
    response = batch.visible_energy() / batch.incident_energy
    np.testing.assert_allclose(response, 0.0235, rtol=0.15)

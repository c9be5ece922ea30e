"""The guide "In Geant4 from Python": every block of it runs, in a small form."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from caloforge import cli

pytestmark = pytest.mark.geant4
PAGE = Path(__file__).parents[2] / "docs/how-to/geant4-python.md"


@pytest.mark.slow
def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    (caloforge .*)$", PAGE.read_text(), re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["simulate", "simulate", "validate"]
    for line in lines[:2]:
        small = [*shlex.split(line.replace("5000", "100"))[1:], "--set", "beam.energy.max=11 GeV"]
        assert cli.main(small) == 0, line
    assert "simulated by the model: 100 particles" in capsys.readouterr().out
    # 100 showers decide few comparisons
    assert cli.main([*shlex.split(lines[2])[1:], "--no-classifier", "--no-pdf"]) in (0, 3, 4)
    assert (tmp_path / "report/report.html").is_file()


def test_program(tmp_path):
    [program] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True
    )
    assert "2 of 3 particles were taken by the model" in done.stdout
    visible = dict(re.findall(r"^(\S+ of \d+ GeV) at .* mm: (\S+) MeV", done.stdout, re.MULTILINE))
    for what, energy in (("e- of 50 GeV", 50e3), ("e- of 20 GeV", 20e3), ("gamma of 1 GeV", 1e3)):
        assert 0.015 < float(visible[what]) / energy < 0.03, what

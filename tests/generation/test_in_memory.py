"""Without a file, generate returns the showers that the file would hold."""

import numpy as np
import pytest

import caloforge
from caloforge.cli import main
from caloforge.errors import ConfigError

# one backend: "auto" takes machine code as soon as another process has compiled it
WISH = {"n": 12, "energy": "20 GeV:40 GeV", "seed": 4, "backend": "numba", "progress": False}


def test_the_same_showers_as_in_a_file(tmp_path):
    batch = caloforge.generate("clic-electron", **WISH)
    caloforge.generate("clic-electron", out=tmp_path / "a.h5", **WISH)
    with caloforge.ShowerFile(tmp_path / "a.h5") as file:
        stored = file.read()
        assert np.array_equal(batch.showers, stored.showers)
        assert np.array_equal(batch.incident_energy, stored.incident_energy)
        assert batch.detector == file.detector
        like = caloforge.generate(
            "clic-electron", like=tmp_path / "a.h5", seed=4, backend="numba", progress=False
        )
    assert np.array_equal(like.showers, batch.showers)
    assert (batch.seconds > 0).all()


def test_more_than_the_memory_holds_is_refused(monkeypatch):
    # the conditions alone are gigabytes
    monkeypatch.setattr("caloforge.generation.conditions.conditions_sampled", lambda *a: pytest.fail("drawn"))
    with pytest.raises(ConfigError, match=r"100000000 showers .* GB of memory.*out='showers.h5'"):
        caloforge.generate("clic-electron", n=10**8, backend="numba", progress=False)


def test_outside_the_trained_range():
    with pytest.raises(ConfigError, match="trained on"):
        caloforge.generate("clic-electron", n=2, energy="2 TeV", progress=False)


def test_the_command_line_wants_a_file(capsys):
    assert main(["generate", "clic-electron", "-n", "2"]) == 2
    assert "-o" in capsys.readouterr().err

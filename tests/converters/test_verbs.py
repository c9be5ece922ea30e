"""`caloforge import` and `caloforge convert` from the command line and from Python."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import caloforge
from caloforge.cli import main
from caloforge.showers import ShowerFile


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "dataset_2_1.hdf5"
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.full((2, 1), 1e4)
        file["showers"] = np.ones((2, 6480))
    return path


def test_there_and_back(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    showers, again = tmp_path / "showers.h5", tmp_path / "again.hdf5"
    assert main(["import", str(foreign), "-o", str(showers), "--format", "calochallenge", "--visible"]) == 0
    assert str(showers) in capsys.readouterr().out.replace("\n", "")
    with ShowerFile(showers) as file:
        assert len(file) == 2
        assert file.provenance["engine"] == "imported"
        assert file.provenance["format"] == "calochallenge"
    assert main(["convert", str(showers), "-o", str(again), "--to", "calochallenge", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(again)
    with h5py.File(foreign) as before, h5py.File(again) as after:
        assert np.allclose(before["showers"], after["showers"])
        assert np.array_equal(before["incident_energies"], after["incident_energies"])


def test_detector_and_several_files(foreign: Path, tmp_path: Path) -> None:
    outcome = caloforge.import_(
        foreign,
        foreign,
        out=tmp_path / "out.h5",
        format="calochallenge",
        detector="par04-scipb",
        particle="gamma",
        progress=False,
    )
    with ShowerFile(outcome["path"]) as file:
        assert file.detector.name == "par04-scipb"
        assert np.array_equal(file.column("pdg_id"), [22] * 4)


def test_errors_have_exit_codes(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.h5")
    assert main(["import", str(foreign), "-o", out, "--format", "3dgan"]) == 1
    assert "not a 3DGAN file: found incident_energies (2, 1)" in capsys.readouterr().err
    wrong = ["import", str(foreign), "-o", out, "--format", "calochallenge", "--particle", "electron"]
    assert main(wrong) == 2
    assert main(["convert", str(foreign), "-o", out, "--to", "calochallenge"]) == 1
    assert "caloforge import --format calochallenge" in capsys.readouterr().err

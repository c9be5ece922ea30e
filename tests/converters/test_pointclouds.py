"""The point clouds of showerdata in and out, against files built by hand and, if it is there, the library."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloforge.errors import ConfigError, DataError
from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters import export_file, import_file
from caloforge.showers.converters.binning import dataset_detector

RIGHT = np.float32(np.pi / 2)
CLIC = load_detector("clic-ecal-25")


def write(path: Path, points: list[list[list[float]]], **changes: Any) -> Path:
    """A file of showerdata; each shower is a list of (x, y, layer, GeV) or (x, y, layer, GeV, ns)."""
    count = len(points)
    columns = {
        "energies": np.full((count, 1), 10, np.float32),
        "directions": np.tile(np.float32([0, 0, 1]), (count, 1)),
        "pdg": np.full(count, 11, np.int32),
        "shape": np.array([count, max(map(len, points)), len(points[0][0])]),
    }
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("showers", (count,), h5py.vlen_dtype(np.float32))
        for number, shower in enumerate(points):
            rows[number] = np.float32(shower).ravel()
        for name, values in (columns | changes).items():
            if values is not None:
                file[name] = values
    return path


def imported(path: Path, out: Path, **options: Any) -> ShowerBatch:
    options = {"detector": CLIC} | options
    with ShowerFile(import_file([path], out, format="showerdata", **options)) as file:
        assert file.energy_meaning == "visible"
        return file.read()


def test_points_go_into_voxels(tmp_path: Path) -> None:
    points = [
        # cells of 5 mm around the axis; two points share one, what is beside the mesh is left out
        [[0, 0, 0, 0.1], [1, -1, 0, 0.05], [61, 7.6, 24, 0.1], [63, 0, 3, 0.01]],
        [[-62.4, 62.4, 2.98, 0.2], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    batch = imported(write(tmp_path / "a.h5", points), tmp_path / "out.h5")
    assert batch.showers[0, 0, 12, 12] == pytest.approx(150)
    assert batch.showers[0, 24, 14, 24] == pytest.approx(100)
    assert batch.showers[1, 3, 24, 0] == pytest.approx(200)
    assert np.allclose(batch.visible_energy(), [250, 200])
    assert np.array_equal(batch.incident_energy, [1e4, 1e4])
    assert np.array_equal(batch.incident_theta, [RIGHT] * 2)
    assert np.array_equal(batch.incident_phi, [0, 0])


def test_directions_and_times(tmp_path: Path) -> None:
    direction = [np.sin(1.2) * np.sin(0.3), np.cos(1.2), np.sin(1.2) * np.cos(0.3)]
    path = write(tmp_path / "a.h5", [[[0, 0, 0, 0.2, 7.5]]], directions=np.float32([direction]), pdg=[[22]])
    batch = imported(path, tmp_path / "out.h5")
    assert batch.incident_theta[0] == pytest.approx(1.2, abs=1e-6)
    assert batch.incident_phi[0] == pytest.approx(0.3, abs=1e-6)
    assert batch.pdg_id[0] == 22
    assert batch.visible_energy()[0] == pytest.approx(200)
    assert imported(path, tmp_path / "b.h5", particle="e+").pdg_id[0] == -11


@pytest.mark.parametrize(
    ("points", "changes", "words"),
    [
        ([[[0, 0, 0, 0.2]]], {"energies": None}, "not a showerdata file"),
        ([[[0, 0, 0, 0.2]]], {"pdg": [0]}, "no PDG numbers"),
        ([[[0, 0, 0, 0.2]]], {"directions": [[0, 0, -1]]}, r"got \[0.0, 0.0, -1.0\], expected unit vectors"),
        ([[[0, 0, 0, 0.2]]], {"directions": [[0, 0, 2]]}, "expected unit vectors"),
        ([[[0, 0, 0, 0.2]]], {"energies": [[10], [10]]}, "shapes do not fit"),
        ([[[0, 0, 0, 0.2]]], {"shape": [1, 1, 3]}, "points of 4 or 5 numbers"),
        ([[[0, 0, 0, 0.2]]], {"shape": [1, 1, 5]}, "shower 0 has 4 numbers, expected points of 5"),
        ([[[0, 0, np.nan, 0.2]]], {}, "shower 0 holds NaN"),
        ([[[0, 0, 1.5, 0.2]]], {}, "third number of a point is 1.5, expected the number of a layer"),
        ([[[500, 0, 0, 0.2]]], {}, "100% of the energy lies outside the mesh"),
        ([[[0, 0, 0, 200]]], {}, "1000 times too much"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, points: list, changes: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        imported(write(tmp_path / "a.h5", points, **changes), tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_points_need_a_detector(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [[[0, 0, 0, 0.2]]])
    with pytest.raises(ConfigError, match="give --detector"):
        imported(path, tmp_path / "out.h5", detector=None)
    with pytest.raises(ConfigError, match="is ragged"):
        imported(path, tmp_path / "out.h5", detector=dataset_detector("1-photons")[0])


def stored(path: Path, name: str, **changes: Any) -> Path:
    detector, rng = load_detector(name), np.random.default_rng(3)
    shape = (3, *detector.shower_shape)
    showers = rng.exponential(1, shape) * (rng.random(shape) < 0.1)
    columns = {
        "showers": showers,
        "incident_energy": np.full(3, showers.sum() / 3 / 0.03),
        "incident_theta": rng.uniform(1, 2, 3),
        "incident_phi": rng.uniform(-0.5, 0.5, 3),
        "pdg_id": [11, 22, 11],
    }
    with ShowerWriter(path, detector, {}) as writer:
        writer.append(ShowerBatch(**(columns | changes)))
    return path


@pytest.mark.parametrize("name", ["clic-ecal-25", "clic-ecal-51", "par04-siw"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    source = stored(tmp_path / "in.h5", name)
    back = imported(
        export_file(source, tmp_path / "out.h5", format="showerdata"),
        tmp_path / "back.h5",
        detector=load_detector(name),
    )
    with ShowerFile(source) as showers:
        batch = showers.read()
    assert np.allclose(back.showers, batch.showers, rtol=1e-6)
    assert np.allclose(back.incident_energy, batch.incident_energy, rtol=1e-6)
    assert np.allclose(back.incident_theta, batch.incident_theta, atol=1e-6)
    assert np.allclose(back.incident_phi, batch.incident_phi, atol=1e-6)
    assert np.array_equal(back.pdg_id, batch.pdg_id)


def test_impact_points_are_kept(tmp_path: Path) -> None:
    impacts = {"impact_x": np.float32([1, -2.5, 0]), "impact_y": np.float32([0, 0.5, 2])}
    source = stored(tmp_path / "in.h5", "clic-ecal-25", **impacts)
    out = export_file(source, tmp_path / "out.h5", format="showerdata")
    back = imported(out, tmp_path / "back.h5")
    for name, want in impacts.items():
        assert np.array_equal(getattr(back, name), want)
    with h5py.File(out, "r+") as file:
        del file["impact_x"]
        file["impact_x"] = np.zeros(2)
    with pytest.raises(DataError, match="impact_x has 2 entries, expected 3"):
        imported(out, tmp_path / "again.h5")


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    showerdata = pytest.importorskip("showerdata")
    source = stored(tmp_path / "in.h5", "clic-ecal-25")
    out = export_file(source, tmp_path / "out.h5", format="showerdata")
    theirs = showerdata.load(str(out))
    with ShowerFile(source) as file:
        batch = file.read()
    assert theirs.points.shape[::2] == (3, 4)
    assert np.allclose(theirs.points[:, :, 3].sum(axis=1) * 1000, batch.visible_energy(), rtol=1e-5)
    assert np.allclose(theirs.energies[:, 0] * 1000, batch.incident_energy)
    theirs.save(str(tmp_path / "theirs.h5"))
    back = imported(tmp_path / "theirs.h5", tmp_path / "back.h5")
    assert np.allclose(back.showers, batch.showers, rtol=1e-6)


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    detector = dataset_detector("1-photons")[0]
    columns = {
        "showers": np.ones((3, 368)), "incident_energy": np.full(3, 368), "incident_theta": np.full(3, RIGHT),
        "incident_phi": np.zeros(3), "pdg_id": np.full(3, 22),
    }  # fmt: skip
    with ShowerWriter(tmp_path / "a.h5", detector, {}) as writer:
        writer.append(ShowerBatch(**columns))
    with pytest.raises(DataError, match="layers of a ragged mesh have not"):
        export_file(tmp_path / "a.h5", out, format="showerdata")
    below = stored(tmp_path / "b.h5", "clic-ecal-25", showers=np.full((3, 25, 25, 25), -1))
    with pytest.raises(DataError, match="shower 0 has voxels below zero"):
        export_file(below, out, format="showerdata")
    assert not out.exists()

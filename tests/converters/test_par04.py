"""Par04, LEMURS and CaloDiT files in and out, against files built by hand as their scripts write them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloforge.errors import ConfigError, DataError
from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters import export_file, import_file

RIGHT = np.float32(np.pi / 2)
N = 4


def write(path: Path, response: float = 0.03, cells: tuple[int, ...] = (9, 16, 45), **changes: Any) -> Path:
    """A file of LEMURS: (N, r, phi, z), one cell of 10 GeV electrons holds `response` of the energy."""
    showers = np.zeros((N, *cells), np.float32)
    showers[:, 2, 5, 7] = response * 1e4
    columns = {
        "showers": showers,
        "incident_energy": np.full(N, 1e4, np.float32),
        "incident_theta": np.linspace(1.0, 2.0, N, dtype=np.float32),
        "incident_phi": np.linspace(-3, 3, N, dtype=np.float32),
    }
    with h5py.File(path, "w") as file:
        for name, values in (columns | changes).items():
            if values is not None:
                file[name] = values
    return path


def imported(path: Path, out: Path, **options: Any) -> tuple[ShowerBatch, ShowerFile]:
    options = {"particle": "e-"} | options
    with ShowerFile(import_file([path], out, format="par04", **options)) as file:
        return file.read(), file


def test_the_layout(tmp_path: Path) -> None:
    batch, file = imported(write(tmp_path / "a.h5"), tmp_path / "out.h5")
    assert file.detector == load_detector("par04-siw")
    assert file.energy_meaning == "visible"
    # layer, sector, ring
    assert np.allclose(batch.showers[:, 7, 5, 2], 300)
    assert np.allclose(batch.visible_energy(), 300)
    assert np.array_equal(batch.incident_energy, [1e4] * N)
    # a barrel is the same at every azimuth, and the mesh follows the particle
    assert np.allclose(batch.incident_theta, np.linspace(1, 2, N))
    assert np.array_equal(batch.incident_phi, [0] * N)
    assert np.array_equal(batch.pdg_id, [11] * N)


def test_par04_itself_writes_no_angles_and_the_fine_mesh(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.h5", cells=(18, 50, 45), incident_theta=None, incident_phi=None,
        incident_energy=np.full((N, 1), 1e4),
    )  # fmt: skip
    batch, file = imported(path, tmp_path / "out.h5", particle="gamma")
    assert file.detector.shower_shape == (45, 50, 18)
    assert np.array_equal(batch.incident_theta, [RIGHT] * N)
    assert np.array_equal(batch.pdg_id, [22] * N)


def test_the_sampling_fraction_is_recognised_and_undone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", response=0.95)
    batch, file = imported(path, tmp_path / "out.h5")
    assert file.energy_meaning == "sampling-fraction corrected"
    assert np.allclose(batch.visible_energy(), 9500)
    batch, file = imported(path, tmp_path / "visible.h5", visible=True)
    assert (file.energy_meaning, file.provenance["sampling_fraction"]) == ("visible", 0.033)
    assert np.allclose(batch.visible_energy(), 9500 * 0.033)
    batch, file = imported(write(tmp_path / "b.h5"), tmp_path / "b_out.h5", visible=True)
    assert np.allclose(batch.visible_energy(), 300)


@pytest.mark.parametrize(
    ("factor", "words"), [(1e-3, "1000 times too little"), (1e3, "hold 30 times the incident energy")]
)
def test_other_units_are_refused(tmp_path: Path, factor: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        imported(write(tmp_path / "a.h5", response=0.03 * factor), tmp_path / "out.h5", particle="e-")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"incident_energy": None}, r"not a Par04 file: found .*showers \(4, 9, 16, 45\)"),
        ({"showers": np.ones((N, 6480))}, "shapes do not fit"),
        ({"incident_theta": np.full(3, 1.5)}, "shapes do not fit"),
        ({"incident_theta": np.full(N, 90)}, "got 90, expected radians"),
        ({"showers": np.ones((N, 9, 16, 40))}, r"\(40, 16, 9\) cells \(z, phi, r\), expected \(45, 16, 9\)"),
        ({"showers": np.full((N, 9, 16, 45), np.nan)}, "4 of 4 showers hold NaN"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        imported(write(tmp_path / "a.h5", **changes), tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    path, out = write(tmp_path / "a.h5"), tmp_path / "out.h5"
    with pytest.raises(ConfigError, match="which particle is this"):
        imported(path, out, particle=None)
    with pytest.raises(DataError, match=r"the detector clic-ecal-25 has \(25, 25, 25\) \(cartesian\)"):
        imported(path, out, detector=load_detector("clic-ecal-25"))
    with pytest.raises(ConfigError, match="sampling fraction of par04-scipb is not known"):
        corrected = write(tmp_path / "b.h5", response=0.9)
        imported(corrected, out, detector=load_detector("par04-scipb"), visible=True)
    with pytest.raises(ConfigError, match="--dataset belongs to --format calochallenge; leave it out"):
        imported(path, out, dataset="2")


def stored(path: Path, name: str = "par04-siw", **changes: Any) -> Path:
    detector, rng = load_detector(name), np.random.default_rng(3)
    voxels = int(np.prod(detector.shower_shape))
    columns = {
        "showers": rng.exponential(1, (N, *detector.shower_shape)),
        "incident_energy": rng.uniform(0.8, 1.2, N) * voxels / 0.03,
        "incident_theta": rng.uniform(1, 2, N),
        "incident_phi": np.zeros(N),
        "pdg_id": np.full(N, 22),
    }
    with ShowerWriter(path, detector, {}) as writer:
        writer.append(ShowerBatch(**(columns | changes)))
    return path


def test_round_trip(tmp_path: Path) -> None:
    source = stored(tmp_path / "in.h5")
    out = export_file(source, tmp_path / "out.h5", format="par04")
    with h5py.File(out) as file:
        assert file["showers"].shape == (N, 9, 16, 45)
        assert file["incident_energy"].dtype == file["showers"].dtype == np.float32
    back, file = imported(out, tmp_path / "back.h5", particle=None)
    assert file.energy_meaning == "visible"
    with ShowerFile(source) as showers:
        batch = showers.read()
    for name in ("showers", "incident_energy", "incident_theta", "incident_phi", "pdg_id"):
        assert np.array_equal(getattr(back, name), getattr(batch, name)), name


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    with pytest.raises(DataError, match="alike in all layers, this mesh is cartesian"):
        export_file(stored(tmp_path / "a.h5", "clic-ecal-25"), out, format="par04")
    with pytest.raises(DataError, match="no azimuth, shower 1"):
        export_file(stored(tmp_path / "b.h5", incident_phi=[0, 0.1, 0, 0]), out, format="par04")
    with pytest.raises(DataError, match="PDG numbers 11, 22"):
        export_file(stored(tmp_path / "c.h5", pdg_id=[22, 11, 11, 22]), out, format="par04")
    assert not out.exists()

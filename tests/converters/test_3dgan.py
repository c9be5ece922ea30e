"""3DGAN samples in and out, against files built by hand as the samples are laid out."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.errors import ConfigError, DataError, OutputError
from caloforge.geometry import Detector, load_detector
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters import common, export_file, import_file

RIGHT = np.float32(np.pi / 2)


def write(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def fixed(path: Path, n: int = 3, **changes: Any) -> Path:
    """A fixed-angle file: event i has i + 1 GeV in cell x = 2, y = 3, z = 4 of 100 times more incident."""
    ecal = np.zeros((n, 25, 25, 25), np.float32)
    ecal[:, 2, 3, 4] = np.arange(n) + 1
    target = np.stack([np.full(n, 11.0), 100.0 * (np.arange(n) + 1)], axis=1)
    return write(path, **({"ECAL": ecal, "target": target} | changes))


def variable(path: Path, n: int = 3, **changes: Any) -> Path:
    """A variable-angle file: one cell of 2 GeV, which these samples write as 100."""
    ecal = np.zeros((n, 51, 51, 25), np.float32)
    ecal[:, 10, 20, 5] = 100
    columns = {
        "energy": np.linspace(100, 200, n),
        "theta": np.linspace(1.047, 2.094, n),
        "mtheta": np.linspace(1.1, 2.0, n),
        "phi": np.linspace(-3, 3, n),
    }
    return write(path, **({"ECAL": ecal} | columns | changes))


def imported(paths: Path | list[Path], out: Path, **options: Any) -> tuple[ShowerBatch, Detector]:
    paths = [paths] if isinstance(paths, Path) else paths
    with ShowerFile(import_file(paths, out, format="3dgan", **options)) as file:
        assert file.energy_meaning == "visible"
        return file.read(), file.detector


def test_fixed_angle(tmp_path: Path) -> None:
    batch, detector = imported(fixed(tmp_path / "EleEscan_1_2.h5"), tmp_path / "out.h5")
    assert detector == load_detector("clic-ecal-25")
    # layer first, then y, then x; GeV became MeV
    assert np.array_equal(batch.showers[:, 4, 3, 2], [1000, 2000, 3000])
    assert np.array_equal(batch.visible_energy(), [1000, 2000, 3000])
    assert np.array_equal(batch.incident_energy, [1e5, 2e5, 3e5])
    assert np.array_equal(batch.incident_theta, [RIGHT] * 3)
    assert np.array_equal(batch.incident_phi, [0] * 3)
    assert np.array_equal(batch.pdg_id, [11] * 3)


def test_variable_angle(tmp_path: Path) -> None:
    path = variable(tmp_path / "Ele_VarAngleMeas_100_200_001.h5")
    batch, detector = imported(path, tmp_path / "out.h5")
    assert detector == load_detector("clic-ecal-51")
    assert np.array_equal(batch.showers[:, 5, 20, 10], [2000] * 3)
    assert np.array_equal(batch.visible_energy(), [2000] * 3)
    assert np.allclose(batch.incident_energy, [1e5, 1.5e5, 2e5])
    # the true angle, not the measured one; and not the azimuth around the beam of the collider
    assert np.allclose(batch.incident_theta, [1.047, 1.5705, 2.094])
    assert np.array_equal(batch.incident_phi, [0] * 3)


def test_the_shower_leans_as_theta_says(tmp_path: Path) -> None:
    # theta below pi/2 flies towards positive y (axis 1 of ECAL) as the depth grows
    ecal = np.zeros((1, 51, 51, 25), np.float32)
    for z in range(25):
        ecal[0, 25, 15 + z // 2, z] = 5
    path = variable(
        tmp_path / "Ele_a.h5", n=1, ECAL=ecal, theta=[1.2], energy=[100.0], mtheta=[1.2], phi=[0.0]
    )
    batch, detector = imported(path, tmp_path / "out.h5")
    direction_y = np.cos(batch.incident_theta[0])
    rows = batch.showers[0].sum(axis=2).argmax(axis=1)
    assert detector.mesh.y_centres()[1] > detector.mesh.y_centres()[0]
    assert np.sign(rows[-1] - rows[0]) == np.sign(direction_y) == 1


def test_older_layouts_and_a_channel_axis(tmp_path: Path) -> None:
    target = np.zeros((2, 1, 5))
    target[:, 0, :2] = [[22, 50], [22, 60]]
    ecal = np.ones((2, 25, 25, 25, 1), np.float64) * 1e-4
    path = fixed(tmp_path / "events.h5", ECAL=ecal, target=target)
    batch, _ = imported(path, tmp_path / "out.h5")
    assert np.array_equal(batch.incident_energy, [5e4, 6e4])
    assert np.array_equal(batch.pdg_id, [22, 22])
    assert np.allclose(batch.showers, 1e-1)
    measured = variable(tmp_path / "Ele_b.h5", theta=[1.3, 1.4, 1.5])
    with h5py.File(measured, "a") as file:
        del file["theta"]
    batch, _ = imported(measured, tmp_path / "measured.h5")
    assert np.allclose(batch.incident_theta, [1.1, 1.55, 2.0])


@pytest.mark.parametrize(
    ("name", "pdg_id"),
    [
        ("EleEscan_1_2.h5", 11),
        ("GammaEscan_1.h5", 22),
        ("Pi0Escan_4_1.h5", 111),
        ("ChPi_2.h5", 211),
        ("Ele.h5", 11),
    ],
)
def test_the_name_of_the_file_tells_the_particle(tmp_path: Path, name: str, pdg_id: int) -> None:
    path = fixed(tmp_path / name, target=np.array([[0, 1e2]] * 3))
    batch, _ = imported(path, tmp_path / "out.h5")
    assert np.array_equal(batch.pdg_id, [pdg_id] * 3)
    batch, _ = imported(path, tmp_path / "option.h5", particle="pi-")
    assert np.array_equal(batch.pdg_id, [-211] * 3)


def test_particles_of_a_mixed_file_are_kept(tmp_path: Path) -> None:
    path = variable(tmp_path / "mixed.h5", pdgID=[11, 22, 111])
    batch, _ = imported(path, tmp_path / "out.h5")
    assert np.array_equal(batch.pdg_id, [11, 22, 111])


def test_several_files_are_appended_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "BLOCK_BYTES", 2 * 4 * 25**3)
    paths = [fixed(tmp_path / f"EleEscan_1_{n}.h5", n=n) for n in (5, 1, 4)]
    seen: list[tuple[int, int]] = []
    batch, _ = imported(paths, tmp_path / "out.h5", progress=lambda *done: seen.append(done))
    expected = [1, 2, 3, 4, 5, 1, 1, 2, 3, 4]
    assert np.array_equal(batch.showers[:, 4, 3, 2], np.array(expected) * 1000)
    assert np.array_equal(batch.incident_energy, np.array(expected) * 1e5)
    assert seen == [(2, 10), (4, 10), (5, 10), (6, 10), (8, 10), (10, 10)]


def test_own_detector(tmp_path: Path) -> None:
    # the crop that 3DGAN scripts make of the wide samples
    narrow = variable(tmp_path / "Ele_crop.h5", ECAL=np.full((3, 25, 25, 25), 1e-2))
    _, detector = imported(narrow, tmp_path / "narrow.h5")
    assert detector.name == "clic-ecal-25"
    small = fixed(tmp_path / "Ele_s.h5", ECAL=np.ones((3, 4, 5, 25)) * 1e-2)
    with pytest.raises(DataError, match=r"4 x 5 x 25 cells.*--detector"):
        imported(small, tmp_path / "small.h5")
    own = load_detector("clic-ecal-25", ("mesh.nx=4", "mesh.ny=5"))
    _, detector = imported(small, tmp_path / "small.h5", detector=own)
    assert detector == own
    with pytest.raises(DataError, match=r"\(25, 5, 4\) \(z, y, x\), the detector clic-ecal-51"):
        imported(small, tmp_path / "other.h5", detector=load_detector("clic-ecal-51"))


# ---- wrong files


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ECAL": np.full((3, 25, 25, 25), np.nan)}, "3 of 3 showers hold NaN"),
        ({"ECAL": np.full((3, 25, 25, 25), 1e38)}, "3 of 3 showers"),
        ({"ECAL": np.ones((3, 25, 25))}, "shapes do not fit"),
        ({"ECAL": np.ones((2, 25, 25, 25))}, "shapes do not fit"),
        ({"ECAL": np.ones((3, 25, 25, 25, 2))}, "shapes do not fit"),
        ({"ECAL": np.ones((0, 25, 25, 25))}, "holds no showers"),
        ({"ECAL": np.full((3, 25, 25, 25), b"x")}, "expected numbers"),
        ({"target": np.ones(3)}, r"expected \(N, 2\)"),
        (
            {"target": [[11, 5], [11, 0], [11, -1]]},
            "2 of 3 incident energies are out of range, first in number 1",
        ),
        ({"target": [[11, 5], [11, 2e5], [11, 1]]}, "up to 1e[+]08 MeV"),
        ({"target": [[11, 5], [11, np.inf], [11, 1]]}, "target holds NaN or infinite values in 1 of 3"),
        (
            {"ECAL": np.ones((3, 25, 25, 25)) * 5},
            "391 times the incident energy on the mean, expected 0.0064 to 0.048",
        ),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        imported(fixed(tmp_path / "Ele_1.h5", **changes), tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["Ele_1.h5"]


def test_nan_events_are_counted_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "BLOCK_BYTES", 2 * 4 * 25**3)
    ecal = np.zeros((9, 25, 25, 25), np.float32)
    ecal[:, 2, 3, 4] = np.arange(9) + 1
    ecal[[4, 7, 8], 3, 3, 3] = np.nan
    path = fixed(tmp_path / "EleEscan_1_1.h5", n=9, ECAL=ecal)
    with pytest.raises(DataError, match=r"EleEscan_1_1.h5: 3 of 9 showers .* first number 4"):
        imported(path, tmp_path / "out.h5")


def test_voxels_below_zero_are_kept_and_counted(tmp_path: Path) -> None:
    # noise, or what `caloforge convert --to 3dgan` made of a shower file that has some
    detector = load_detector("clic-ecal-25")
    batch = showers(detector, 3)
    batch.showers[1, 2, 3, 4] = -0.5
    out = export_file(stored(tmp_path / "in.h5", detector, batch), tmp_path / "Ele_1.h5", format="3dgan")
    with ShowerFile(import_file([out], tmp_path / "back.h5", format="3dgan")) as file:
        assert np.allclose(file.read().showers, batch.showers, rtol=1e-6)
        assert file.read().showers[1, 2, 3, 4] == -0.5
        assert file.provenance["negative_cells"] == 1


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1 / 50, "variable-angle 3DGAN files hold 50 x GeV, these have no factor"),
        (1000, "1000 times too much: the incident energies are in GeV"),
        (30, "sampling fraction is corrected; label them so"),
    ],
)
def test_the_response_tells_units_and_factors(tmp_path: Path, factor: float, words: str) -> None:
    ecal = np.zeros((3, 51, 51, 25), np.float32)
    ecal[:, 10, 20, 5] = factor * 50 * 0.0264 * 150
    path = variable(tmp_path / "Ele_1.h5", ECAL=ecal, energy=np.full(3, 150.0))
    with pytest.raises(DataError, match=words) as caught:
        imported(path, tmp_path / "out.h5")
    assert "minimum-ionising particle leaves 2.64%" in str(caught.value)


def test_degrees_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got 60, expected radians"):
        imported(variable(tmp_path / "Ele_1.h5", theta=[60, 90, 120]), tmp_path / "out.h5")


def test_what_is_no_3dgan_file_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    other = write(tmp_path / "Ele_x.h5", X=np.ones((2, 25, 25, 25, 1)), y=np.ones(2))
    with pytest.raises(DataError, match=r"found X \(2, 25, 25, 25, 1\), y \(2,\); expected ECAL with target"):
        imported(other, out)
    (tmp_path / "empty.h5").touch()
    with pytest.raises(DataError, match="is empty"):
        imported(tmp_path / "empty.h5", out)
    (tmp_path / "text.h5").write_text("energy")
    with pytest.raises(DataError, match="no HDF5 file"):
        imported(tmp_path / "text.h5", out)
    whole = fixed(tmp_path / "Ele_1.h5").read_bytes()
    (tmp_path / "Ele_cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        imported(tmp_path / "Ele_cut.h5", out)
    with pytest.raises(DataError, match="no such file"):
        imported(tmp_path / "none.h5", out)
    with pytest.raises(DataError, match="shower file already"):
        imported(import_file([tmp_path / "Ele_1.h5"], tmp_path / "s.h5", format="3dgan"), out)
    with pytest.raises(DataError, match="which particle"):
        imported(fixed(tmp_path / "events.h5", target=[[1, 5], [1, 6], [1, 7]]), out)
    assert not out.exists()


def test_values_in_other_files_are_not_followed(tmp_path: Path) -> None:
    real = fixed(tmp_path / "Ele_1.h5")
    for name, ecal in (
        ("Ele_soft.h5", h5py.SoftLink("/secret")),
        ("Ele_link.h5", h5py.ExternalLink(str(real), "/ECAL")),
    ):
        path = write(tmp_path / name, ECAL=ecal, target=np.ones((3, 2)))
        with pytest.raises(DataError, match=r"data set 'ECAL' is missing.* expected a 3DGAN file"):
            imported(path, tmp_path / "out.h5", particle="e-")
    path = write(tmp_path / "Ele_external.h5", target=np.ones((3, 2)))
    with h5py.File(path, "a") as file:
        file.create_dataset("ECAL", (3, 25, 25, 25), "f4", external=[(str(real), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(DataError, match="numbers that lie in the file itself"):
        imported(path, tmp_path / "out.h5", particle="e-")


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    path, out = fixed(tmp_path / "Ele_1.h5"), tmp_path / "out.h5"
    with pytest.raises(ConfigError, match="Did you mean 'gamma'"):
        imported(path, out, particle="gama")
    for option in ({"dataset": "2"}, {"binning": Path("b.xml")}, {"visible": True}):
        with pytest.raises(ConfigError, match=r"belongs? to --format calochallenge"):
            imported(path, out, **option)
    with pytest.raises(ConfigError, match="Did you mean '3dgan'"):
        import_file([path], out, format="3dgam")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one file"):
        import_file([], out, format="3dgan")
    out.touch()
    with pytest.raises(OutputError, match="exists already"):
        imported(path, out)
    with pytest.raises(OutputError, match="this is the input"):
        imported(path, path, force=True)


# ---- out


def showers(detector: Detector, n: int, seed: int = 1, **changes: Any) -> ShowerBatch:
    rng = np.random.default_rng(seed)
    values = rng.exponential(1.0, (n, *detector.shower_shape)) * (
        rng.random((n, *detector.shower_shape)) < 0.2
    )
    columns = {
        "showers": values,
        # the showers hold 3 GeV each, 2 to 4 % of it
        "incident_energy": rng.uniform(8e4, 1.5e5, n),
        "incident_theta": np.full(n, RIGHT),
        "incident_phi": np.zeros(n),
        "pdg_id": rng.choice([11, 22], n),
    }
    return ShowerBatch(**(columns | changes))


def stored(path: Path, detector: Detector, batch: ShowerBatch, **options: Any) -> Path:
    with ShowerWriter(path, detector, {}, **options) as writer:
        writer.append(batch)
    return path


def test_impact_points_are_kept(tmp_path: Path) -> None:
    detector = load_detector("clic-ecal-25")
    x, y = np.float32([[1, -2.5, 0], [0, 0.5, 2]])
    source = stored(tmp_path / "in.h5", detector, showers(detector, 3, impact_x=x, impact_y=y))
    out = export_file(source, tmp_path / "EleEscan.h5", format="3dgan")
    with ShowerFile(import_file([out], tmp_path / "back.h5", format="3dgan")) as file:
        assert np.array_equal(file.column("impact_x"), x)
        assert np.array_equal(file.column("impact_y"), y)


def test_export_is_the_fixed_angle_layout(tmp_path: Path) -> None:
    detector = load_detector("clic-ecal-25")
    batch = showers(detector, 5)
    source = stored(tmp_path / "in.h5", detector, batch)
    out = export_file(source, tmp_path / "EleEscan_1_1.h5", format="3dgan")
    with h5py.File(out) as file:
        assert set(file) == {"ECAL", "target"}
        assert file["ECAL"].shape == (5, 25, 25, 25)
        assert file["target"].shape == (5, 2)
        assert file["ECAL"][1, 7, 8, 9] == pytest.approx(batch.showers[1, 9, 8, 7] / 1000)
        assert np.allclose(file["ECAL"][:].sum(axis=(1, 2, 3)), batch.visible_energy() / 1000)
        assert np.array_equal(file["target"][:, 0], batch.pdg_id)
        assert np.allclose(file["target"][:, 1], batch.incident_energy / 1000, rtol=1e-7)


@pytest.mark.parametrize("name", ["clic-ecal-25", "clic-ecal-51"])
def test_export_is_the_variable_angle_layout(tmp_path: Path, name: str) -> None:
    detector = load_detector(name)
    theta = np.array([1.1, np.pi / 2, 2.0]) if name == "clic-ecal-25" else np.full(3, RIGHT)
    batch = showers(detector, 3, incident_theta=theta)
    out = export_file(stored(tmp_path / "in.h5", detector, batch), tmp_path / "out.h5", format="3dgan")
    with h5py.File(out) as file:
        assert set(file) == {"ECAL", "energy", "theta", "eta", "pdgID"}
        assert file["ECAL"][2, 7, 8, 9] == pytest.approx(batch.showers[2, 9, 8, 7] / 1000 * 50)
        assert np.allclose(file["energy"][:], batch.incident_energy / 1000)
        assert np.allclose(file["theta"][:], theta)
        # pseudorapidity: 0 is orthogonal, positive towards the end cap at small theta
        assert np.allclose(np.tanh(file["eta"][:]), np.cos(theta), atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 12), seed=st.integers(0, 1000), tilted=st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, n: int, seed: int, tilted: bool) -> None:
    folder = tmp_path_factory.mktemp("trip")
    detector = load_detector("clic-ecal-25")
    theta = np.random.default_rng(seed).uniform(1.0, 2.0, n) if tilted else np.full(n, RIGHT)
    batch = showers(detector, n, seed, incident_theta=theta)
    out = export_file(stored(folder / "in.h5", detector, batch), folder / "out.h5", format="3dgan")
    back, detector_back = imported(out, folder / "back.h5")
    assert detector_back == detector
    # two roundings of float32
    assert np.allclose(back.showers, batch.showers, rtol=2.5e-7, atol=0)
    assert np.array_equal(back.incident_energy, batch.incident_energy)
    assert np.array_equal(back.incident_theta, batch.incident_theta)
    assert np.array_equal(back.pdg_id, batch.pdg_id)


def test_what_the_layouts_cannot_hold_is_refused(tmp_path: Path) -> None:
    detector = load_detector("clic-ecal-25")
    out = tmp_path / "out.h5"
    turned = stored(tmp_path / "a.h5", detector, showers(detector, 2, incident_phi=[0, 0.3]))
    with pytest.raises(DataError, match=r"shower 1 has phi = 0\.3"):
        export_file(turned, out, format="3dgan")
    corrected = stored(
        tmp_path / "b.h5", detector, showers(detector, 2), energy_meaning="sampling-fraction corrected"
    )
    with pytest.raises(DataError, match="hold visible energy"):
        export_file(corrected, out, format="3dgan")
    cylinder = load_detector("par04-siw")
    with pytest.raises(DataError, match=r"cylindrical; use --to calochallenge"):
        export_file(stored(tmp_path / "c.h5", cylinder, showers(cylinder, 2)), out, format="3dgan")
    with pytest.raises(ConfigError, match="Valid names"):
        export_file(turned, out, format="root")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="exists already"):
        export_file(stored(tmp_path / "d.h5", detector, showers(detector, 2)), turned, format="3dgan")
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))

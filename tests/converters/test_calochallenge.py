"""CaloChallenge files in and out, against files built by hand and the binning files of the challenge."""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.errors import ConfigError, DataError
from caloforge.geometry import Detector, RaggedMesh, load_detector
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters import common, export_file, import_file
from caloforge.showers.converters.binning import DATASETS, dataset_detector, parse_binning

SHARED = Path(__file__).parents[2].parent / "shared" / "calochallenge"
RIGHT = np.float32(np.pi / 2)
CORRECTED = "sampling-fraction corrected"
# (r bins, sectors) of each layer; arXiv:2410.21611
LAYERS = {
    "1-photons": [(8, 1), (16, 10), (19, 10), (5, 1), (5, 1)],
    "1-pions": [(8, 1), (10, 10), (10, 10), (5, 1), (15, 10), (16, 10), (10, 1)],
}


def write(path: Path, voxels: int, n: int = 4, **changes: Any) -> Path:
    """A file as the challenge writes them (float64, gzip); voxel v of shower i holds i + v / voxels MeV.

    The incident energy is what they hold on the mean.
    """
    showers = np.arange(n)[:, None] + np.arange(voxels) / voxels
    datasets = {"incident_energies": np.full((n, 1), voxels * n / 2), "showers": showers} | changes
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, compression="gzip" if np.ndim(values) else None)
    return path


def imported(paths: Path | list[Path], out: Path, **options: Any) -> tuple[ShowerBatch, ShowerFile]:
    paths = [paths] if isinstance(paths, Path) else paths
    with ShowerFile(import_file(paths, out, format="calochallenge", **options)) as file:
        return file.read(), file


def stored(path: Path, detector: Detector, n: int = 3, meaning: Any = CORRECTED, **changes: Any) -> Path:
    rng, voxels = np.random.default_rng(3), math.prod(detector.shower_shape)
    columns = {
        # a mean of 1 MeV a voxel, of particles that leave 90 % or, seen by the material alone, 4 %
        "showers": rng.exponential(1, (n, *detector.shower_shape)),
        "incident_energy": rng.uniform(0.8, 1.2, n) * voxels / (0.04 if meaning == "visible" else 0.9),
        "incident_theta": np.full(n, RIGHT),
        "incident_phi": np.zeros(n),
        "pdg_id": np.full(n, 22),
    }
    with ShowerWriter(path, detector, {}, energy_meaning=meaning) as writer:
        writer.append(ShowerBatch(**(columns | changes)))
    return path


# ---- the meshes


@pytest.mark.parametrize("dataset", LAYERS)
def test_set_1_is_ragged(dataset: str) -> None:
    detector, pdg_id = dataset_detector(dataset)
    assert isinstance(detector.mesh, RaggedMesh)
    layers = detector.mesh.layers
    assert [(len(layer.r_edges) - 1, layer.nphi) for layer in layers] == LAYERS[dataset]
    assert detector.shower_shape == (DATASETS[dataset],)
    assert [layer.id for layer in layers] == [0, 1, 2, 3, 12, 13, 14][: len(layers)]
    assert layers[0].r_edges == (0, 5, 10, 30, 50, 100, 200, 400, 600)
    assert pdg_id == {"1-photons": 22, "1-pions": 211}[dataset]


@pytest.mark.parametrize(("dataset", "shape", "cell"), [("2", (45, 16, 9), 4.65), ("3", (45, 50, 18), 2.325)])
def test_sets_2_and_3_are_par04(dataset: str, shape: tuple[int, ...], cell: float) -> None:
    detector, pdg_id = dataset_detector(dataset)
    assert detector.shower_shape == shape
    assert math.prod(shape) == DATASETS[dataset]
    assert detector.mesh.cell_r == cell
    assert detector.physical_layers() == load_detector("par04-siw").physical_layers()
    assert detector.depth == pytest.approx(153)
    assert pdg_id == 11


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_meshes_are_those_of_the_challenge(dataset: str) -> None:
    path = SHARED / f"binning_dataset_{dataset.replace('-', '_')}.xml"
    if not path.exists():
        pytest.skip("the binning files of the challenge are not here")
    theirs, pdg_id = parse_binning(path.read_bytes(), str(path), "theirs")
    ours, our_pdg_id = dataset_detector(dataset)
    assert pdg_id == our_pdg_id
    if isinstance(ours.mesh, RaggedMesh):
        assert ours.mesh == theirs.mesh
        return
    assert len(theirs.mesh.layers) == ours.n_layers
    for layer in theirs.mesh.layers:
        assert layer.nphi == ours.mesh.nphi
        assert np.allclose(layer.r_edges, np.arange(ours.mesh.nr + 1) * ours.mesh.cell_r)


# ---- in


def test_set_2_in(tmp_path: Path) -> None:
    batch, file = imported(write(tmp_path / "dataset_2_1.hdf5", 6480), tmp_path / "out.h5")
    assert file.detector == load_detector("par04-siw")
    assert file.energy_meaning == CORRECTED
    # the flat index of layer 7, sector 5, ring 3, with r fastest and the layer slowest
    assert batch.showers[2, 7, 5, 3] == pytest.approx(2 + (7 * 144 + 5 * 9 + 3) / 6480)
    assert np.array_equal(batch.incident_energy, [2 * 6480] * 4)
    assert np.array_equal(batch.incident_theta, [RIGHT] * 4)
    assert np.array_equal(batch.incident_phi, [0] * 4)
    assert np.array_equal(batch.pdg_id, [11] * 4)


def test_visible_energy_is_what_the_silicon_saw(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_2_1.hdf5", 6480)
    corrected, _ = imported(path, tmp_path / "corrected.h5")
    visible, file = imported(path, tmp_path / "visible.h5", visible=True)
    assert file.energy_meaning == "visible"
    assert file.provenance["sampling_fraction"] == 0.033
    assert np.allclose(visible.showers, corrected.showers * 0.033)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_number_of_voxels_tells_the_data_set(tmp_path: Path, dataset: str) -> None:
    path = write(tmp_path / "data.hdf5", DATASETS[dataset], n=2)
    batch, file = imported(path, tmp_path / "out.h5")
    detector, pdg_id = dataset_detector(dataset)
    assert file.detector == detector
    assert np.array_equal(batch.pdg_id, [pdg_id] * 2)
    assert np.allclose(batch.showers[1].ravel(), 1 + np.arange(DATASETS[dataset]) / DATASETS[dataset])
    again, file = imported(path, tmp_path / "named.h5", dataset=dataset, particle="pi-")
    assert file.detector == detector
    assert np.array_equal(again.pdg_id, [-211] * 2)


def test_several_files_are_appended_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "BLOCK_BYTES", 3 * 8 * 368)
    paths = [write(tmp_path / f"{n}.hdf5", 368, n=n) for n in (5, 2)]
    batch, file = imported(paths, tmp_path / "out.h5")
    assert np.array_equal(batch.showers[:, 0], [0, 1, 2, 3, 4, 0, 1])
    assert file.provenance["files"] == [{"name": "5.hdf5", "showers": 5}, {"name": "2.hdf5", "showers": 2}]


BINNING = """<Bins><Bin pid="{pid}"><Layer id="0" r_edges="0,1.5,4" n_bin_alpha="2"/>
<Layer id="1" r_edges="0" n_bin_alpha="1"/><Layer id="4" r_edges="0,10" n_bin_alpha="1"/></Bin></Bins>"""


def test_own_binning(tmp_path: Path) -> None:
    binning = tmp_path / "my binning.xml"
    binning.write_text(BINNING.format(pid=13))
    path = write(tmp_path / "data.hdf5", 5)
    batch, file = imported(path, tmp_path / "out.h5", binning=binning)
    assert file.detector.name == "my-binning"
    assert [(layer.id, layer.r_edges, layer.nphi) for layer in file.detector.mesh.layers] == [
        (0, (0, 1.5, 4), 2),
        (4, (0, 10), 1),
    ]
    assert np.array_equal(batch.pdg_id, [13] * 4)
    with pytest.raises(DataError, match="showers of 5 voxels, the data sets have 368"):
        imported(path, tmp_path / "b.h5")
    with pytest.raises(DataError, match="showers of 6 voxels, but my-binning has 5"):
        imported(write(tmp_path / "six.hdf5", 6), tmp_path / "b.h5", binning=binning)
    binning.write_text(BINNING.replace('pid="{pid}"', ""))
    with pytest.raises(ConfigError, match="Give --particle"):
        imported(path, tmp_path / "b.h5", binning=binning)


def test_own_detector(tmp_path: Path) -> None:
    detector = load_detector("par04-scipb", ("mesh.nr=3", "mesh.nphi=4"))
    path = write(tmp_path / "data.hdf5", math.prod(detector.shower_shape))
    batch, file = imported(path, tmp_path / "out.h5", detector=detector, particle="gamma")
    assert file.detector == detector
    assert batch.showers[0, 2, 3, 1] == pytest.approx((2 * 12 + 3 * 3 + 1) / math.prod(detector.shower_shape))
    with pytest.raises(ConfigError, match="sampling fraction of par04-scipb is not known"):
        imported(path, tmp_path / "b.h5", detector=detector, particle="gamma", visible=True)


# ---- wrong files and options


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"showers": np.full((4, 368), np.nan)}, "4 of 4 showers hold NaN"),
        ({"showers": np.full((4, 368), 1e4)}, r"5e\+03 times the incident energy .* expected 0.25 to 2"),
        ({"showers": np.full((4, 368), -1)}, "-0.5 times the incident energy"),
        ({"showers": np.ones((3, 368))}, "not a CaloChallenge file"),
        ({"showers": np.ones((4, 8, 46))}, "not a CaloChallenge file"),
        ({"showers": np.ones((4, 369))}, "369 voxels"),
        ({"showers": np.ones((0, 368))}, "holds no showers"),
        ({"incident_energies": np.ones((4, 2))}, "not a CaloChallenge file"),
        ({"incident_energies": np.array([[1e6], [0], [1e6], [-2]])}, "2 of 4 incident energies"),
        ({"incident_energies": np.array([[1e6], [1e6], [np.nan], [1e6]])}, "first in number 2"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        imported(write(tmp_path / "data.hdf5", 368, **changes), tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["data.hdf5"]


def test_voxels_below_zero_are_kept(tmp_path: Path) -> None:
    showers = np.full((4, 368), 2.0) - 2.5 * np.eye(4, 368)
    batch, file = imported(write(tmp_path / "data.hdf5", 368, showers=showers), tmp_path / "out.h5")
    assert np.array_equal(batch.showers, showers)
    assert file.provenance["negative_cells"] == 4


def test_the_response_tells_visible_from_corrected(tmp_path: Path) -> None:
    path = write(tmp_path / "data.hdf5", 6480, showers=np.full((4, 6480), 2 * 0.033))
    # nothing to undo: these are what the silicon saw already
    for visible in (False, True):
        batch, file = imported(path, tmp_path / f"{visible}.h5", visible=visible)
        assert file.energy_meaning == "visible"
        assert np.allclose(batch.showers, 0.066)
    path = write(tmp_path / "large.hdf5", 6480, showers=np.full((4, 6480), 2 * 30))
    with pytest.raises(DataError, match=r"30 times the incident energy .* expected 0.25 to 2"):
        imported(path, tmp_path / "large.h5")
    with pytest.raises(DataError, match=r"0.99 times the .* 0.0089 to 0.064 .*minimum-ionising.*label them"):
        imported(path, tmp_path / "large.h5", visible=True)


def test_wrong_combinations_are_refused(tmp_path: Path) -> None:
    path, out = write(tmp_path / "data.hdf5", 368), tmp_path / "out.h5"
    with pytest.raises(ConfigError, match="--detector and --dataset both say"):
        imported(path, out, detector=load_detector("par04-siw"), dataset="2")
    with pytest.raises(ConfigError, match="--dataset: got '4'"):
        imported(path, out, dataset="4")
    with pytest.raises(DataError, match="showers of 368 voxels, but par04-siw has 6480"):
        imported(path, out, dataset="2")
    with pytest.raises(ConfigError, match="--visible: the sampling fraction"):
        imported(path, out, visible=True)
    with pytest.raises(DataError, match=r"other.hdf5: showers of 533 voxels"):
        imported([path, write(tmp_path / "other.hdf5", 533)], out)
    with h5py.File(tmp_path / "half.hdf5", "w") as file:
        file["showers"] = np.ones((2, 368))
    with pytest.raises(DataError, match=r"no data set 'incident_energies' .* found showers \(2, 368\)"):
        imported(tmp_path / "half.hdf5", out)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<Bins>", "not valid XML"),
        ('<!DOCTYPE x [<!ENTITY a "1,2">]>' + BINNING, "no DOCTYPE"),
        (BINNING.replace("Layer id", "Cell id"), "element <Cell>"),
        ("<Bins></Bins>", "got 0 <Bin> elements"),
        ('<Bins><Bin pid="11"></Bin></Bins>', "at least 1"),
        (BINNING.replace("<Bins>", '<Bins><Bin pid="1"></Bin>'), "got 2 <Bin> elements"),
        (BINNING.replace("0,1.5,4", "0,4,1.5"), "rising radii"),
        (BINNING.replace("0,1.5,4", "0,x"), "r_edges: got 'x', expected float"),
        (BINNING.replace("0,1.5,4", "0,nan"), "nan mm"),
        (BINNING.replace('n_bin_alpha="2"', 'n_bin_alpha="0"'), "nphi"),
        (BINNING.replace('n_bin_alpha="2"', 'n_bin_alpha="2.5"'), "n_bin_alpha: got '2.5', expected int"),
        (BINNING.replace('n_bin_alpha="2"', ""), "lacks n_bin_alpha"),
        (BINNING.replace("{pid}", "electron"), "pid: got 'electron'"),
        ("x" * (2**20 + 1), "at most 1048576"),
    ],
)
def test_wrong_binning_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    binning = tmp_path / "binning.xml"
    binning.write_text(text.format(pid=11) if "{pid}" in text else text)
    with pytest.raises(DataError, match=words):
        imported(write(tmp_path / "data.hdf5", 5), tmp_path / "out.h5", binning=binning)


def test_a_missing_binning_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.xml: cannot read this binning"):
        imported(write(tmp_path / "data.hdf5", 5), tmp_path / "out.h5", binning=tmp_path / "none.xml")


# ---- out


def test_export_is_the_layout_of_the_challenge(tmp_path: Path) -> None:
    detector = load_detector("par04-siw")
    source = stored(tmp_path / "in.h5", detector)
    with h5py.File(export_file(source, tmp_path / "out.hdf5", format="calochallenge")) as file:
        assert set(file) == {"incident_energies", "showers"}
        assert file["incident_energies"].shape == (3, 1)
        assert file["showers"].shape == (3, 6480)
        assert file.attrs["energy_meaning"] == CORRECTED
        assert "sampling_fraction" not in file.attrs
        with ShowerFile(source) as showers:
            batch = showers.read()
        assert file["showers"][1, (8 * 16 + 11) * 9 + 4] == batch.showers[1, 8, 11, 4]
        assert np.array_equal(file["incident_energies"][:, 0], batch.incident_energy)


def test_visible_silicon_energy_is_corrected_on_the_way_out(tmp_path: Path) -> None:
    detector = load_detector("par04-siw")
    source = stored(tmp_path / "in.h5", detector, meaning="visible")
    out = export_file(source, tmp_path / "out.hdf5", format="calochallenge")
    with h5py.File(out) as file, ShowerFile(source) as showers:
        batch = showers.read()
        assert file.attrs["sampling_fraction"] == 0.033
        assert np.allclose(file["showers"][:], batch.showers.reshape(3, -1) / 0.033)
    back, file = imported(out, tmp_path / "back.h5", visible=True)
    assert file.energy_meaning == "visible"
    assert np.allclose(back.showers, batch.showers, rtol=2.5e-7, atol=0)
    # the layout has no particle, but what caloforge wrote it knows
    assert np.array_equal(back.pdg_id, [22] * 3)


def test_visible_energy_of_other_stacks_stays(tmp_path: Path) -> None:
    detector = load_detector("par04-scipb", ("mesh.nr=3",))
    source = stored(tmp_path / "in.h5", detector, meaning="visible")
    out = export_file(source, tmp_path / "out.hdf5", format="calochallenge")
    back, file = imported(out, tmp_path / "back.h5", detector=detector, visible=True)
    assert file.energy_meaning == "visible"
    with ShowerFile(source) as showers:
        assert np.array_equal(back.showers, showers.read().showers)


@settings(max_examples=8, deadline=None)
@given(dataset=st.sampled_from(["1-photons", "1-pions", "2"]), n=st.integers(1, 9))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, dataset: str, n: int) -> None:
    folder = tmp_path_factory.mktemp("trip")
    detector, _ = dataset_detector(dataset)
    source = stored(folder / "in.h5", detector, n)
    back, file = imported(
        export_file(source, folder / "out.hdf5", format="calochallenge"), folder / "back.h5"
    )
    assert (file.detector, file.energy_meaning) == (detector, CORRECTED)
    with ShowerFile(source) as showers:
        batch = showers.read()
    for name in ("showers", "incident_energy", "incident_theta", "incident_phi", "pdg_id"):
        assert np.array_equal(getattr(back, name), getattr(batch, name)), name


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    detector, out = load_detector("par04-siw"), tmp_path / "out.hdf5"
    tilted = stored(tmp_path / "a.h5", detector, incident_theta=[RIGHT, 1.4, RIGHT])
    with pytest.raises(DataError, match="shower 1 is not orthogonal"):
        export_file(tilted, out, format="calochallenge")
    mixed = stored(tmp_path / "b.h5", detector, pdg_id=[22, 11, 11])
    with pytest.raises(DataError, match="PDG numbers 11, 22"):
        export_file(mixed, out, format="calochallenge")
    square = stored(tmp_path / "c.h5", load_detector("clic-ecal-25"), meaning="visible")
    with pytest.raises(DataError, match="mesh is cartesian; use --to 3dgan"):
        export_file(square, out, format="calochallenge")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5", "c.h5"]

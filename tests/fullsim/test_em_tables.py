"""The tables written for Geant4: shares, edges, sources, and a cache that several processes may write."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from caloforge.errors import MissingDependencyError, OutputError, SimulationError
from caloforge.fullsim import geant4_import
from caloforge.fullsim.config import FULL_EM_PHYSICS, HADRONIC_PHYSICS, PHYSICS, FullSimConfig
from caloforge.fullsim.em_tables import (
    EDGE_GAP,
    MAX_Z,
    coherent,
    photoelectric,
    table_directory,
    table_texts,
    write_tables,
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for variable in (*geant4_import.DATA_VARIABLES, geant4_import.DATA_ROOT):
        # set first, so that what a test leaves behind is taken away again
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    return tmp_path


def vector(text):
    """Energies and values of a table with the header of one physics vector."""
    head, count, *lines = text.splitlines()
    x, y = np.array([line.split() for line in lines], float).T
    assert len(x) == int(count) == int(head.split()[2])
    np.testing.assert_allclose([x[0], x[-1]], [float(v) for v in head.split()[:2]])
    return x, y


# K share = 1 - 1/(jump ratio); Elam, Ravel, Sieber 2002: 5.099 in W, 10.37 in Si
@pytest.mark.parametrize(("z", "share"), [(74, 0.804), (14, 0.904), (82, 0.797)])
def test_share_of_the_k_shell(z, share):
    # the trap: taken from the cross sections beside the edge it comes out as 0
    photo = photoelectric(z)
    assert photo.k_fraction == pytest.approx(share, abs=0.01)
    k, other = shells(table_texts(z)[f"epics2017/phot/pe-ss-cs-{z}.dat"])
    total = dict(zip(*vector(table_texts(z)[f"epics2017/phot/pe-cs-{z}.dat"]), strict=True))
    rest = dict(zip(*other, strict=True))
    for energy, value in zip(*k, strict=True):
        assert value / total[energy] == pytest.approx(photo.k_fraction, rel=1e-6)
        assert (value + rest[energy]) / total[energy] == pytest.approx(1, rel=1e-6)


def shells(text):
    lines = text.splitlines()
    result = []
    while lines:
        _, _, count, shell = lines[0].split()
        # Geant4 takes it as an index into the list of bindings
        assert int(shell) == len(result)
        points, lines = lines[1 : int(count) + 1], lines[int(count) + 1 :]
        result.append(np.array([point.split() for point in points], float).T)
    return result


@pytest.mark.parametrize("z", range(1, MAX_Z + 1))
def test_tables_of_every_element(z):
    import xraydb

    edges = np.array([edge.energy for edge in xraydb.xray_edges(z).values()]) * 1e-6
    texts = table_texts(z)
    vectors = [name for name in texts if "/pe-cs" in name or "/pe-le-cs" in name or "/re-cs" in name]
    assert len(vectors) == (2 if z <= 3 else 3)
    for name in vectors:
        energy, value = vector(texts[name])
        assert np.all(np.diff(energy) > 0), name
        assert np.all(value > 0), name
        assert np.all(np.isfinite(value)), name
        if "/pe-" in name:
            distance = np.abs(energy[:, None] / edges - 1).min()
            assert distance > 0.98 * EDGE_GAP, name
    shell_count = int(texts[f"epics2017/phot/pe-high-{z}.dat"].split()[0])
    assert (f"epics2017/phot/pe-ss-cs-{z}.dat" in texts) == (shell_count > 1)


# barn per atom = cm2/g x A / 0.6022. NIST XCOM, W at 100 keV: photoelectric 3.98 cm2/g, coherent 0.17 to 0.25
def test_jump_at_the_edge_and_sizes_of_tungsten():
    photo = photoelectric(74)
    jump = photo.high_barn[0] / photo.low_barn[-1]
    assert jump == pytest.approx(1 / (1 - photo.k_fraction), rel=0.1)
    to_mass = 0.602214 / 183.84
    at_100_kev = np.exp(np.interp(np.log(0.1), np.log(photo.high), np.log(photo.high_barn))) * to_mass
    assert 3.8 < at_100_kev < 4.3
    energy, barn = coherent(74)
    rayleigh = np.exp(np.interp(np.log(0.1), np.log(energy), np.log(barn))) * to_mass
    assert 0.1 < rayleigh < 0.35


def test_rayleigh_table_is_in_mm2():
    # a table in barn would give free paths of 1e-38 mm, and a shower that never ends
    energy, barn = coherent(74)
    x, y = vector(table_texts(74)["epics2017/rayl/re-cs-74.dat"])
    np.testing.assert_allclose(y / x**2, barn * 1e-22, rtol=1e-6)
    np.testing.assert_allclose(x, energy, rtol=1e-6)


def test_bremsstrahlung_table_is_the_source():
    lines = table_texts(74)["brem_SB/br74"].splitlines()
    _, nk, n_energy = (int(v) for v in lines[0].split())
    assert (nk, n_energy, len(lines)) == (30, 57, 60)
    np.testing.assert_allclose(np.exp([float(v) for v in lines[2].split()])[[0, -1]], [1e-3, 1e4], rtol=1e-5)


def test_cache_below_xdg_and_written_once(cache):
    root = write_tables([1, 74])
    assert root == table_directory()
    assert root.parent == cache / "caloforge"
    assert (root / "ENSDFSTATE.dat").read_bytes() == b""
    before = (root / "brem_SB/br74").stat().st_mtime_ns
    assert write_tables([74, 14]) == root
    assert (root / "brem_SB/br74").stat().st_mtime_ns == before
    assert (root / "epics2017/rayl/re-cs-14.dat").exists()


def test_relative_cache_home_is_ignored(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", str(cache))
    assert table_directory().parent == cache / ".cache/caloforge"


def test_several_writers_at_once(cache):
    with ThreadPoolExecutor(4) as pool:
        roots = set(pool.map(lambda _: write_tables([1, 14, 74]), range(8)))
    (root,) = roots
    for z in (1, 14, 74):
        for name, text in table_texts(z).items():
            assert (root / name).read_text() == text
    assert not list(root.rglob(".*"))


def test_an_element_killed_half_way_is_written_again(cache):
    root = write_tables([14])
    (root / "complete/14").unlink()
    (root / "brem_SB/br14").write_text("0 30")
    write_tables([14])
    assert (root / "brem_SB/br14").read_text() == table_texts(14)["brem_SB/br14"]


@pytest.mark.parametrize("z", [0, 99])
def test_elements_without_tables(cache, z):
    with pytest.raises(SimulationError, match=f"Z = {z}, expected 1 to 98"):
        write_tables([z])


def test_cache_that_cannot_be_written(cache, monkeypatch):
    (cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    with pytest.raises(OutputError, match="set XDG_CACHE_HOME"):
        write_tables([1])


@pytest.fixture
def no_import(monkeypatch):
    """A stand-in: Geant4 can be loaded once in a process, and reads its environment then."""
    module = ModuleType("geant4_pybind")
    module.__spec__ = ModuleSpec("geant4_pybind", None)
    monkeypatch.setitem(sys.modules, "geant4_pybind", module)


def test_environment_is_filled(cache, no_import):
    geant4_import.load_geant4([74])
    assert {os.environ[v] for v in geant4_import.DATA_VARIABLES} == {str(table_directory())}
    # a second call, here or in a child process, knows these for its own and adds to them
    geant4_import.load_geant4([14])
    assert (table_directory() / "brem_SB/br14").exists()
    assert (table_directory() / "brem_SB/br1").exists()


def data_sets(root, elements=(1, 74)):
    """The files of Geant4's data sets that every physics reads; empty, as nothing is read here."""
    emlow = root / "G4EMLOW8.8"
    for path in [*(emlow / f"brem_SB/br{z}" for z in elements), root / "G4ENSDFSTATE3.0/ENSDFSTATE.dat"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return emlow


def test_data_of_the_user_are_kept(cache, no_import, monkeypatch):
    emlow = data_sets(cache / "geant4")
    monkeypatch.setenv("G4LEDATA", str(emlow))
    geant4_import.load_geant4([74])
    assert os.environ["G4LEDATA"] == str(emlow)
    assert os.environ["G4PIIDATA"] == str(table_directory())
    assert not (table_directory() / "brem_SB/br74").exists()


def test_data_root_of_the_user_is_kept(cache, no_import, monkeypatch):
    monkeypatch.setenv("GEANT4_DATA_DIR", str(cache / "geant4"))
    data_sets(cache / "geant4")
    geant4_import.load_geant4([74], hadronic=True, full_em=True)
    assert not [v for v in geant4_import.DATA_VARIABLES if v in os.environ]
    assert [path.name for path in cache.iterdir()] == ["geant4"]
    monkeypatch.setenv("GEANT4_DATA_DIR", str(cache / "nowhere"))
    with pytest.raises(MissingDependencyError, match="no directory"):
        geant4_import.load_geant4([74])


@pytest.mark.parametrize(
    ("variable", "place", "words"),
    [
        ("G4LEDATA", "nowhere", "nowhere, which is no directory; correct it, or unset G4LEDATA"),
        ("G4LEDATA", "geant4", "which lacks brem_SB/br1: not the data set G4EMLOW"),
        ("G4LEDATA", "geant4/G4EMLOW8.8", "which lacks brem_SB/br82"),
        ("G4ENSDFSTATEDATA", "geant4", "which lacks ENSDFSTATE.dat"),
        ("GEANT4_DATA_DIR", "geant4/G4EMLOW8.8", "where no folder G4EMLOW. is; .* unset GEANT4_DATA_DIR"),
        ("GEANT4_DATA_DIR", "geant4", "which lacks brem_SB/br82"),
    ],
)
def test_wrong_data_are_named_before_geant4_reads_them(cache, no_import, monkeypatch, variable, place, words):
    data_sets(cache / "geant4")
    monkeypatch.setenv(variable, str(cache / place))
    with pytest.raises(MissingDependencyError, match=words):
        geant4_import.load_geant4([74, 82])


def test_hadronic_needs_data(cache, no_import, monkeypatch):
    geant4_import.load_geant4([74])
    with pytest.raises(MissingDependencyError) as caught:
        geant4_import.load_geant4([74], hadronic=True)
    for variable in ("G4LEDATA", "G4PARTICLEXSDATA", "G4LEVELGAMMADATA", "G4SAIDXSDATA", "GEANT4_DATA_DIR"):
        assert variable in str(caught.value)
    monkeypatch.setenv("G4LEDATA", str(data_sets(cache / "geant4")))
    geant4_import.load_geant4([74], full_em=True)
    with pytest.raises(MissingDependencyError) as caught:
        geant4_import.load_geant4([74], hadronic=True)
    assert "G4LEDATA" not in str(caught.value)


def test_configuration_does_not_import_geant4():
    code = "import sys, caloforge.fullsim.config, caloforge.beam; print('geant4_pybind' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_configuration():
    from caloforge.config import build
    from caloforge.errors import ConfigError

    config = build(FullSimConfig, {}, "fullsim")
    assert (config.production_cut, config.cell_threshold) == (0.7, 1e-3)
    assert not config.is_hadronic
    assert not config.needs_full_em
    assert build(FullSimConfig, {"physics": "FTFP_BERT"}, "fullsim").is_hadronic
    assert build(FullSimConfig, {"physics": FULL_EM_PHYSICS[0]}, "fullsim").needs_full_em
    assert build(FullSimConfig, config.model_dump(mode="json"), "fullsim") == config
    bad = {"physics": "FTPF_BERT", "production_cut": "0 mm", "cell_threshold": "-1 keV"}
    with pytest.raises(ConfigError) as caught:
        build(FullSimConfig, bad, "fullsim")
    for words in ("Did you mean 'FTFP_BERT'?", "production cut", "cell threshold"):
        assert words in str(caught.value)


def test_every_physics_is_bound():
    package = Path(find_spec("geant4_pybind").origin).parent
    stub = (package / "geant4_pybind.pyi").read_text(encoding="utf-8")
    assert [name for name in PHYSICS if f"class {name}(" not in stub] == []
    assert len(set(PHYSICS)) == len(PHYSICS) > len(HADRONIC_PHYSICS)

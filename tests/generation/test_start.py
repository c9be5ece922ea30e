"""Generating starts soon: machine code that was checked needs no torch, and the choice says what it does."""

import math
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch

from caloforge.conditions import Conditions
from caloforge.errors import ModelError
from caloforge.generation import backend_selection, compiled, engine
from caloforge.generation.backend_selection import plan_for
from caloforge.generation.generate import stream
from caloforge.generation.opening import open_model
from caloforge.generation.plan import Plan
from caloforge.geometry import load_detector
from caloforge.models.layered.condition_scale import ConditionScale
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.store import load_model, read_model, save_model
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.testing.model_contract import fit_to_made_up

# what takes long to load, and numba generation does not need
HEAVY = ("torch", "scipy.stats", "scipy.optimize", "matplotlib", "sklearn", "pandas", "onnxruntime")
RANGES = TrainedRange(energy=(1e4, 5e5), theta=(math.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(11,))
PROGRAM = f"""
import sys
from caloforge.cli import main
assert main(sys.argv[1:]) == 0
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small layered model on disk."""
    config = read_model_config({"family": "layered", "preset": "debug"}, "model")
    detector = load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"))
    built = build_model(config, detector, DataFacts(ranges=RANGES, response_fit=(0.02,)), seed=1)
    built = fit_to_made_up(built, count=200).eval()
    return save_model(built, tmp_path_factory.mktemp("run") / "model", dict(built.state_dict()))


@pytest.fixture
def stored(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return read_model(folder)


def columns(n=20):
    energy = np.geomspace(2e4, 4e5, n).astype(np.float32)
    return Conditions(
        energy, np.full(n, math.pi / 2, np.float32), np.zeros(n, np.float32), np.full(n, 11, np.int32)
    )


def showers(model, backend):
    return np.concatenate([part.showers for part in stream(model, columns(), seed=3, plan=Plan(backend))])


def test_the_released_model_in_machine_code_needs_no_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = []
    for name in ("first.h5", "second.h5"):
        command = ["generate", "clic-electron", "-n", "5", "-o", str(tmp_path / name), "--no-progress"]
        backend = ["--backend", "numba"] if name == "first.h5" else []
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *command, *backend], capture_output=True, text=True, check=True
        )
        assert "numba fp32" in done.stdout
        loaded.append(done.stdout.splitlines()[-1].split())
    # compared with torch once
    assert "torch" in loaded[0]
    assert loaded[1] == []


def test_a_form_that_was_kept_makes_the_same_showers(stored, monkeypatch):
    first = showers(stored, "numba")
    monkeypatch.setattr(engine, "compile_and_check", lambda model: pytest.fail("it was kept"))
    assert np.array_equal(showers(stored, "numba"), first)
    monkeypatch.undo()
    assert np.abs(showers(load_model(stored.folder), "torch") - first).sum() < 1e-3 * first.sum()


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "foreign"])
def test_a_damaged_form_is_made_again(stored, damage):
    first = showers(stored, "numba")
    path = compiled._path(stored)
    good = path.read_bytes()
    middle = len(good) // 2
    bad = {
        "cut": good[:middle],
        "bit": good[:middle] + bytes([good[middle] ^ 16]) + good[middle + 1 :],
        "empty": b"",
        "foreign": b"no tensors at all",
    }
    path.write_bytes(bad[damage])
    assert compiled.read_compiled(stored) is None
    assert np.array_equal(showers(stored, "numba"), first)
    assert compiled.read_compiled(stored) is not None


def test_a_cache_that_cannot_be_written_costs_time_only(stored, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert showers(stored, "numba").sum() > 0
    assert not compiled.is_stored(stored)


def test_a_limit_on_the_size_of_files_costs_time_only(stored, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    form = engine.compile_and_check(load_model(stored.folder))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        compiled.store_compiled(stored, form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not compiled.is_stored(stored)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    compiled.store_compiled(stored, form)
    assert compiled.read_compiled(stored) is not None


def test_other_sources_are_other_code(stored, monkeypatch):
    open_model(stored, Plan("numba"))
    assert compiled.is_compiled("layered")
    monkeypatch.setattr(compiled, "package_version", lambda name: "next")
    assert not compiled.is_compiled("layered")
    assert not compiled.is_stored(stored)


# ---- the choice


def test_another_installation_compiles_its_own_code(tmp_path, monkeypatch):
    """Else the first showers of a second clone would be timed with the compiler's half a minute."""
    here = compiled.code_folder("layered")
    copies = []
    for path in compiled._sources("layered"):
        copies.append(tmp_path / f"{len(copies)}.py")
        copies[-1].write_bytes(path.read_bytes())
    monkeypatch.setattr(compiled, "_sources", lambda _: copies)
    assert compiled.code_folder("layered") != here


def test_auto_takes_what_is_compiled_at_once(stored, monkeypatch):
    open_model(stored, Plan("numba"))
    monkeypatch.setattr(backend_selection, "_loaded", lambda model: pytest.fail("loads torch"))
    assert plan_for(stored, 1, threads=1).backend == "numba"
    assert plan_for(stored, 10**6, threads=2, batch_size=5) == Plan("numba", batch_size=5, threads=2)


def test_auto_compiles_where_the_work_is_worth_it_and_says_so(stored, monkeypatch):
    said = []
    monkeypatch.setattr(backend_selection, "_seconds_with_torch", lambda model, plan: 1e-3)
    assert plan_for(stored, 9_000, threads=1, say=said.append).backend == "torch"
    assert not said
    assert plan_for(stored, 11_000, threads=1, say=said.append).backend == "numba"
    assert "compiling machine code" in said[0]
    # another model of the family has its code already
    assert compiled.is_compiled("layered")
    assert plan_for(load_model(stored.folder), 1, threads=1).backend == "numba"


def test_auto_goes_on_where_code_cannot_be_compiled(stored, monkeypatch):
    said = []
    monkeypatch.setattr(backend_selection, "_seconds_with_torch", lambda model, plan: 1e-3)
    monkeypatch.setattr(backend_selection, "candidates", lambda *a: [])

    def broken(model):
        raise ModelError("the family layered cannot be compiled here")

    monkeypatch.setattr(engine, "compile_and_check", broken)
    assert plan_for(stored, 10**6, threads=1, say=said.append).backend == "torch"
    assert "cannot be compiled here" in said[-1]
    with pytest.raises(ModelError):
        open_model(stored, plan_for(stored, 1, backend="numba"))


# ---- arrays and tensors


def test_conditions_are_the_same_numbers_in_arrays_and_tensors():
    scale = ConditionScale(RANGES.model_copy(update={"theta": (1.0, 2.0), "pdg_ids": (11, 22, -11)}))
    rng = np.random.default_rng(1)
    energy, theta = (rng.uniform(*limits, 100_000).astype(np.float32) for limits in ((1e4, 5e5), (1, 2)))
    phi, pdg_id = np.zeros_like(theta), rng.choice(np.array([11, 22, -11], np.int32), len(theta))
    tensors = [torch.from_numpy(values) for values in (energy, theta, phi, pdg_id)]
    ours = scale.energy_argument(np.log(energy.astype(np.float64))).astype(np.float32)
    theirs = scale.energy_argument(tensors[0].double().log()).float().numpy()
    assert np.array_equal(ours, theirs)
    ours, theirs = scale.others(theta, phi, pdg_id), scale.others(*tensors[1:])
    assert len(ours) == len(theirs) == 3
    assert all(np.array_equal(one, other.numpy()) for one, other in zip(ours, theirs, strict=True))
    assert np.array_equal(scale.particle(pdg_id), scale.particle(tensors[3]).numpy())
    assert set(scale.particle(pdg_id)) == {0, 1, 2}

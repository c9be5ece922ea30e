"""HDF5 files from strangers, damaged or hostile: one clear line, no hang, no gigabytes; see `confined.py`."""

import os
from dataclasses import replace

import bad_hdf5
import bad_models
import numpy as np
import pytest
from confined import Case, assert_rule

FEW, MANY = 14, 700
if os.environ.get("CALOFORGE_SCALE") == "small":
    MANY = 12
# files of each format in the layouts of old and new versions of HDF5
LAYOUTS = [("shower", "v110")] + [
    (kind, libver) for kind in bad_hdf5.VALUES for libver in ("earliest", "latest")
]
# what is odd, but no fault; the filters are an extra
USABLE = ("pdg_id 0", "provenance that is a number", "a list of particles", "Blosc", "Zstandard")


def flipped(folder, kind, libver, count, seed):
    """Cases of one valid file with some bytes changed."""
    rng = np.random.default_rng([seed, len(libver), *kind.encode()])
    path = bad_hdf5.valid(kind, folder / f"valid-{kind}-{libver}.h5", libver)
    content, tables = path.read_bytes(), bad_hdf5.places_of_tables(path)
    for number in range(count):
        target = folder / f"{kind}-{libver}-{number}.h5"
        target.write_bytes(bad_hdf5.damaged(rng, content, tables))
        label = f"flip {number} of {kind}, {libver}, seed {seed}"
        yield Case(label, bad_hdf5.arguments(kind, target), names=target.name, may_pass=True)


def test_what_is_changed_is_valid(tmp_path):
    cases = []
    for kind, libver in LAYOUTS:
        path = bad_hdf5.valid(kind, tmp_path / f"{kind}-{libver}.h5", libver)
        cases.append(Case("valid", bad_hdf5.arguments(kind, path), may_pass=True))
    assert [result.code for result in assert_rule(cases, tmp_path)] == [0] * len(cases)


def test_structures(tmp_path):
    cases = []
    for number, label in enumerate(bad_hdf5.STRUCTURES):
        path = tmp_path / f"{number}.h5"
        kind = bad_hdf5.make_structure(label, path)
        out = None if label in USABLE or kind == "shower" else path.with_name(f"{path.name}.out")
        case = Case(label, bad_hdf5.arguments(kind, path), out, names=path.name, may_pass=label in USABLE)
        cases.append(case)
    assert_rule(cases, tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the detector that the shower files are of."""
    return bad_models.write_good("frozen", tmp_path_factory.mktemp("model") / "frozen", bad_hdf5.DETECTOR)


def as_conditions(model, path):
    out = ["-o", f"{path}.out", "--backend", "torch", "--no-progress"]
    return ["generate", str(model), "--like", str(path), *out]


@pytest.mark.slow
def test_conditions(tmp_path, model):
    """`generate --like` of the same files, of which only the conditions are read."""
    cases = list(flipped(tmp_path, "shower", "v110", FEW, seed=3))
    for number, (label, (kind, _)) in enumerate(bad_hdf5.STRUCTURES.items()):
        if kind == "shower":
            path = tmp_path / f"{number}.h5"
            bad_hdf5.make_structure(label, path)
            cases.append(Case(label, ["inspect", str(path)], may_pass=True))
    cases = [replace(case, arguments=as_conditions(model, case.arguments[-1])) for case in cases]
    assert_rule(cases, tmp_path)


@pytest.mark.slow
def test_changed_bytes(tmp_path):
    cases = [case for kind, libver in LAYOUTS for case in flipped(tmp_path, kind, libver, FEW, seed=1)]
    assert_rule(cases, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "libver"), LAYOUTS)
def test_many_changed_bytes(tmp_path, kind, libver):
    assert_rule(list(flipped(tmp_path, kind, libver, MANY, seed=2)), tmp_path)

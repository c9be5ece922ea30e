"""`caloforge export`: the folder, its manifest, what is refused, and the agreement of the runtimes."""

import json
import os

import numpy as np
import onnx
import pytest
import torch
from small_models import small_model

import caloforge
from caloforge.errors import ConfigError, ModelError, OutputError
from caloforge.exporting import folder as export_module
from caloforge.exporting.contract import REFERENCE_SHOWERS
from caloforge.exporting.folder import export_folder, run_onnx
from caloforge.exporting.registry import TARGETS
from caloforge.exporting.targets.openvino import run as run_openvino
from caloforge.models.parity import condition_of, sample_inputs
from caloforge.provenance import digest_file

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SCALE = os.environ.get("CALOFORGE_SCALE", "full")


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def reference_of(folder):
    manifest = manifest_of(folder)
    data = (folder / manifest["reference"]["name"]).read_bytes()
    return {
        tensor["name"]: np.frombuffer(
            data, np.dtype(tensor["type"]).newbyteorder("<"), np.prod(tensor["shape"]), tensor["first_byte"]
        ).reshape(tensor["shape"])
        for tensor in manifest["reference"]["tensors"]
    }


# ---- the folder


def test_the_manifest_says_what_a_consumer_needs(exported, stored):
    folder = exported("onnx", particles=(11, 22))
    manifest = manifest_of(folder)
    assert [tensor["name"] for tensor in manifest["inputs"]] == ["energy", "theta", "phi", "pdg_id", "noise"]
    graph = onnx.load(folder / manifest["graph"]["file"])
    assert [entry.name for entry in graph.graph.input] == [tensor["name"] for tensor in manifest["inputs"]]
    energy, noise, showers = manifest["inputs"][0], manifest["inputs"][-1], manifest["output"]
    assert (energy["unit"], energy["type"], energy["shape"]) == ("MeV", "float32", ["batch"])
    assert noise["distribution"] == "standard normal" and noise["shape"] == ["batch", 30]
    assert showers["axes"] == ["shower", "layer", "y", "x"] and showers["shape"] == ["batch", 25, 6, 8]
    assert manifest["trained"]["energy"] == {"unit": "MeV", "min": 1e4, "max": 5e5}
    assert manifest["trained"]["pdg_id"] == [11, 22] and manifest["energy_meaning"] == "visible"
    assert manifest["mesh"]["x"][0] == -17.5 and len(manifest["mesh"]["z"]) == 25
    for part in (manifest["graph"]["files"][0], manifest["reference"]):
        path = folder / part["name"]
        assert (path.stat().st_size, digest_file(path)) == (part["bytes"], part["sha256"])
    weights = json.loads((stored(particles=(11, 22)) / "model.json").read_text())["weights_sha256"]
    assert manifest["model"] == {"name": "model", "family": "gan3d", "weights_sha256": weights}


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_self_test_is_passed_by_its_runtime(exported, target):
    options = {"particles": (11, 22)}
    folder = exported(target, **options)
    reference = reference_of(folder)
    want = reference.pop("showers")
    assert len(want) == REFERENCE_SHOWERS and (want > 0).any()
    model = small_model(**options)
    with torch.inference_mode():
        inputs = {name: torch.from_numpy(value.copy()) for name, value in reference.items()}
        condition = condition_of(model, {name: value.copy() for name, value in reference.items()})
        np.testing.assert_array_equal(model.generate(condition, inputs["noise"]).numpy(), want)
    run = run_openvino if target == "openvino" else run_onnx
    graph = folder / manifest_of(folder)["graph"]["file"]
    np.testing.assert_allclose(run(graph, reference), want, rtol=1e-5, atol=1e-6)


def test_the_graph_is_for_old_runtimes_and_names_no_path(exported):
    manifest = manifest_of(exported("onnx", particles=(11, 22)))
    assert manifest["graph"]["opset"] <= 17 and manifest["graph"]["ir_version"] == 8
    for target in ("onnx", "openvino"):
        for path in exported(target, particles=(11, 22)).iterdir():
            assert str(caloforge.__path__[0]).encode() not in path.read_bytes(), path


def test_the_graph_takes_any_batch(exported):
    folder = exported("onnx", particles=(11, 22))
    model = small_model(particles=(11, 22))
    for count in (1, 5):
        assert run_onnx(folder / "model.onnx", sample_inputs(model, count)).shape == (count, 25, 6, 8)


# ---- what is refused


DEEP = [{"repeat": 35, "slabs": [{"material": "G4_Si", "thickness": "1 mm", "active": True}]}]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("onnx", {"family": "frozen"}, "the family frozen cannot be written as a graph"),
        ("par04", {}, "Par04 has a cylindrical mesh, that of clic-ecal-25 is cartesian"),
        ("par04", {"detector": "par04-siw", "overrides": (), "particles": (11, 22)}, "on several"),
        (
            "par04",
            {"detector": "par04-siw", "overrides": (), "meaning": "sampling-fraction corrected"},
            "visible energies",
        ),
        ("ddml", {"detector": "par04-siw", "overrides": ()}, "take --target par04"),
        ("ddml", {"overrides": ("mesh.nx=7", "mesh.ny=8")}, "7 x 8 cells would be shifted by half a cell"),
        ("ddml", {"theta": (1.1, 2.0)}, "take --target ddml-python"),
        ("ddml", {"particles": (11, 22)}, r"several \(PDG 11, 22\)"),
        (
            "ddml-python",
            {"detector": {"preset": "clic-ecal-25", "layers": DEEP}},
            "CaloClouds has 30 layers, clic-ecal-25 35",
        ),
    ],
)
def test_a_model_that_a_consumer_cannot_run(tmp_path, target, options, message):
    with pytest.raises(ModelError, match=message):
        export_folder(small_model(**options), tmp_path / "out", target, name="m", digest="0")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target(stored, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'onnx'"):
        caloforge.export(stored(), out=tmp_path / "out", target="onx")


def test_only_an_earlier_export_is_replaced(copied, stored, tmp_path):
    folder = copied("ddml")
    with pytest.raises(OutputError, match="--force"):
        caloforge.export(stored(), out=folder, target="ddml")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("...")
    with pytest.raises(OutputError, match="no earlier export"):
        caloforge.export(stored(), out=mine, target="ddml", force=True)
    assert (mine / "thesis.tex").exists()


def test_a_failure_leaves_the_earlier_export(copied, stored, monkeypatch):
    folder = copied("ddml")
    graph = (folder / "model.onnx").read_bytes()
    (folder / "notes.txt").write_text("of the earlier export")
    before = {path.name: digest_file(path) for path in folder.iterdir()}
    # instead of the slow export
    monkeypatch.setattr(export_module, "export_module", lambda *given: given[3].write_bytes(graph))
    with monkeypatch.context() as patched:
        patched.setattr(export_module, "run_onnx", lambda *given: np.zeros((3, 25, 8, 6)))
        with pytest.raises(ModelError, match="makes other showers of this model than torch"):
            caloforge.export(stored(), out=folder, target="ddml", force=True)
    assert {path.name: digest_file(path) for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    outcome = caloforge.export(stored(), out=folder, target="ddml", force=True)
    files = ["ddsim_steer.py", "manifest.json", "model.onnx", "reference.bin"]
    assert sorted(path.name for path in folder.iterdir()) == outcome["files"] == files
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_every_target_says_what_it_is():
    assert set(TARGETS.names()) >= {"onnx", "openvino", "par04", "ddml", "ddml-python"}
    assert set(TARGETS.names()) <= set(caloforge.list_()["targets"])
    for name in TARGETS.names():
        assert TARGETS.get(name, "target").summary


# ---- the same showers in every runtime


# cells of a shower that a rounding exchanges; hundreds where the layer sampler takes another stored shower
FEW_CELLS = 20


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The graph of the released model."""
    out = tmp_path_factory.mktemp("released") / "out"
    caloforge.export("clic-electron", out=out, target="onnx")
    return out / "model.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("run", [run_onnx, run_openvino])
def test_parity_of_the_released_model(released, run):
    """Torch and a runtime make the same cells; where a threshold decides otherwise is counted."""
    count, batch = (60, 20) if SCALE == "small" else (1000, 100)
    model = caloforge.load_model("clic-electron")
    inputs = sample_inputs(model, count)
    others = exchanged = beyond = cells = 0
    for start in range(0, count, batch):
        part = {name: value[start : start + batch] for name, value in inputs.items()}
        with torch.inference_mode():
            want = model.generate(condition_of(model, part), torch.from_numpy(part["noise"])).numpy()
        want = want.reshape(batch, -1)
        got = run(released, part).reshape(batch, -1)
        moved = ((got > 0) != (want > 0)).sum(axis=1)
        same = moved <= FEW_CELLS
        others += np.count_nonzero(~same)
        exchanged += moved[same].sum()
        # 10 eV is a hundredth of the smallest energy of a hit
        beyond += np.count_nonzero(~np.isclose(got[same], want[same], rtol=1e-5, atol=1e-5))
        cells += got[same].size
    assert others <= 1 + count / 200
    assert exchanged < 1e-4 * cells
    assert beyond < 1e-4 * cells

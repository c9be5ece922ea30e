"""The table of accuracy and speed: what a path makes, what is compared, and what cannot run."""

import json

import pytest

import caloforge
from caloforge import ShowerFile
from caloforge.cli import main
from caloforge.generation.runtimes import BACKENDS
from caloforge.metrics.resampling import Metric
from caloforge.timing import precisions
from caloforge.timing.precisions import PrecisionPlan, compare_precisions, precision_table
from caloforge.timing.sources import Source, trained
from caloforge.timing.timed_process import WorkerResult
from caloforge.timing.worker import _serve

SHOWERS = 30
GAN = Source("small", "model", {"model": "small"})


def test_a_path_makes_the_showers_of_the_truth_again(electrons, tmp_path):
    out, answers = tmp_path / "made.h5", []
    job = {
        "kind": "model",
        "threads": 1,
        "source": {"model": "clic-electron"},
        "backend": "torch",
        "precision": "fp32",
        "batches": [2],
        "seconds": 0.01,
        "disk": False,
        "cpu_time": True,
        "seed": 1,
        "like": {"truth": str(electrons), "showers": 5, "out": str(out)},
        "longest": 1e-9,
    }
    _serve(job, lambda **facts: answers.append(facts))
    assert "5 showers would take" in answers[-1]["error"] and not out.exists()
    _serve({**job, "longest": 300}, lambda **facts: answers.append(facts))
    with ShowerFile(out) as made, ShowerFile(electrons) as truth:
        assert made.column("incident_energy").tolist() == truth.column("incident_energy")[:5].tolist()


@pytest.fixture
def measured(electrons, monkeypatch):
    """Paths that give back the truth itself, but for bf16, which is slow, and int8, which is 10 % off."""

    def measure(job, limit, *, cache):
        if job["precision"] == "bf16":
            return WorkerResult([{"opened": {}}, {"slow": 12.0}])
        with ShowerFile(electrons) as file:
            batch = file.read(0, SHOWERS)
            batch.showers[:] *= 1.1 if job["precision"] == "int8" else 1
            with caloforge.ShowerWriter(job["like"]["out"], file.detector, {}) as writer:
                writer.append(batch)
        return WorkerResult([{"batch": 1, "seconds": [3e-3, 2e-3, 1e-3]}, {"batch": 128, "seconds": [1e-3]}])

    monkeypatch.setattr(precisions, "measure", measure)


def test_every_path_is_compared_with_geant4_and_with_torch(electrons, measured):
    document = compare_precisions(PrecisionPlan((GAN,), electrons, SHOWERS))
    rows = {(row["backend"], row["precision"]): row for row in document["results"]}
    assert set(rows) == {(name, p) for name, entry in BACKENDS.usable().items() for p in entry.precisions}
    exact, rough = rows["torch", "fp32"], rows["onnx", "int8"]
    assert exact["ms"] == {"1": pytest.approx(2), "128": pytest.approx(1)}
    assert exact["response"]["value"] == exact["other_cells"] == 0
    # of showers that are the same the classifier knows less than nothing
    assert exact["trees"]["value"] < 0.5 < rough["trees"]["value"]
    assert rough["response"]["value"] == pytest.approx(0.1, abs=1e-3)
    assert rough["other_cells"] == pytest.approx(0.1, abs=1e-3)
    assert rows["torch", "bf16"] == {
        "name": "small", "backend": "torch", "precision": "bf16", "ms": {},
        "reason": "too slow: 12 s a shower",
    }  # fmt: skip
    assert rows["numba", "fp32"]["reason"] == "the family has no compiled form"
    json.dumps(document)
    table = precision_table({**document, "command": "caloforge benchmark"})
    assert "CNN" not in table
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "| small | onnx int8 | 2, 1 | " in table
    assert "| 10.00 ± " in table and "| 1.0e-01 |" in table
    assert "- small, torch bf16: too slow: 12 s a shower" in table


def test_the_cnn_judges_each_kind_of_showers_once(electrons, measured, monkeypatch):
    judged = []

    def classify(truth, sample, names, *, repeats, seed, measure_floor):
        judged.append(sample.name)
        assert (names, repeats, len(truth), len(sample)) == (["strong"], 1, 20, 20)
        # the floor is that of the truth: once is enough
        assert measure_floor is (len(judged) == 1)
        return {"strong": (Metric(0.5 + 0.1 * len(judged), 0.01, 0.48 if measure_floor else 0.5), None)}

    monkeypatch.setattr(precisions, "classify", classify)
    monkeypatch.setattr(precisions, "CNN_SHOWERS", 20)
    document = compare_precisions(PrecisionPlan((GAN,), electrons, SHOWERS, cnn=True))
    assert judged == ["torch fp32", "onnx int8", "openvino int8"]
    areas = {
        (row["backend"], row["precision"]): row.get("cnn", {}).get("value") for row in document["results"]
    }
    assert areas["torch", "fp32"] == areas["onnx", "fp32"] == pytest.approx(0.6)
    assert areas["onnx", "int8"] == pytest.approx(0.7)
    table = precision_table({**document, "command": "caloforge benchmark"})
    assert "| CNN, AUC |" in table and "| 0.700 ± 0.010 |" in table
    assert "CNN: 20 of them; between two halves of those of Geant4 0.480." in table


def test_a_missing_package_is_named(electrons, monkeypatch):
    monkeypatch.setattr(precisions, "measure", lambda *_, **__: WorkerResult([]))
    monkeypatch.setattr(precisions, "find_spec", lambda name: None if name == "openvino" else object())
    document = compare_precisions(PrecisionPlan((trained("clic-electron"),), electrons, SHOWERS))
    reasons = {(row["backend"], row["precision"]): row.get("reason", "") for row in document["results"]}
    assert reasons["openvino", "bf16"] == "openvino not installed: pip install 'caloforge[onnx]'"
    assert reasons["numba", "fp32"] == reasons["onnx", "fp32"] == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "all"], "give at least one model"),
        (["clic-electron", "--precision", "all"], "give --truth FILE"),
        (["clic-electron", "--truth", "TRUTH"], "--truth is for --precision all"),
        (["clic-electron", "--cnn"], "--cnn is for --precision all"),
        (["clic-electron", "--precision", "all", "--truth", "TRUTH", "--all-cores"], "on one core"),
        (["clic-electron", "--precision", "all", "--truth", "TRUTH", "-n", "9999"], "holds 400 showers"),
    ],
)
def test_what_is_asked_for_is_checked_first(electrons, capsys, words, message):
    status = main(["benchmark", *(str(electrons) if word == "TRUTH" else word for word in words)])
    assert status in (1, 2) and message in capsys.readouterr().err

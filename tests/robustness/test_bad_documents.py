"""Studies, threshold sets, binning files and reports that are wrong; see `confined.py` for the rule."""

import json
import os

import bad_models
import bad_xml
import bad_yaml
import h5py
import numpy as np
import pytest
import yaml
from confined import Case, assert_rule

from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerWriter

FEW, MANY = 30, 1000
if os.environ.get("CALOFORGE_SCALE") == "small":
    MANY = 20
STUDY = {
    "name": "search",
    "run": "run.yaml",
    # so that no search begins
    "data": "missing.h5",
    "seed": 3,
    "space": {
        "training.batch_size": {"kind": "int", "low": 8, "high": 64, "log": True},
        "training.ema": {"kind": "float", "low": 0.5, "high": 0.99},
        "model.preset": {"kind": "categorical", "choices": ["debug", "small"]},
    },
    "objectives": [{"figure": "merit"}],
    "sampler": {"kind": "random"},
    "pruner": {"kind": "asha", "first": 2},
    "layout": {"groups": 2, "cores": 0.5},
    "changes": {"training": {"epochs": 2}},
    "max_trials": 3,
}
THRESHOLDS = {
    "name": "own",
    "summary": "A set of our own.",
    "false_alarm": 0.05,
    "confidence": 0.95,
    "inclusive": {"mean_shift": 0.05, "wasserstein": 0.1},
    "bins": {"mean_shift": 0.1},
    "observables": {"response": {"mean_shift": 0.02, "wasserstein": None}},
}


def documents(valid, folder, count, seed, suffix="yaml", named=bad_yaml.DOCUMENTS):
    """(label, path) of documents: the named ones, then `count` changed at random."""
    rng = np.random.default_rng(seed)
    texts = dict(named)
    for number in range(count):
        text = bad_xml.changed(rng) if suffix == "xml" else bad_yaml.changed(rng, valid)
        texts[f"change {number} of seed {seed}"] = text if number % 3 else bad_yaml.damaged(rng, text)
    for number, (label, text) in enumerate(texts.items()):
        path = folder / f"{number}.{suffix}"
        path.write_text(text)
        yield label, path


def study_cases(folder, count, seed):
    (folder / "run.yaml").write_text(yaml.safe_dump(bad_yaml.VALID))
    for label, path in documents(STUDY, folder, count, seed, named={}):
        out = folder / f"{path.stem}-out"
        yield Case(f"study: {label}", ["tune", str(path), "-o", str(out), "--no-progress"], out)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """Showers with a NaN, which `validate` refuses once it knows its thresholds."""
    rng = np.random.default_rng(0)
    detector = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))
    path = tmp_path_factory.mktemp("spoilt") / "data.h5"
    ones, pdg_id = np.ones(120, np.float32), np.full(120, 11, np.int32)
    with ShowerWriter(path, detector, {}) as writer:
        showers = rng.exponential(0.3, (120, *detector.shower_shape))
        writer.append(ShowerBatch(showers, 1e4 * ones, np.pi / 2 * ones, 0 * ones, pdg_id))
    with h5py.File(path, "r+") as file:
        file["showers"][7, 0, 0, 0] = np.nan
    return path


def threshold_cases(folder, spoilt, count, seed):
    for label, path in documents(THRESHOLDS, folder, count, seed):
        out = folder / f"{path.stem}-report"
        command = ["validate", str(spoilt), str(spoilt), "-o", str(out), "--thresholds", str(path)]
        yield Case(f"thresholds: {label}", [*command, "--no-classifier", "--no-pdf", "--no-progress"], out)


def binning_cases(folder, count, seed):
    source = folder / "showers.hdf5"
    rng = np.random.default_rng(0)
    with h5py.File(source, "w") as file:
        file["incident_energies"] = np.full((12, 1), 400.0)
        file["showers"] = rng.exponential(1, (12, bad_xml.VOXELS))
    for label, path in documents(None, folder, count, seed, "xml", bad_xml.DOCUMENTS):
        out = folder / f"{path.stem}.h5"
        command = ["import", str(source), "--format", "calochallenge", "--binning", str(path), "-o", str(out)]
        random = label.startswith("change")
        yield Case(f"binning: {label}", [*command, "--no-progress"], None if random else out, may_pass=random)


def test_studies(tmp_path):
    assert_rule(list(study_cases(tmp_path, FEW, seed=1)), tmp_path)


def test_thresholds(tmp_path, spoilt):
    assert_rule(list(threshold_cases(tmp_path, spoilt, FEW, seed=1)), tmp_path)


def test_binnings(tmp_path):
    assert_rule(list(binning_cases(tmp_path, FEW, seed=1)), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many(tmp_path, spoilt):
    for kind in (
        lambda folder: study_cases(folder, MANY, seed=2),
        lambda folder: threshold_cases(folder, spoilt, MANY, seed=2),
        lambda folder: binning_cases(folder, MANY, seed=2),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        assert_rule(list(kind(folder)), folder)


REPORTS = {
    "text": "hello",
    "nested": bad_models.nested(100_000),
    "null": "null",
    "only its kind": json.dumps({"format": "caloforge-metrics"}),
    "of no generator": json.dumps({"format": "caloforge-metrics", "version": 1, "generators": {}}),
    "lists where mappings belong": json.dumps(
        {"format": "caloforge-metrics", "version": 1, "generators": [], "provenance": [], "truth": []}
    ),
}
HISTORIES = {
    "text": "hello",
    "nested": bad_models.nested(100_000),
    "text for steps": '{"step": "a", "seconds": "b"}\n' * 3,
    "null": "null\n",
    "lists": '{"step": [1], "seconds": {}}\n' * 3,
    "not finite": '{"step": 1, "seconds": NaN, "loss": Infinity}\n' * 3,
    "huge": '{"step": 1' + "0" * 4000 + ', "seconds": 1}\n',
}


def test_reports_and_histories(tmp_path):
    """What lies beside a model, in `card` and in the pictures of `inspect`."""
    model = bad_models.write_good("frozen", tmp_path / "model")
    card = (model / "model.json").read_bytes()
    cases = []
    for number, (label, text) in enumerate(REPORTS.items()):
        report = tmp_path / f"report-{number}"
        report.mkdir()
        (report / "metrics.json").write_text(text)
        cases.append(Case(f"report: {label}", ["card", str(model), str(report)], names=report.name))
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/zero"):
        cases.append(Case(f"report: {path}", ["card", str(model), path], names=path))
        cases.append(Case(f"benchmark: {path}", ["card", str(model), "--benchmark", path], names=path))
    for number, (label, text) in enumerate(HISTORIES.items()):
        copy = bad_models.with_card(model, tmp_path / f"model-{number}", lambda card: card)
        (copy / "metrics.jsonl").write_text(text)
        out = tmp_path / f"pictures-{number}"
        cases.append(Case(f"history: {label}", ["inspect", str(copy), "-o", str(out)], may_pass=True))
    assert_rule(cases, tmp_path)
    assert (model / "model.json").read_bytes() == card


def test_the_wrong_kind_of_path(tmp_path):
    """Files where folders belong, folders where files do, and a file of another kind."""
    run = tmp_path / "run.yaml"
    run.write_text(yaml.safe_dump(bad_yaml.VALID))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    model = bad_models.write_good("frozen", tmp_path / "model")
    detector = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))
    data = tmp_path / "data.h5"
    ones = np.ones(120, np.float32)
    with ShowerWriter(data, detector, {}) as writer:
        pdg_id = np.full(120, 11, np.int32)
        showers = np.ones((120, *detector.shower_shape), np.float32)
        writer.append(ShowerBatch(showers, 1e4 * ones, np.pi / 2 * ones, 0 * ones, pdg_id))
    folder = tmp_path / "folder"
    folder.mkdir()
    things = {
        "a folder": folder, "a run": run, "a model": model, "showers": data, "a pipe": fifo,
        "a device": "/dev/zero", "nothing": tmp_path / "none",
    }  # fmt: skip
    out = "{out}"
    # by what belongs there
    verbs = {
        "a run": [
            ["simulate", "{}", "-n", "1", "-o", out], ["train", "{}", "--data", data, "-o", out],
            ["check", "{}"], ["config", "show", "{}"], ["tune", "{}", "-o", out],
            ["import", data, "--format", "3dgan", "--detector", "{}", "-o", out],
            ["validate", data, data, "-o", out, "--thresholds", "{}"],
        ],
        "a model": [
            ["generate", "{}", "-n", "1", "-o", out], ["card", "{}"],
            ["train", run, "--data", data, "--start", "{}", "-o", out],
            ["card", model, "{}"], ["card", model, "--benchmark", "{}"],
        ],
        "showers": [
            ["validate", "{}", data, "-o", out], ["validate", data, "{}", "-o", out],
            ["validate", data, data, "--truth2", "{}", "-o", out],
            ["validate", data, data, "--triforce", "{}", "-o", out],
            ["train", run, "--data", "{}", "-o", out], ["generate", model, "--like", "{}", "-o", out],
            ["convert", "{}", "--to", "3dgan", "-o", out],
            ["import", "{}", "--format", "3dgan", "-o", out],
            ["import", "{}", "--format", "showerdata", "--detector", "clic-ecal-25", "-o", out],
            ["import", data, "--format", "calochallenge", "--binning", "{}", "-o", out],
            ["card", model, "--data", "{}"],
        ],
    }  # fmt: skip
    cases = []
    for wanted, commands in verbs.items():
        for command in commands:
            for name, thing in things.items():
                made = tmp_path / f"out-{len(cases)}"
                words = [str(word).replace("{}", str(thing)).replace("{out}", str(made)) for word in command]
                if name != wanted and (wanted, name) != ("showers", "a model"):
                    cases.append(Case(f"{name} for {wanted}", words, made))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert_rule(cases, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

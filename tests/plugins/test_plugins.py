"""What installed packages add: found by name, tested by the contracts, and named where they are broken."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from installed import PACKAGE, install

import caloforge
from caloforge import plugins
from caloforge.cli import main
from caloforge.config import build, to_yaml
from caloforge.errors import ConfigError, PluginError
from caloforge.metrics.registry import metrics
from caloforge.models.registry import (
    FAMILIES,
    build_model,
    families_for,
    list_models,
    read_model_config,
)
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.run import load_run, run_schema
from caloforge.showers import ShowerBatch, ShowerWriter
from caloforge.testing import check_backend, check_format, check_model, check_sampler
from caloforge.tuning.config import StudyConfig
from caloforge.tuning.samplers.config import SAMPLERS

DETECTOR = ("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"))


def run_document(**model):
    return {
        "detector": {"preset": "clic-ecal-25", "mesh": {"nx": 7, "ny": 7}},
        "beam": {"energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}},
        "model": {"family": "mean-shower", "preset": "debug", **model},
        "training": {
            "batch_size": 12,
            "precision": "fp32",
            "threads": 1,
            "max_steps": 4,
            "evaluation": {"share": 0.15, "showers": 36},
        },
    }


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document()))
    return path


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(1)
    energy = rng.uniform(1e4, 1e5, 240)
    cells = rng.exponential(size=(240, 25, 7, 7))
    cells *= (0.02 * energy / cells.sum(axis=(1, 2, 3)))[:, None, None, None]
    with ShowerWriter(tmp_path / "data.h5", caloforge.load_detector(*DETECTOR), {}) as writer:
        half = np.full(240, np.pi / 2)
        writer.append(ShowerBatch(cells, energy, half, np.zeros(240), np.full(240, 11)))
    return tmp_path / "data.h5"


# ---- what a package adds


def test_the_family_keeps_the_contract(example):
    ranges = TrainedRange(energy=(1e4, 1e5), theta=(1.5, 1.6), phi=(0.0, 0.0), pdg_ids=(11,))
    config = read_model_config({"family": "mean-shower", "preset": "debug"}, "model")
    detector = caloforge.load_detector(*DETECTOR)
    facts = DataFacts(ranges=ranges, response_fit=(0.02,))
    check_model(lambda: build_model(config, detector, facts, seed=1))


def test_the_sampler_keeps_the_contract(example):
    check_sampler("latin-hypercube")


def test_the_format_keeps_the_contract(example):
    check_format("npz", caloforge.load_detector(*DETECTOR), particle=None)


def test_the_backend_keeps_the_contract(example, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check_backend("onnx-eager")


def test_the_metric_is_measured_and_may_have_a_threshold(example, data, tmp_path):
    thresholds = tmp_path / "own.yaml"
    thresholds.write_text("{name: own, summary: a test, inclusive: {low_response: 0.9}}")
    caloforge.validate(
        data,
        data,
        out=tmp_path / "report",
        thresholds=str(thresholds),
        classifier=False,
        pdf=False,
        progress=False,
    )
    document = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert "low_response" in json.dumps(document["generators"])
    assert "low_response" in metrics()


def test_a_model_of_the_family_is_trained_and_generates(example, run, data, tmp_path):
    config = load_run(run)
    assert config.model.spread == 0.2
    # what a run directory records is read again
    assert load_run_of(config, tmp_path / "again.yaml") == config
    caloforge.train(run, data=data, out=tmp_path / "out", progress=False)
    showers = caloforge.generate(tmp_path / "out", n=3, progress=False)
    assert showers.showers.shape == (3, 25, 7, 7)
    assert "mean-shower" in list_models()
    assert "mean-shower" in families_for(config.detector)


def load_run_of(config, path):
    path.write_text(to_yaml(config))
    return load_run(path)


def test_settings_of_the_family_are_checked(example, run):
    with pytest.raises(ConfigError, match=r"model › spraed: unknown setting .*Did you mean 'spread'"):
        load_run(run, ["model.spraed=0.1"])
    with pytest.raises(ConfigError, match=r"model.family: got 'mean-shwer'.*Did you mean 'mean-shower'"):
        load_run(run, ["model.family=mean-shwer"])
    # those of caloforge are told apart as before
    with pytest.raises(ConfigError, match=r"run.yaml › model.latnet"):
        load_run(run, ["model={family: gan3d, latnet: 3}"])


def test_the_verbs_know_the_names(example, run, data, tmp_path, capsys):
    caloforge.convert(data, out=tmp_path / "a.npz", to="npz", progress=False)
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["showers"].shape == (240, 25, 7, 7)
    with pytest.raises(ConfigError, match="--visible belongs to --format calochallenge and par04"):
        caloforge.import_(tmp_path / "a.npz", out=tmp_path / "b.h5", format="npz", visible=True)
    caloforge.train(run, data=data, out=tmp_path / "out", progress=False)
    caloforge.generate(tmp_path / "out", n=3, out=tmp_path / "g.h5", backend="onnx-eager", progress=False)
    with pytest.raises(ConfigError, match=r"got 'onnx-eagre'.*Did you mean 'onnx-eager'"):
        caloforge.generate(tmp_path / "out", n=3, backend="onnx-eagre", progress=False)
    with pytest.raises(ConfigError, match="onnx-eager computes in fp32; for int8 take --backend onnx"):
        caloforge.generate(tmp_path / "out", n=3, backend="onnx-eager", precision="int8", progress=False)
    exported = caloforge.export(tmp_path / "out", out=tmp_path / "exported", target="layer-energies")
    assert exported["manifest"]["output"]["shape"] == ["batch", 25] and "README.txt" in exported["files"]
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for points in example.values():
        assert all(name in shown for name in points)
    assert "sampler latin-hypercube: caloforge-example 1.0" in shown


def test_a_study_takes_the_sampler(example, tmp_path):
    document = {
        "run": "demo",
        "space": {"training.batch_size": {"kind": "int", "low": 1, "high": 9}},
        "sampler": {"kind": "latin-hypercube"},
    }
    assert build(StudyConfig, document, "study.yaml").sampler.kind == "latin-hypercube"
    with pytest.raises(ConfigError, match=r"sampler\.kind: got .*Did you mean 'latin-hypercube'"):
        build(StudyConfig, document | {"sampler": {"kind": "latin-hypercub"}}, "study.yaml")


@pytest.mark.parametrize(
    ("page", "files"),
    [
        ("new-model-family", ["family.py", "model.py"]),
        ("new-sampler", ["sampler.py", "latin_hypercube.py"]),
        ("new-format", ["formats.py", "npz.py"]),
        ("new-backend", ["backend.py", "eager.py"]),
        ("new-target", ["target.py", "layer_energies.py"]),
    ],
)
def test_the_guides_show_the_package_that_is_tested(example, page, files):
    text = (Path(__file__).parents[2] / "docs" / "how-to" / f"{page}.md").read_text()
    for name in files:
        source = (PACKAGE / "src" / "caloforge_example" / name).read_text()
        assert f"```python\n{source}```\n" in text, name
    entries = [f'[project.entry-points."{group}"]\n' for group in example]
    assert sum(entry in text for entry in entries) == 1


# ---- what is broken, and what nobody asks for

BROKEN = {
    "missing": "ModuleNotFoundError: No module named 'nowhere'",
    "raises": "RuntimeError: first line",
    "other": "broken_package:THREE is of type int, expected caloforge.tuning.samplers.config.Sampler",
}
SOURCE = {"raises.py": "raise RuntimeError('first line\\nsecond line')", "broken_package.py": "THREE = 3"}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    for name, text in SOURCE.items():
        (source / name).write_text(text)
    points = {"missing": "nowhere:X", "raises": "raises:X", "other": "broken_package:THREE"}
    groups = {"caloforge.samplers": points, "caloforge.families": {"missing": "nowhere:X"}}
    install(tmp_path / "site", monkeypatch, "broken-package", "0.3", groups, source)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named_in_one_line(broken, name):
    with pytest.raises(PluginError) as caught:
        SAMPLERS.get(name, "sampler.kind")
    assert str(caught.value) == (
        f"package broken-package 0.3: its sampler {name!r} cannot be used ({BROKEN[name]}); update it, or "
        "remove it with: pip uninstall broken-package"
    )


def test_a_broken_package_harms_nobody_who_does_not_use_it(broken, run, capsys):
    assert main(["config", "show", "demo"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["list"]) == 0
    shown = capsys.readouterr()
    assert "gan3d" in shown.out
    assert shown.err.startswith("note: package broken-package 0.3: its model family 'missing' cannot be used")
    assert main(["config", "show", str(run), "--set", "model.family=missing"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_name_that_is_built_in_cannot_be_replaced(tmp_path, monkeypatch, capsys):
    groups = {"caloforge.samplers": {"tpe": "nowhere:X", "new": "nowhere:X"}}
    install(tmp_path / "site", monkeypatch, "thief", "2", groups)
    plugins._say_taken.cache_clear()
    assert SAMPLERS.get("tpe", "sampler.kind") is SAMPLERS.built_in["tpe"]
    assert SAMPLERS.names() == [*SAMPLERS.built_in, "new"]
    said = "note: package thief 2 adds a sampler 'tpe', which is built in; the one of caloforge is used\n"
    assert capsys.readouterr().err == said


def test_two_packages_with_one_name(tmp_path, monkeypatch):
    groups = {"caloforge.samplers": {"mine": "nowhere:X"}}
    install(tmp_path / "one", monkeypatch, "one", "1", groups)
    install(tmp_path / "two", monkeypatch, "two", "2", groups)
    with pytest.raises(PluginError, match="'mine' is added by two 2 and by one 1; uninstall one of them"):
        SAMPLERS.get("mine", "sampler.kind")
    # the same package further behind on the path is hidden
    install(tmp_path / "old", monkeypatch, "three", "0.9", {"caloforge.samplers": {"other": "nowhere:X"}})
    install(tmp_path / "new", monkeypatch, "three", "1.0", {"caloforge.samplers": {"other": "nowhere:X"}})
    assert SAMPLERS.added()["other"] == "three 1.0"


def test_unreadable_metadata_of_another_package_is_left_out(example, tmp_path, monkeypatch):
    install(tmp_path / "bad", monkeypatch, "bad", "1", {})
    (tmp_path / "bad" / "bad-1.dist-info" / "entry_points.txt").write_text("[caloforge.samplers]\nno sign\n")
    assert "latin-hypercube" in SAMPLERS.names()


def test_a_family_under_another_name_is_refused(example, tmp_path, monkeypatch):
    groups = {"caloforge.families": {"alias": "caloforge_example.family:FAMILY"}}
    install(tmp_path / "alias", monkeypatch, "alias", "1", groups)
    with pytest.raises(PluginError, match="of MeanShowerConfig is 'mean-shower', expected 'alias'"):
        FAMILIES.get("alias", "model.family")


def test_nothing_is_looked_for_where_nobody_asks(example, run):
    code = (
        "import sys, caloforge.plugins\n"
        "caloforge.plugins._announced = lambda *_: sys.exit('looked')\n"
        "import caloforge, caloforge.run, caloforge.models.registry, caloforge.tuning.config\n"
        "import caloforge.showers.converters, caloforge.generation.runtimes\n"
        "caloforge.load_run('demo').model_dump(mode='json')\n"
        "assert not {'torch', 'optuna', 'caloforge_example'} & set(sys.modules), 'loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_family_of_a_package_imports_no_torch_before_it_is_built(example, run):
    code = (
        "import sys, caloforge\n"
        f"config = caloforge.load_run({str(run)!r})\n"
        "assert config.model_dump(mode='json')['model']['spread'] == 0.2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_schema_is_that_of_the_built_in_families(example):
    assert set(run_schema()["properties"]["model"]["discriminator"]["mapping"]) == set(FAMILIES.built_in)

"""The YAML and Python of the pages: documents are valid, programs call what exists."""

import ast
import importlib
import inspect
import re
import shlex

import numpy as np
import pytest
import yaml
from pages import NAMES, blocks, read

from caloforge import ShowerBatch, ShowerFile, ShowerWriter, load_detector, load_run
from caloforge.cli import main
from caloforge.config import build
from caloforge.geometry import Detector
from caloforge.metrics.samples import SamplePair, ShowerSample
from caloforge.models.training_metadata import declared_beams
from caloforge.run import recipe_text
from caloforge.tuning.config import StudyConfig
from caloforge.tuning.space import Space
from caloforge.validation.thresholds import ThresholdSet

YAML = [(name, text) for name in NAMES for text in blocks(name, "yaml")]
PYTHON = [(name, text) for name in NAMES for text in blocks(name, "python")]


# read out by a mesh that stands alone
LAYERS = [{"repeat": 2, "slabs": [{"material": "G4_Si", "thickness": "1 mm", "active": True}]}]


def check_document(document, folder):
    """Validate a document, or a part of one inside a whole."""
    if "kind" in document:
        layers = [] if document["kind"] == "ragged" else LAYERS
        load_detector({"name": "x", "layers": layers, "mesh": document})
    elif document.keys() & {"inclusive", "false_alarm"}:
        build(ThresholdSet, document, "thresholds")
    elif "space" in document:
        whole = {"run": "clic-electron", "changes": {"model.preset": "debug"}} | document
        Space(build(StudyConfig, whole, "study"), folder).check()
    elif document.keys() <= Detector.model_fields.keys() | {"preset", "random"}:
        load_detector(document)
    else:
        whole = yaml.safe_load(recipe_text("clic-electron")) | document
        (folder / "run.yaml").write_text(yaml.safe_dump(whole))
        load_run(folder / "run.yaml")


@pytest.mark.parametrize("name", sorted({name for name, _ in YAML}))
def test_every_yaml_is_valid(name, tmp_path):
    documents = [yaml.safe_load(text) for page, text in YAML if page == name]
    for document in documents:
        # a later one may name an earlier one as its file
        if "name" in document:
            (tmp_path / f"{document['name']}.yaml").write_text(yaml.safe_dump(document))
        check_document(document, tmp_path)


def test_the_run_of_the_tutorial_is_whole(tmp_path):
    [text] = blocks("docs/tutorial/first-hour.md", "yaml")
    (tmp_path / "run.yaml").write_text(text)
    assert load_run(tmp_path / "run.yaml").beam.particle == "gamma"


@pytest.mark.parametrize(("name", "text"), PYTHON)
def test_every_program_calls_what_exists(name, text):
    tree = ast.parse(text)
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                alias.name: importlib.import_module(alias.name) for alias in node.names if not alias.asname
            }
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            known |= {alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (function := resolve(node.func, known)) is not None:
            positional = [None] * len(node.args)
            keywords = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(function).bind(*positional, **keywords)


def test_the_metric_of_the_guide_is_measured(monkeypatch):
    import caloforge.metrics.registry as registry

    program, _ = blocks("docs/how-to/new-metric.md", "python")
    names = {}
    exec(compile(program, "new-metric.md", "exec"), names)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    (definition,) = names["METRICS"]
    registry.register(definition)
    rng = np.random.default_rng(1)

    def pair(shift):
        detector = load_detector("clic-ecal-25")
        truth, generated = (
            ShowerSample(
                detector, {"response": r}, np.ones(2000), np.zeros(2000, int), np.zeros(0), np.zeros(0)
            )
            for r in (rng.normal(size=2000), rng.normal(size=2000) - shift)
        )
        return SamplePair(truth, generated)

    measure = registry.metrics()["low_response"].of_samples
    equal, low = measure(pair(0.0)), measure(pair(0.5))
    assert abs(equal.value) < 4 * equal.uncertainty and 0 < equal.floor < 0.02
    # 5 % quantile of a normal distribution at -1.645, moved by half a standard deviation
    assert low.value == pytest.approx(0.1261 - 0.05, abs=0.03) and low.value > 5 * low.uncertainty


def resolve(node, known):
    """A function or class of caloforge that a name stands for."""
    if isinstance(node, ast.Name):
        found = known.get(node.id)
    elif (
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "caloforge"
    ):
        found = getattr(known["caloforge"], node.attr)
    else:
        return None
    # errors have no signature
    if isinstance(found, type) and issubclass(found, BaseException):
        return None
    return found if str(getattr(found, "__module__", "")).startswith("caloforge") else None


def test_the_files_of_a_farm_are_joined_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detector = load_detector({"preset": "clic-ecal-25", "mesh": {"nx": 3, "ny": 3}})
    for seed in range(1, 21):
        beam = {"energy": {"kind": "fixed", "value": f"{seed} GeV"}}
        facts = {"seed": seed, "beam": beam}
        with ShowerWriter(f"train-{seed}.h5", detector, facts, with_seconds=True) as writer:
            writer.append(
                ShowerBatch(
                    showers=np.ones((2, *detector.shower_shape)),
                    incident_energy=np.full(2, 1000.0 * seed),
                    incident_theta=np.full(2, np.pi / 2),
                    incident_phi=np.zeros(2),
                    pdg_id=np.full(2, 11),
                    seconds=np.full(2, 0.1),
                )
            )
    [command] = re.findall(r"^ +caloforge (join .*)$", read("docs/how-to/farm.md"), re.MULTILINE)
    assert main([*shlex.split(command), "--no-progress"]) == 0
    with ShowerFile("train.h5") as file:
        assert len(declared_beams(file.provenance)) == 20
        np.testing.assert_array_equal(file.column("incident_energy"), np.repeat(1000.0 * np.arange(1, 21), 2))
        assert file.provenance["joined"][-1]["file"] == "train-20.h5"

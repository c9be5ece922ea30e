"""Bad input of every kind ends in one clear line: see `confined.py` for the rule.

A few hundred inputs run by default; `-m slow` runs thousands. A new cause that a random one finds
becomes a named case.
"""

import os

import bad_commands
import bad_models
import bad_yaml
import numpy as np
import pytest
import yaml
from confined import Case, assert_rule

from caloforge.cli import main
from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerWriter

FEW, MANY = 40, 1500
if os.environ.get("CALOFORGE_SCALE") == "small":
    MANY = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.yaml"
    path.write_text(yaml.safe_dump(bad_yaml.VALID))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small valid shower file."""
    rng = np.random.default_rng(0)
    detector = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))
    path = tmp_path_factory.mktemp("data") / "data.h5"
    showers = rng.exponential(2.0, (30, *detector.shower_shape)) * (
        rng.random((30, *detector.shower_shape)) < 0.2
    )
    ones, pdg_id = np.ones(30, np.float32), np.full(30, 11, np.int32)
    with ShowerWriter(path, detector, {"engine": "made up"}, energy_meaning="visible") as writer:
        writer.append(ShowerBatch(showers, 1e4 * ones, np.pi / 2 * ones, 0 * ones, pdg_id))
    return path


def test_documents(tmp_path, run):
    cases = []
    for label, text in bad_yaml.DOCUMENTS.items():
        path = tmp_path / f"{len(cases)}.yaml"
        path.write_text(text)
        out = tmp_path / "out"
        cases += [
            Case(f"{label}: run", ["check", str(path)], names=path.name),
            Case(f"{label}: detector", ["inspect", str(path)], names=path.name),
            Case(f"{label}: study", ["tune", str(path), "-o", str(out)], out, path.name),
        ]
    assert_rule(cases, tmp_path)


def yaml_cases(folder, count, seed):
    rng = np.random.default_rng(seed)
    for number in range(count):
        text = bad_yaml.changed(rng)
        if number % 3 == 2:
            text = bad_yaml.damaged(rng, text)
        path = folder / f"{number}.yaml"
        path.write_text(text)
        yield Case(f"change {number} of seed {seed}", ["config", "show", str(path)], may_pass=True)


def test_changed_documents(tmp_path):
    assert_rule(list(yaml_cases(tmp_path, 3 * FEW, seed=1)), tmp_path)


@pytest.mark.slow
def test_many_changed_documents(tmp_path):
    assert_rule(list(yaml_cases(tmp_path, MANY, seed=2)), tmp_path)


def test_command_lines(tmp_path, run, data):
    cases = [
        Case(label, arguments, output)
        for label, arguments, output in bad_commands.commands(tmp_path, run, data)
    ]
    before = data.read_bytes(), run.read_bytes()
    assert_rule(cases, tmp_path)
    assert (data.read_bytes(), run.read_bytes()) == before
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A small model of each family; what they need of machine code is compiled, outside of all limits."""
    folder = tmp_path_factory.mktemp("good")
    found = [bad_models.write_good(family, folder / family) for family in bad_models.FAMILIES]
    for model in found:
        assert main(generate(model, folder / f"{model.name}.h5")) == 0
    return found


def generate(model, out):
    backend = "numba" if "layered" in model.name else "torch"
    return ["generate", str(model), "-n", "4", "-o", str(out), "--backend", backend, "--no-progress"]


def uses_of(label, model, **options):
    out = model.with_name(f"{model.name}.h5")
    yield Case(f"{label}: inspect", ["inspect", str(model)], **options)
    yield Case(f"{label}: generate", generate(model, out), out, **options)


@pytest.mark.slow
def test_model_cards(tmp_path, models):
    cases = []
    for good in models:
        for label, change in bad_models.CARDS.items():
            folder = bad_models.with_card(good, tmp_path / f"{good.name}-{len(cases)}", change)
            cases.append(list(uses_of(label, folder))[1])
            # what only generation needs may be shown
            cases.append(next(uses_of(label, folder, may_pass=True)))
    assert_rule(cases, tmp_path)


@pytest.mark.slow
def test_weights_that_are_none(tmp_path, models):
    cases = []
    for good in models:
        (tmp_path / good.name).mkdir()
        for label, folder in bad_models.special_files(good, tmp_path / good.name):
            cases += uses_of(label, folder)
        for label, content in bad_models.bytes_of_headers(np.random.default_rng(0)):
            folder = tmp_path / f"{good.name}-{len(cases)}"
            bad_models.with_weights(good, folder, lambda _, content=content: content)
            cases += uses_of(label, folder)
    assert_rule(cases, tmp_path)


def tensor_cases(good, folder, count, seed):
    rng = np.random.default_rng(seed)
    labels = []

    def change(tensors):
        label, tensors = bad_models.corrupted(rng, tensors)
        labels.append(label)
        return tensors

    for number in range(count):
        copy = bad_models.with_weights(good, folder / f"{good.name}-{number}", change)
        # a float out of range may be harmless
        yield list(uses_of(f"{labels[-1]} of seed {seed}", copy, may_pass=True))[1]


@pytest.mark.slow
def test_corrupted_tensors(tmp_path, models):
    assert_rule(
        [case for good in models for case in tensor_cases(good, tmp_path, FEW // 2, seed=3)], tmp_path
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", bad_models.FAMILIES)
def test_many_corrupted_tensors(tmp_path, models, family):
    good = models[bad_models.FAMILIES.index(family)]
    assert_rule(list(tensor_cases(good, tmp_path, MANY // 10, seed=4)), tmp_path)

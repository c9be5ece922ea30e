"""Verbs that take several shower files, or a pattern, as one."""

import json

import numpy as np
import pytest
import yaml

from caloforge.cli import build_app, main
from caloforge.config import to_yaml
from caloforge.models.store import load_model, read_verified_card
from caloforge.run import load_run
from caloforge.showers import ShowerFile, ShowerWriter
from caloforge.validation.conditions import INCLUSIVE
from caloforge.validation.observed_sample import read_sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory, electrons):
    """400 electrons in files of 250 and 150, each with its own seed; and all of them in one."""
    folder = tmp_path_factory.mktemp("several")
    with ShowerFile(electrons) as file:
        for seed, (first, last) in {1: (0, 250), 2: (250, 400), 3: (0, 400)}.items():
            name = "all.h5" if seed == 3 else f"part-{seed}.h5"
            facts = {**file.provenance, "seed": seed, "n": last - first}
            facts["simulation"] = {**facts["simulation"], "seed": seed}
            with ShowerWriter(folder / name, file.detector, facts, with_seconds=file.has_seconds) as writer:
                writer.append(file.read(first, last))
    document = yaml.safe_load(to_yaml(load_run("clic-electron")))
    document["model"] = {"family": "frozen", "preset": "debug"}
    (folder / "run.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def run(*words):
    assert main([*map(str, words), "--no-progress"]) == 0


@pytest.fixture(scope="module")
def trained(folder):
    """Runs trained on a pattern, on a list of files, and on one file."""
    run("train", folder / "run.yaml", "--data", folder / "part-*.h5", "-o", folder / "pattern")
    both = ("--data", folder / "part-1.h5", folder / "part-2.h5")
    run("train", folder / "run.yaml", *both, "-o", folder / "list")
    run("train", folder / "run.yaml", "--data", folder / "all.h5", "-o", folder / "one")
    return folder


def test_a_training_on_several_files_is_that_on_one(trained):
    models = [load_model(trained / name) for name in ("pattern", "list", "one")]
    for model in models[:2]:
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, models[2].state_dict()[name])
    (record,) = read_verified_card(trained / "pattern")["data"]
    assert record["showers"] == 400 and [part["file"] for part in record["files"]] == [
        "part-1.h5",
        "part-2.h5",
    ]
    assert [part["seed"] for part in record["provenance"]["joined"]] == [1, 2]


def test_conditions_of_several_files(trained):
    run("generate", trained / "one", "--like", trained / "part-*.h5", "-o", trained / "generated.h5")
    with ShowerFile(trained / "generated.h5") as made, ShowerFile(trained / "all.h5") as truth:
        np.testing.assert_array_equal(made.column("incident_energy"), truth.column("incident_energy"))
        assert [part["file"] for part in made.provenance["like"]["files"]] == ["part-1.h5", "part-2.h5"]


def test_a_truth_in_several_files(trained, tmp_path):
    run("generate", trained / "one", "--like", trained / "all.h5", "--seed", 4, "-o", tmp_path / "g.h5")
    words = (trained / "part-{1,2}.h5", tmp_path / "g.h5", "-o", tmp_path / "report", "--workers", 2)
    options = ("--no-classifier", "--no-pdf", "--no-progress")
    assert main(["validate", *map(str, words), *options]) in (3, 4)
    found = json.loads((tmp_path / "report/metrics.json").read_text())
    assert found["truth"]["showers"] == 400
    files = found["provenance"]["files"]["Geant4"]["files"]
    assert [part["file"] for part in files] == ["part-1.h5", "part-2.h5"]
    samples = [
        read_sample(trained / name, name, [INCLUSIVE], threshold=0.2) for name in ("part-*.h5", "all.h5")
    ]
    for name, values in samples[1].values.items():
        np.testing.assert_array_equal(samples[0].values[name], values)
    np.testing.assert_array_equal(samples[0].kept_showers, samples[1].kept_showers)


def test_the_same_seed_twice_is_refused_by_every_verb(folder, tmp_path, capsys):
    with ShowerFile(folder / "part-1.h5") as file:
        facts = {**file.provenance, "n": 100}
        with ShowerWriter(tmp_path / "again.h5", file.detector, facts, with_seconds=True) as writer:
            writer.append(file.read(0, 100))
    both = f"{{{str(folder)[1:]}/part-1.h5,{str(tmp_path)[1:]}/again.h5}}"
    for words in (
        ["train", folder / "run.yaml", "--data", f"/{both}", "-o", tmp_path / "run"],
        ["validate", f"/{both}", folder / "part-2.h5", "-o", tmp_path / "report"],
        ["inspect", folder / "part-1.h5", tmp_path / "again.h5"],
        ["generate", "clic-electron", "--like", f"/{both}", "-o", tmp_path / "g.h5"],
        ["join", f"/{both}", "-o", tmp_path / "joined.h5"],
    ):
        assert main([*map(str, words)]) == 1
        assert "of the same run and seed 1 are in" in " ".join(capsys.readouterr().err.split()), words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.h5"]


@pytest.mark.parametrize("words", ["--data a.h5 b.h5", "--data a.h5 --data b.h5"])
def test_an_option_takes_several_files(words):
    """Up to the next option, and repeated."""
    _, bound, _ = build_app().parse_args(["train", "demo", *words.split(), "-o", "out"])
    assert [str(path) for path in bound.kwargs["data"]] == ["a.h5", "b.h5"]

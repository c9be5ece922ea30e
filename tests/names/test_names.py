"""Names of what comes with caloforge win over files and folders of the same name, in every verb."""

import shutil

import pytest
import yaml

from caloforge.cli import main
from caloforge.errors import ConfigError
from caloforge.geometry import load_detector, preset_names
from caloforge.models.released import RELEASED, model_folder, released_models
from caloforge.names import is_path, shipped_name
from caloforge.run import STUDIES, load_run, recipe_names, recipe_text, run_file, study_names
from caloforge.tuning.config import load_study
from caloforge.tuning.space import Space
from caloforge.validation import load_thresholds, threshold_sets

NAMES = sorted({*recipe_names(), *preset_names(), *released_models(), *threshold_sets(), *study_names()})


@pytest.fixture(params=["folders", "files"])
def shadowed(request, tmp_path, monkeypatch):
    """A working directory in which every name is taken: by a folder, as `demo` by `make demo`, or a file."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        if request.param == "folders":
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text("not: this\n")
    return tmp_path


@pytest.mark.parametrize("name", recipe_names())
def test_recipes(shadowed, name, capsys):
    assert load_run(name).name == name
    assert run_file(name) is None
    notes = capsys.readouterr().err.splitlines()
    kind = "folder" if (shadowed / name).is_dir() else "file"
    assert (
        f"note: {name} is the recipe that comes with caloforge; for the {kind} here write ./{name}" in notes
    )
    # asked for twice, told once
    assert len(notes) == len(set(notes))


def test_all_other_names(shadowed):
    assert all(load_detector(name) for name in preset_names())
    assert [model_folder(name) for name in released_models()] == [RELEASED / n for n in released_models()]
    assert all(load_thresholds(name, []) for name in threshold_sets())
    assert all(load_study(name) for name in study_names())


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["config", "show", "demo"], "name: demo"),
        (["inspect", "clic-ecal-25"], "depth_radiation_lengths"),
        (["inspect", "demo"], "depth_radiation_lengths"),
        (["inspect", "clic-electron"], "layered"),
        (["init", "demo", "-o", "new.yaml"], "new.yaml written"),
        (["submit", "slurm", "train", "demo", "--data", "t.h5", "-o", "r", "--print"], "train demo"),
        (["submit", "slurm", "tune", "clic-electron", "-o", "s", "--print"], "caloforge tune clic-electron"),
        (["submit", "k8s", "train", "demo", "--data", "/data/t.h5", "-o", "/data/r", "--image", "a/b:1",
          "--volume", "claim:/data", "--print"], "demo"),
    ],
)  # fmt: skip
def test_verbs(shadowed, arguments, shown, capsys):
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert shown in out
    assert "note: " in err or arguments[0] in ("init", "submit")


def test_what_is_meant_as_a_path_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text(recipe_text("demo").replace("seed: 1", "seed: 77"), encoding="utf-8")
    assert load_run("./demo").seed == 77
    assert load_run("demo").seed == 1
    with pytest.raises(ConfigError, match="cannot read this configuration"):
        load_run("demo.yaml")
    (tmp_path / "clic-ecal-25").write_text("name: mine\n")
    with pytest.raises(ConfigError, match="mesh: this setting is required"):
        load_detector("./clic-ecal-25")
    shutil.copytree(RELEASED / "clic-electron", tmp_path / "sub/clic-electron")
    assert model_folder("sub/clic-electron").resolve() == tmp_path / "sub/clic-electron"


def test_a_file_without_a_suffix_is_read_where_no_name_is_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text(recipe_text("demo"), encoding="utf-8")
    assert load_run("mine").name == "demo"
    assert capsys.readouterr().err == ""


def test_the_run_of_a_study_beside_a_folder_of_its_name(tmp_path):
    document = yaml.safe_load((STUDIES / "clic-electron.yaml").read_text(encoding="utf-8"))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    for name in ("clic-electron", "mine"):
        (tmp_path / name).write_text(recipe_text("clic-electron").replace("seed: ", "seed: 9"))
    study = load_study(tmp_path / "study.yaml")
    seed = load_run("clic-electron").seed
    assert Space(study, tmp_path).base().seed == seed
    mine = study.model_copy(update={"run": "mine"})
    assert Space(mine, tmp_path).base().seed != seed


@pytest.mark.parametrize(
    ("load", "wrong", "right"),
    [
        (load_run, "dmo", "demo"),
        (load_study, "clic-elektron", "clic-electron"),
        (lambda name: load_thresholds(name, []), "strikt", "strict"),
        (load_detector, "clic-ecal-52", "clic-ecal-51"),
    ],
)
def test_a_misspelt_name(load, wrong, right):
    with pytest.raises(ConfigError, match=f"Did you mean '{right}'"):
        load(wrong)


@pytest.mark.parametrize("text", ["a.yaml", "./a", "a/b", "/a", ".", "..", "a/", "x.h5"])
def test_what_is_a_path(text):
    assert is_path(text)


@pytest.mark.parametrize("text", ["a", "clic-electron", "", "x" * 300])
def test_what_may_be_a_name(text):
    assert not is_path(text)
    assert shipped_name(text, ["b"], "recipe") is None


def test_no_name_looks_like_a_path():
    assert not any(map(is_path, NAMES))

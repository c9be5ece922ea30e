"""`validate` of a model: everything else is checked before its showers are made."""

import pytest
import toy_showers

from caloforge.cli import main
from caloforge.errors import OutputError
from caloforge.generation.plan import Plan

TOO_FEW = ["--truth2", "few.h5"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with showers, where models make none."""
    toy_showers.write(tmp_path / "truth.h5", toy_showers.batch(200, 1))
    toy_showers.write(tmp_path / "few.h5", toy_showers.batch(20, 1))
    (tmp_path / "work").mkdir()
    (tmp_path / "work/thesis.tex").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "caloforge.generation.generate.generate_file", lambda *_, **__: pytest.fail("generates")
    )
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "work"], "work exists already"),
        (["-o", "work", "--force"], "work holds no report"),
        (["-o", "/"], "/: cannot be used as an output"),
        (["-o", "."], "cannot be used as an output"),
        (["--thresholds", "strickt"], "strict"),
        (["--threshold", "5 cm"], "5 cm"),
        (["--triforce", "none.h5"], "none.h5"),
        (TOO_FEW, "few.h5: got 20 showers, expected at least 100"),
    ],
)
def test_what_is_wrong_is_said_before_showers_are_made(place, capsys, options, message):
    before = sorted(place.rglob("*"))
    output = [] if "-o" in options else ["-o", "report"]
    assert main(["validate", "truth.h5", "clic-electron", *output, *options]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_another_sample_or_model_that_is_wrong(place, capsys):
    for other in ("few.h5", "no-model"):
        assert main(["validate", "truth.h5", "clic-electron", other, "-o", "report"]) in (1, 2)
        assert other in capsys.readouterr().err
    assert not list(place.glob(".*"))


def test_a_full_disk_names_the_report(place, monkeypatch, capsys):
    def generate(model, conditions, out, **_):
        raise OutputError(f"{out}: the disk is full; free some space")

    # the truth of this test is of a smaller detector than the model's
    monkeypatch.setattr("caloforge.generation.conditions.conditions_like", lambda *_: range(200))
    monkeypatch.setattr("caloforge.generation.backend_selection.plan_for", lambda *_, **__: Plan("torch"))
    monkeypatch.setattr("caloforge.generation.generate.generate_file", generate)
    assert main(["validate", "truth.h5", "clic-electron", "-o", "report"]) == 1
    error = capsys.readouterr().err
    assert error == "error: report: the showers of clic-electron for it: the disk is full; free some space\n"
    assert not list(place.glob(".*"))

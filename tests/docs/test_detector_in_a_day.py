"""The guide from a drawing to an exported model is run command by command, as it is written."""

import os
import re

import pytest
from pages import commands, read

from caloforge.cli import main

PAGE = "docs/how-to/detector-in-a-day.md"
SMALL = os.environ.get("CALOFORGE_SCALE") == "small"
# a minute in place of an hour
FEWER = {"5000": "150", "3000": "100", "8000": "100"}
SHORTER = {
    "likelihood_steps: 1000": "likelihood_steps: 6",
    "matching_steps: 500": "matching_steps: 4",
    "max_steps: 1500": "max_steps: 10",
}


def write_files(folder):
    """The files that the page shows, by their captions."""
    found = re.findall(r"^:caption: (\S+)\n(.*?)^```$", read(PAGE), re.MULTILINE | re.DOTALL)
    for name, text in found:
        for long, short in SHORTER.items() if SMALL else ():
            text = text.replace(long, short)
        (folder / name).write_text(text)
    return {name for name, _ in found}


@pytest.mark.slow
@pytest.mark.geant4
@pytest.mark.timeout(7200)
def test_every_command_of_the_page_succeeds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert write_files(tmp_path) == {"crystals.yaml", "run.yaml"}
    for tokens in commands(PAGE):
        given = [FEWER.get(token, token) if SMALL else token for token in tokens]
        # a short training is not within the thresholds, and says so
        allowed = (0, 3) if given[0] == "validate" else (0,)
        assert main(given) in allowed, (given, capsys.readouterr().err)
    for made in (
        "pictures/detector.png",
        "pictures-training/training.png",
        "report/report.html",
        "exported/manifest.json",
    ):
        assert (tmp_path / made).exists()


def test_the_run_of_the_page_is_that_of_the_recipe(tmp_path):
    from caloforge.run import load_run

    write_files(tmp_path)
    run, recipe = load_run(tmp_path / "run.yaml"), load_run("crystal-photon")
    assert run.beam == recipe.beam
    assert SMALL or (run.model == recipe.model and run.training == recipe.training)
    assert run.detector.layers == recipe.detector.layers
    assert run.detector.mesh == recipe.detector.mesh

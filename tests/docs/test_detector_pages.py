"""What the pages about detectors and shower files show is run here."""

import re
from pathlib import Path

import pytest
import yaml

from caloforge import ShowerFile, load_detector
from caloforge.geometry import Detector

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page, language):
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no {language}"
    return found


@pytest.mark.parametrize(
    "text", [*blocks("reference/detector.md", "yaml"), *blocks("how-to/new-detector.md", "yaml")]
)
def test_every_description_can_be_built(text):
    document = yaml.safe_load(text)
    if "kind" in document:
        # a mesh alone: read out the layers of a preset with it
        layers = (
            []
            if document["kind"] == "ragged"
            else load_detector("par04-siw").model_dump(mode="json")["layers"]
        )
        document = {"name": "x", "layers": layers, "mesh": document}
    assert load_detector(document).name


def test_every_key_of_a_detector_is_described():
    text = (DOCS / "reference/detector.md").read_text(encoding="utf-8")
    for name in Detector.model_fields:
        assert f"`{name}`" in text, name


def test_the_programs_of_the_shower_file_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # the last one writes what the first ones read
    *readers, writer = blocks("reference/shower-file.md", "python")
    exec(compile(writer.replace("mine.h5", "showers.h5"), "writer", "exec"), {})
    for reader in readers:
        exec(compile(reader, "reader", "exec"), {})
    assert "clic-ecal-25" in capsys.readouterr().out
    with ShowerFile("showers.h5") as file:
        assert len(file) == 30

"""The notebooks of the documentation run, and what a cell shows stands on the page."""

import json
import subprocess
import sys

import pytest
from pages import ROOT

RUNNER = ROOT / "docs/_ext/notebooks.py"
NOTEBOOKS = sorted(path for path in (ROOT / "docs").rglob("*.ipynb") if "_build" not in path.parts)


def run(document):
    pytest.importorskip("myst_parser")
    return subprocess.run(
        [sys.executable, RUNNER], input=json.dumps(document), capture_output=True, text=True, timeout=200
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_cell_runs(path):
    document = json.loads(path.read_text())
    # what cells showed somewhere once is no part of the source
    assert all(cell.get("outputs", []) == [] for cell in document["cells"])
    done = run(document)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("data:image/png;base64,") == 4
    assert "<table>" in done.stdout


def test_what_a_cell_shows():
    cells = ["x = 6", "print(x)\nx * 7", "x +="]
    document = {"cells": [{"cell_type": "code", "source": [text]} for text in cells]}
    done = run({"cells": document["cells"][:2]})
    assert "text\n6\n" in done.stdout
    assert "text\n42\n" in done.stdout
    assert run(document).returncode == 1

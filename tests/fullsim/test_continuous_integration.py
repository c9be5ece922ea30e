"""Geant4 on a machine that says CI=true, as build farms do."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.geant4

CODE = """
import os
from caloforge.fullsim.geant4_import import load_geant4
load_geant4().G4NistManager
print(os.environ["CI"], os.listdir(os.environ["HOME"]))
"""


def test_nothing_is_downloaded_or_tidied(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("G4", "GEANT4_"))}
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**clean, "CI": "true", "HOME": str(home), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[-2] == "true []"

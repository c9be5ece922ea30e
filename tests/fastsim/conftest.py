"""What tests of fast simulation inside Geant4 share."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import caloforge
from caloforge.fastsim.ledger import COLUMN, ROUTES
from caloforge.geometry import load_detector

RUN = """
name: photons
detector: clic-ecal-25
beam: {particle: gamma, energy: {kind: flat, min: 10 GeV, max: 500 GeV}}
model: {family: frozen}
"""


class Gated:
    """What a block of gated.py holds."""

    def __init__(self, arrays):
        self.ledger, self.showers, self.taken = (arrays[key] for key in ("ledger", "showers", "taken"))

    def column(self, name):
        return self.ledger[:, COLUMN[name]]

    def imbalance(self):
        """Incident energy that no route has, MeV."""
        return self.column("primary") - sum(self.column(route) for route in ROUTES)


@pytest.fixture
def gated(tmp_path):
    """Simulates a block with a model at the gate, in a process of its own."""

    def run(**job):
        given = {
            "detector": load_detector("clic-ecal-25").model_dump(mode="json"),
            "fullsim": {},
            "model": "clic-electron",
            "seed": 3,
            **job,
        }
        subprocess.run(
            [sys.executable, Path(__file__).with_name("gated.py"), tmp_path / "block.npz"],
            input=json.dumps(given),
            text=True,
            check=True,
            timeout=200,
        )
        with np.load(tmp_path / "block.npz") as arrays:
            return Gated(arrays)

    return run


@pytest.fixture(scope="session")
def photon_model(tmp_path_factory, photons):
    """A library of photon showers."""
    folder = tmp_path_factory.mktemp("photons")
    (folder / "run.yaml").write_text(RUN)
    caloforge.train(str(folder / "run.yaml"), data=photons, out=folder / "model", progress=False)
    return folder / "model"

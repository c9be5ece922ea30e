"""Geant4 with a model at its gate, and material in front of it: run by test_gate.py in a process of its own.

Reads {detector, beam, fullsim, model, config, n, seed, tungsten} on standard input; writes the block to the
file that is its argument.
"""

import json
import sys

import numpy as np

from caloforge.beam import BeamConfig
from caloforge.config import build
from caloforge.fastsim import application as fast
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.gate import GatedConstruction, g
from caloforge.fastsim.model import FastModel
from caloforge.fullsim import beam_placement
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector
from caloforge.models.store import read_model

job = json.load(sys.stdin)
detector = Detector.model_validate(job["detector"])
# mm in front of the face, far enough for photons of a pion to part
beam_placement.GUN_DISTANCE = job.get("distance", 1.0)


class Obstructed(GatedConstruction):
    """Tungsten in front of the calorimeter."""

    def __init__(self, plate):
        super().__init__(plate, beam_placement.GUN_DISTANCE + 10)

    def fill(self, front):
        if not job.get("tungsten"):
            return
        tungsten = g.G4NistManager.Instance().FindOrBuildMaterial("G4_W")
        solid = g.G4Box("wall", 200, 200, job["tungsten"] / 2)
        # a user is free in names and regions
        wall = self._keep(solid, g.G4LogicalVolume(solid, tungsten, "plate"))
        self._keep(g.G4Region("wall")).AddRootLogicalVolume(wall)
        # the front volume is centred at half the depth of the world
        self._place(wall, front, self.half_depth / 2 - job["tungsten"] - 5, 0)


fast.GatedConstruction = Obstructed
model = FastModel(read_model(job["model"]), detector, build(FastSimConfig, job.get("config", {}), "fast"))
application = fast.GatedApplication(
    detector, build(BeamConfig, job["beam"], "beam"), FullSimConfig.model_validate(job["fullsim"]), model
)
block = application.simulate(job["seed"], job.get("start", 0), job.get("start", 0) + job["n"])
taken = application._readout.gate.taken
np.savez(
    sys.argv[1],
    ledger=block.ledger,
    showers=block.dense(block.start, block.start + job["n"], detector.shower_shape),
    taken=np.array(
        [(p.event, p.pdg_id, p.energy, *p.position, *p.direction, p.time, p.track) for p in taken]
    ),
)
sys.stdout.flush()
# Geant4's destructors crash when Python runs them
import os  # noqa: E402

os._exit(0)

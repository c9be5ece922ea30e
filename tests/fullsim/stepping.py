"""Deposits summed step by step in Python, beside those of caloforge's scorers: run by test_scoring.py.

Reads {detector, beam, fullsim, n} on standard input; prints the sums over n showers as JSON.
"""

import json
import sys

import numpy as np

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.fullsim.application import Application, g
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector

job = json.load(sys.stdin)
detector = Detector.model_validate(job["detector"])
beam = BeamConfig.model_validate(job["beam"])
application = Application(detector, beam, FullSimConfig.model_validate(job["fullsim"]))
mesh = detector.mesh

# every plate: front, back, readout layer, active
plates, front = [], 0.0
for index, layer in enumerate(detector.physical_layers()):
    for slab in layer.slabs:
        plates.append((front, front + slab.thickness, index // mesh.layers_per_voxel, slab.active))
        front += slab.thickness
fronts = np.array([plate[0] for plate in plates])


class Steps(g.G4UserSteppingAction):
    """Books each step by where its middle is, from the definitions of the mesh alone."""

    def __init__(self):
        super().__init__()
        self.showers = np.zeros(detector.shower_shape)
        self.all = self.escaped = 0.0
        self.entry = None
        self.steps = 0

    def UserSteppingAction(self, step):
        before, after = step.GetPreStepPoint(), step.GetPostStepPoint()
        track = step.GetTrack()
        self.steps += 1
        if self.entry is None and track.GetTrackID() == 1:
            p, d = track.GetVertexPosition(), track.GetVertexMomentumDirection()
            self.entry = [p.x, p.y, p.z], [d.x, d.y, d.z]
        if after.GetStepStatus() == g.fWorldBoundary:
            # an electron-positron pair would be made of a positron's mass and an electron's
            mass = 2 * g.electron_mass_c2 if track.GetDefinition().GetParticleName() == "e+" else 0.0
            self.escaped += track.GetKineticEnergy() + mass
        deposit = step.GetTotalEnergyDeposit()
        if deposit == 0:
            return
        self.all += deposit
        middle = (before.GetPosition() + after.GetPosition()) * 0.5
        layer, active = self.plate(middle.z)
        if active:
            row, column = self.row_and_column(middle.x, middle.y)
            if 0 <= row < self.showers.shape[1] and 0 <= column < self.showers.shape[2]:
                self.showers[layer, row, column] += deposit

    def plate(self, z):
        if not 0 <= z < front:
            return 0, False
        _, _, layer, active = plates[int(np.searchsorted(fronts, z, "right")) - 1]
        return layer, active

    def row_and_column(self, x, y):
        if mesh.kind == "cartesian":
            scaled = np.array([y / mesh.cell_y + mesh.ny / 2, x / mesh.cell_x + mesh.nx / 2])
            return np.floor(scaled).astype(int)
        sector = int((np.arctan2(y, x) + np.pi) / (2 * np.pi / mesh.nphi)) % mesh.nphi
        return sector, int(np.hypot(x, y) // mesh.cell_r)


steps = Steps()
g.G4RunManager.GetRunManager().SetUserAction(steps)
block = application.simulate(3, 0, job["n"])
scored = block.dense(0, job["n"], detector.shower_shape).sum(axis=0, dtype=np.float64)
position, direction = steps.entry
document = {
    "incident": float(sample_conditions(beam, detector.mesh, 3, 0, job["n"]).energy.sum(dtype=np.float64)),
    "scored": scored.ravel().tolist(),
    "stepped": steps.showers.ravel().tolist(),
    "all": steps.all,
    "steps": steps.steps,
    "escaped": steps.escaped,
    "position": position,
    "direction": direction,
}
sys.stdout.write(json.dumps(document) + "\n")

"""Volumes that users place around a gate: run by test_gate.py in a process of its own.

Prints what is said of each case, None where nothing is.
"""

import json
import os

from caloforge.errors import GeometryError
from caloforge.fastsim.gate import BORDER, GatedConstruction, g
from caloforge.geometry import load_detector

DETECTOR = load_detector("clic-ecal-25")


class Placed(GatedConstruction):
    """Boxes of gold, which is not in the detector, 10 mm thick."""

    def __init__(self, **boxes):
        super().__init__(DETECTOR, 100.0)
        self.boxes = boxes
        # of the volume in front, whose back is the face
        self.middle = (self.half_depth - BORDER) / 2

    def box(self, name, mother, z, half=100):
        gold = g.G4NistManager.Instance().FindOrBuildMaterial("G4_Au")
        solid = g.G4Box(name, half, half, 5)
        volume = self._keep(solid, g.G4LogicalVolume(solid, gold, name))
        self._place(volume, mother, z, 0)
        return volume

    def fill(self, front):
        for name, z in self.boxes.items():
            self.box(name, front, self.middle + z)


class InTheWorld(Placed):
    def Construct(self):
        placed = super().Construct()
        self.box("wall", placed.GetLogicalVolume(), self.boxes_at)
        return placed

    def __init__(self, z):
        super().__init__()
        self.boxes_at = z


class Pinned(Placed):
    def fill(self, front):
        self.box("pin", self.box("wall", front, 0), 0, half=150)


class Replaced(GatedConstruction):
    def __init__(self):
        super().__init__(DETECTOR)

    def Construct(self):
        solid = g.G4Box("world", 1, 1, 1)
        world = self._keep(solid, g.G4LogicalVolume(solid, None, "world"))
        return self._place(world, None, 0, 0)


CASES = {
    "touching": Placed(wall=-5.0, other=-15.0),
    "behind": InTheWorld(DETECTOR.depth + 5),
    "into the face": Placed(wall=-3.0),
    "into the gate": InTheWorld(-50.0),
    "into each other": Placed(inner=-50.0, wall=-42.0),
    "out of another": Pinned(),
    "absent": Replaced(),
}
said = {}
for case, construction in CASES.items():
    construction.Construct()
    try:
        construction.check()
        said[case] = None
    except GeometryError as error:
        said[case] = str(error)
print(json.dumps(said), flush=True)
# Geant4's destructors crash when Python runs them
os._exit(0)

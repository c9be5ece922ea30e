"""Print as JSON what Geant4 computes with caloforge's tables; test_nist.py runs it in its own process."""

import json
import sys

from caloforge.fullsim.geant4_import import load_geant4, stdout_discarded

ELEMENTS = {"G4_W": 74, "G4_Si": 14, "G4_Pb": 82}
ENERGIES = (0.1, 0.5, 1.0, 10.0)
# where radiation alone counts, MeV
HIGH = 1e5
PHOTON_PROCESSES = ("phot", "compt", "conv", "Rayl")

g = load_geant4(ELEMENTS.values())


class Blocks(g.G4VUserDetectorConstruction):
    """One block of each material in vacuum: processes are prepared for what stands in a geometry."""

    def Construct(self):
        self.kept = []
        world, placed = self.box("world", 100.0, "G4_Galactic", None, 0.0)
        for i, name in enumerate(ELEMENTS):
            self.box(name, 5.0, name, world, 20.0 * (i - 1))
        return placed

    def box(self, name, half, material, mother, z):
        solid = g.G4Box(name, half, half, half)
        logical = g.G4LogicalVolume(solid, g.G4NistManager.Instance().FindOrBuildMaterial(material), name)
        placed = g.G4PVPlacement(None, g.G4ThreeVector(0, 0, z), logical, name, mother, False, 0, False)
        self.kept += [solid, logical, placed]
        return logical, placed


class Physics(g.G4VModularPhysicsList):
    def __init__(self):
        super().__init__()
        self.SetVerboseLevel(0)
        self.em = g.G4EmStandardPhysics()
        self.RegisterPhysics(self.em)


class Gun(g.G4VUserPrimaryGeneratorAction):
    def __init__(self):
        super().__init__()
        self.gun = g.G4ParticleGun(1)
        self.gun.SetParticleDefinition(g.G4ParticleTable.GetParticleTable().FindParticle("gamma"))
        self.gun.SetParticleEnergy(0.1)
        self.gun.SetParticlePosition(g.G4ThreeVector(0, 0, -50))
        self.gun.SetParticleMomentumDirection(g.G4ThreeVector(0, 0, 1))

    def GeneratePrimaries(self, event):
        self.gun.GeneratePrimaryVertex(event)


class Photoelectrons(g.G4UserTrackingAction):
    """Kinetic energies of the electrons that the beam itself sets free in the photoelectric effect."""

    def __init__(self):
        super().__init__()
        self.energies = []

    def PreUserTrackingAction(self, track):
        creator = track.GetCreatorProcess()
        if track.GetParentID() == 1 and creator is not None and creator.GetProcessName() == "phot":
            self.energies.append(track.GetKineticEnergy())


class Actions(g.G4VUserActionInitialization):
    def Build(self):
        self.gun = Gun()
        self.photoelectrons = Photoelectrons()
        self.SetUserAction(self.gun)
        self.SetUserAction(self.photoelectrons)


def numbers(name):
    """X0 in mm, attenuation in cm2/g, the rest as in test_nist.py."""
    calculator = g.G4EmCalculator()
    material = g.G4NistManager.Instance().FindOrBuildMaterial(name)
    x0 = material.GetRadlen()
    # cross sections per volume are in 1/mm and losses in MeV/mm
    per_gram = (g.g / g.cm2) / material.GetDensity()

    def attenuation(energy):
        parts = [calculator.ComputeCrossSectionPerVolume(energy, "gamma", p, name) for p in PHOTON_PROCESSES]
        return sum(parts) * per_gram

    def loss(energy, particle, process):
        return calculator.ComputeDEDX(energy, particle, process, name)

    low, high = 1.0, 1000.0
    for _ in range(40):
        critical = (low * high) ** 0.5
        above = loss(critical, "e-", "eIoni") * x0 > critical
        low, high = (critical, high) if above else (low, critical)
    return {
        "x0": x0,
        "attenuation": {energy: attenuation(energy) for energy in ENERGIES},
        "critical_energy": critical,
        "muon_minimum": min(loss(100 * 1.02**i, "mu-", "muIoni") for i in range(120)) * per_gram,
        "radiative_loss_in_x0": loss(HIGH, "e-", "eBrem") * x0 / HIGH,
    }


with stdout_discarded():
    manager = g.G4RunManager()
    kept = [Blocks(), Physics(), Actions()]
    for part in kept:
        manager.SetUserInitialization(part)
    manager.Initialize()
    manager.BeamOn(4000)
    found = {name: numbers(name) for name in ELEMENTS}
found["photoelectrons"] = kept[2].photoelectrons.energies
sys.stdout.write(json.dumps(found) + "\n")

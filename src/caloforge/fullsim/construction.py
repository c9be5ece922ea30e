"""The detector as Geant4 volumes, whose replicas are the cells of the mesh.

Importing this module loads Geant4 into the process.

Every plate is one placement; its copy number is its readout layer. A plate of active material holds the
mesh, which is cut into replicas: rows along y and cells along x, or sectors along phi and rings along rho.
In homogeneous detectors the rings are placements, and their sectors replicas. One scorer adds up the deposits
by the three copy numbers, so that the active plates of a readout layer are summed in C++, without a
Python callback per step.
"""

from __future__ import annotations

import math
from typing import Any

from caloforge.fullsim.geant4_import import load_geant4
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, Slab
from caloforge.geometry.materials import Material
from caloforge.units import DENSITY_UNITS

load_geant4()
import geant4_pybind as g  # noqa: E402 - after the environment is prepared

# vacuum around the calorimeter, mm
WORLD_MARGIN = 10.0
RINGS_PER_GROUP = 10
SENSITIVE_DETECTOR, SCORER = "calorimeter", "deposit"
# levels of the volumes above the one a step is in: plate, row, column
REPLICA_DEPTHS, PLACED_RING_DEPTHS = (3, 1, 0), (3, 0, 1)


class Construction(g.G4VUserDetectorConstruction):  # type: ignore[misc]
    """Builds a detector; coordinates are those of `Detector`: z is the depth, 0 at the front face."""

    def __init__(self, detector: Detector, margin: float = WORLD_MARGIN) -> None:
        """Store the detector; Geant4 calls `Construct` later.

        Args:
            detector: The detector.
            margin: Vacuum around the calorimeter, mm.
        """
        super().__init__()
        self.detector = detector
        # of the world
        self.half_width = detector.width / 2 + margin
        self.half_depth = detector.depth + margin
        # keep references: Geant4 does not own objects created in Python
        self._kept: list[Any] = []
        self._cells: list[Any] = []

    def Construct(self) -> Any:  # noqa: N802 - called by Geant4
        """The world with every plate in it."""
        detector = self.detector
        self._materials = {name: _material(m) for name, m in detector.material_map().items()}
        vacuum = g.G4NistManager.Instance().FindOrBuildMaterial("G4_Galactic")
        solid = g.G4Box("world", self.half_width, self.half_width, self.half_depth)
        world = self._keep(solid, g.G4LogicalVolume(solid, vacuum, "world"))
        placed = self._place(world, None, 0.0, 0)
        per_readout = detector.n_physical_layers // detector.n_layers
        plates: dict[Slab, Any] = {}
        front = 0.0
        for index, layer in enumerate(detector.physical_layers()):
            for slab in layer.slabs:
                if slab not in plates:
                    plates[slab] = self._plate(slab)
                centre = front + slab.thickness / 2
                self._place(plates[slab], world, centre, index // per_readout)
                front += slab.thickness
        return placed

    def ConstructSDandField(self) -> None:  # noqa: N802 - called by Geant4
        """Attach one scorer to all cells; its key is (layer * rows + row) * columns + column."""
        depths = PLACED_RING_DEPTHS if self._rings_are_placed() else REPLICA_DEPTHS
        scorer = g.G4PSEnergyDeposit3D(SCORER, *self.detector.shower_shape, *depths)
        readout = self._keep(scorer, g.G4MultiFunctionalDetector(SENSITIVE_DETECTOR))
        readout.RegisterPrimitive(scorer)
        g.G4SDManager.GetSDMpointer().AddNewDetector(readout)
        for cell in self._cells:
            self.SetSensitiveDetector(cell, readout)

    def _plate(self, slab: Slab) -> Any:
        half = self.detector.width / 2
        solid = g.G4Box("plate", half, half, slab.thickness / 2)
        plate = self._logical(solid, slab)
        if slab.active:
            mesh = self.detector.mesh
            if isinstance(mesh, CartesianMesh):
                self._cells.append(self._rows_and_cells(mesh, slab, plate))
            elif isinstance(mesh, CylindricalMesh):
                if self._rings_are_placed():
                    self._cells += self._placed_rings(mesh, slab, plate)
                else:
                    self._cells.append(self._sectors_and_rings(mesh, slab, plate))
        return plate

    def _rows_and_cells(self, mesh: CartesianMesh, slab: Slab, plate: Any) -> Any:
        x, y, z = mesh.nx * mesh.cell_x / 2, mesh.ny * mesh.cell_y / 2, slab.thickness / 2
        window = self._logical(g.G4Box("window", x, y, z), slab)
        row = self._logical(g.G4Box("row", x, mesh.cell_y / 2, z), slab)
        cell = self._logical(g.G4Box("cell", mesh.cell_x / 2, mesh.cell_y / 2, z), slab)
        self._place(window, plate, 0.0, 0)
        self._keep(g.G4PVReplica("row", row, window, g.kYAxis, mesh.ny, mesh.cell_y, 0.0))
        self._keep(g.G4PVReplica("cell", cell, row, g.kXAxis, mesh.nx, mesh.cell_x, 0.0))
        return cell

    def _rings_are_placed(self) -> bool:
        """Whether rings are placed volumes divided into sectors, instead of replicas inside the sectors.

        Geant4 underestimates the distance to the nearest boundary in replicas along rho inside replicas along
        phi, and multiple scattering takes four times as many steps. In homogeneous detectors that doubles
        the time of a shower and does not change the result, so that their rings are placed. In thin plates it
        costs no time, and placed rings would change the response by 1 %. With nphi = 1 rings are placed as
        well, since a track cannot leave a replica of the whole circle.
        """
        mesh = self.detector.mesh
        return isinstance(mesh, CylindricalMesh) and (self.detector.is_homogeneous or mesh.nphi == 1)

    def _sectors_and_rings(self, mesh: CylindricalMesh, slab: Slab, plate: Any) -> Any:
        radius, z = mesh.half_extent(), slab.thickness / 2
        width = 2 * math.pi / mesh.nphi
        window = self._logical(g.G4Tubs("window", 0.0, radius, z, 0.0, 2 * math.pi), slab)
        # the frame of a replica in phi is rotated to its middle
        sector = self._logical(g.G4Tubs("sector", 0.0, radius, z, -width / 2, width), slab)
        ring = self._logical(g.G4Tubs("ring", 0.0, mesh.cell_r, z, -width / 2, width), slab)
        self._place(window, plate, 0.0, 0)
        self._keep(g.G4PVReplica("sector", sector, window, g.kPhi, mesh.nphi, width, -math.pi))
        self._keep(g.G4PVReplica("ring", ring, sector, g.kRho, mesh.nr, mesh.cell_r, 0.0))
        return ring

    def _placed_rings(self, mesh: CylindricalMesh, slab: Slab, plate: Any) -> list[Any]:
        z, width, circle = slab.thickness / 2, 2 * math.pi / mesh.nphi, 2 * math.pi
        # Geant4 searches the daughters of a volume linearly: nested groups are faster
        many = max(RINGS_PER_GROUP, math.isqrt(mesh.nr))
        sectors = []
        for number in range(mesh.nr):
            inner, outer = number * mesh.cell_r, (number + 1) * mesh.cell_r
            if number % many == 0:
                last = min(number + many, mesh.nr) * mesh.cell_r
                group = self._logical(g.G4Tubs("group", inner, last, z, 0.0, circle), slab)
                self._place(group, plate, 0.0, 0)
            ring = self._logical(g.G4Tubs("ring", inner, outer, z, 0.0, circle), slab)
            self._place(ring, group, 0.0, number)
            # the frame of a replica in phi is rotated to its middle
            sector = self._logical(g.G4Tubs("sector", inner, outer, z, -width / 2, width), slab)
            if mesh.nphi == 1:
                self._place(sector, ring, 0.0, 0)
            else:
                self._keep(g.G4PVReplica("sector", sector, ring, g.kPhi, mesh.nphi, width, -math.pi))
            sectors.append(sector)
        return sectors

    def _logical(self, solid: Any, slab: Slab) -> Any:
        volume = g.G4LogicalVolume(solid, self._materials[slab.material], solid.GetName())
        return self._keep(solid, volume)

    def _place(self, volume: Any, mother: Any, z: float, copy: int) -> Any:
        position = g.G4ThreeVector(0.0, 0.0, z)
        return self._keep(
            g.G4PVPlacement(None, position, volume, volume.GetName(), mother, False, copy, False)
        )

    def _keep(self, *objects: Any) -> Any:
        self._kept += objects
        return objects[-1]


def _material(material: Material) -> Any:
    """A NIST material of Geant4's data base, or a mixture composed of elements."""
    manager = g.G4NistManager.Instance()
    if material.name.startswith("G4_"):
        return manager.FindOrBuildMaterial(material.name)
    density = material.density / DENSITY_UNITS["g/cm3"] * (g.g / g.cm3)
    state = g.kStateGas if material.gas else g.kStateSolid
    mixture = g.G4Material(material.name, density, len(material.fractions), state)
    for symbol, fraction in material.fractions.items():
        mixture.AddElementByMassFraction(manager.FindOrBuildElement(symbol), fraction)
    return mixture

"""Recording of every step of Geant4 in the cells, where sums are not enough.

Importing this module loads Geant4 into the process.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.fastsim.events.hits import Steps
from caloforge.fastsim.gate import GatedConstruction
from caloforge.fullsim.construction import REPLICA_DEPTHS
from caloforge.fullsim.geant4_import import load_geant4
from caloforge.geometry import Detector

load_geant4()
import geant4_pybind as g  # noqa: E402 - after the environment is prepared

# the flat cells, energies (MeV) and steps of an event of Geant4's
Recorded = tuple[NDArray[np.int64], NDArray[np.float64], Steps]


class StepRecorder(g.G4VSensitiveDetector):  # type: ignore[misc]
    """Sensitive detector: notes each step with a deposit."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Nothing is noted yet.

        Args:
            shape: Layers, rows and columns of the plate.
        """
        super().__init__("steps")
        self._shape = shape
        self._rows: list[tuple[float, ...]] = []

    def ProcessHits(self, step: Any, _history: Any) -> bool:  # noqa: N802 - called by Geant4
        """Called at each step in a cell."""
        deposit = step.GetTotalEnergyDeposit()
        if deposit == 0:
            return False
        before = step.GetPreStepPoint()
        touchable = before.GetTouchable()
        layer, row, column = (touchable.GetCopyNumber(depth) for depth in REPLICA_DEPTHS)
        _, rows, columns = self._shape
        middle = (before.GetPosition() + step.GetPostStepPoint().GetPosition()) * 0.5
        self._rows.append(
            (
                g.G4RunManager.GetRunManager().GetCurrentEvent().GetEventID(),
                (layer * rows + row) * columns + column,
                deposit,
                middle.x,
                middle.y,
                middle.z,
                step.GetStepLength(),
                before.GetGlobalTime(),
                step.GetTrack().GetDefinition().GetPDGEncoding(),
            )
        )
        return True

    def take(self, events: int) -> list[Recorded]:
        """The steps of each event of the last run; they are forgotten."""
        rows = np.array(self._rows, np.float64).reshape(len(self._rows), 9)
        self._rows = []
        ends = np.searchsorted(rows[:, 0], np.arange(events + 1))
        found = []
        for start, stop in pairwise(ends):
            part = rows[start:stop]
            steps = Steps(part[:, 3:6], part[:, 6], part[:, 7], part[:, 8].astype(np.int64))
            found.append((part[:, 1].astype(np.int64), part[:, 2], steps))
        return found


class RecordedConstruction(GatedConstruction):
    """A calorimeter whose cells have a recorder beside the scorer."""

    def __init__(self, detector: Detector, space: float) -> None:
        """Store the detector; see `GatedConstruction`."""
        super().__init__(detector, space)
        self.recorder: StepRecorder | None = None

    def ConstructSDandField(self) -> None:  # noqa: N802 - called by Geant4
        """Attach scorer and recorder."""
        super().ConstructSDandField()
        self.recorder = StepRecorder(self.detector.shower_shape)
        self._keep(self.recorder)
        g.G4SDManager.GetSDMpointer().AddNewDetector(self.recorder)
        for cell in self._cells:
            self.SetSensitiveDetector(cell, self.recorder)

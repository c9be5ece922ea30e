"""Configuration of the full simulation; importing it does not import Geant4."""

from __future__ import annotations

from pydantic import field_validator

from caloforge.config import StrictModel
from caloforge.errors import nearest
from caloforge.units import Energy, Length

# electromagnetic physics constructors that run on caloforge's own tables
OWN_TABLES_PHYSICS = (
    "G4EmStandardPhysics",
    "G4EmStandardPhysics_option1",
    "G4EmStandardPhysics_option2",
)

# electromagnetic physics constructors that need more of the data set G4EMLOW, such as atomic de-excitation
FULL_EM_PHYSICS = (
    "G4EmStandardPhysics_option3",
    "G4EmStandardPhysics_option4",
    "G4EmStandardPhysicsGS",
    "G4EmStandardPhysicsSS",
    "G4EmStandardPhysicsWVI",
    "G4EmLivermorePhysics",
    "G4EmLowEPPhysics",
    "G4EmPenelopePhysics",
)

# hadronic reference physics lists; they need the data sets that Geant4 distributes
HADRONIC_PHYSICS = (
    "FTFP_BERT",
    "FTFP_BERT_ATL",
    "FTFP_BERT_HP",
    "FTFP_BERT_TRV",
    "FTFP_INCLXX",
    "FTFP_INCLXX_HP",
    "FTF_BIC",
    "QBBC",
    "QGSP_BERT",
    "QGSP_BERT_HP",
    "QGSP_BIC",
    "QGSP_BIC_HP",
    "QGSP_FTFP_BERT",
    "QGSP_INCLXX",
    "QGSP_INCLXX_HP",
    "QGS_BIC",
    "Shielding",
)

PHYSICS = OWN_TABLES_PHYSICS + FULL_EM_PHYSICS + HADRONIC_PHYSICS


class FullSimConfig(StrictModel):
    """Settings of Geant4.

    `physics` is an electromagnetic constructor or a hadronic reference list. `production_cut` is the range
    below which secondaries are not followed. Deposits of a cell below `cell_threshold` become 0.
    """

    physics: str = "G4EmStandardPhysics"
    production_cut: Length = 0.7
    cell_threshold: Energy = 1e-3

    @field_validator("physics")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PHYSICS:
            raise ValueError(f"got the physics {value!r}. {nearest(value, PHYSICS)}")
        return value

    @field_validator("production_cut")
    @classmethod
    def _sensible_cut(cls, value: float) -> float:
        # below 1e-4 mm Geant4's tables are not valid, and a shower takes more than a day
        if not 1e-4 <= value <= 1e4:
            raise ValueError(f"got a production cut of {value} mm, expected 0.0001 mm to 10 m")
        return value

    @field_validator("cell_threshold")
    @classmethod
    def _not_negative(cls, value: float) -> float:
        if value < 0:
            raise ValueError(f"got a cell threshold of {value} MeV, expected 0 or more")
        return value

    @property
    def is_hadronic(self) -> bool:
        """Whether the strong interaction is simulated, which needs the data sets of Geant4."""
        return self.physics in HADRONIC_PHYSICS

    @property
    def needs_full_em(self) -> bool:
        """Whether the electromagnetic data set of Geant4 must be there instead of caloforge's own tables."""
        return self.physics in FULL_EM_PHYSICS

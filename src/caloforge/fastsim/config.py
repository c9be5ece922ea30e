"""Settings of fast simulation inside Geant4. Importing this imports neither Geant4 nor torch."""

from __future__ import annotations

from pydantic import field_validator

from caloforge.config import StrictModel
from caloforge.units import Angle, Energy, format_angle

# particles whose showers are purely electromagnetic
ELECTROMAGNETIC = (11, -11, 22)


class FastSimConfig(StrictModel):
    """Which particles a model takes from Geant4.

    The model takes electrons, positrons and photons that it was trained on, from `threshold` on (default: the
    lowest trained energy) up to the highest trained energy. Their direction may lie outside of the trained
    range of angles by up to `acceptance`; the model then makes the shower of the nearest trained direction.
    """

    threshold: Energy | None = None
    acceptance: Angle = 0.017453292519943295

    @field_validator("threshold")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and not value > 0:
            raise ValueError(f"got a threshold of {value} MeV, expected more than 0")
        return value

    @field_validator("acceptance")
    @classmethod
    def _an_angle(cls, value: float) -> float:
        if not 0 <= value <= 0.35:
            raise ValueError(
                f"got an acceptance of {format_angle(value)}, expected 0 deg to 20 deg: a shower is not "
                "turned to its direction"
            )
        return value

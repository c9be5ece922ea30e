"""Configuration of the layered family."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from caloforge.config import StrictModel
from caloforge.models.layered.presets import PRESETS
from caloforge.models.presets import FamilyConfig
from caloforge.units import Energy


class CriticConfig(StrictModel):
    """What judges the student's cells in the last phase: hinge losses with spectral norms of one.

    `features` shows the critic sums and neighbour products of the cells beside the cells themselves. `weight`
    is that of the critic, `matching` that of the means of the features, which need no critic, and `lesson`
    that of the divergence from the teacher, which keeps the student from drifting.
    """

    width: int = Field(default=48, ge=1, le=1024)
    features: bool = True
    weight: float = Field(default=0.5, ge=0)
    matching: float = Field(default=1.0, ge=0)
    lesson: float = Field(default=0.05, ge=0)


class LayeredConfig(FamilyConfig):
    """Two stages: energies, hits and centre of zones of the layers, then the cells.

    The first stage is fitted. The second is trained in three phases. For `likelihood_steps` the teacher
    learns the density of every cell given the cells before it. For `lesson_steps` the student learns to draw
    in one pass what the teacher draws in `teacher_passes`. From then on a critic judges the student.

    `zones` are the rings around the axis, in cells, at which zones of a layer begin; the energy and
    the hits of each zone are part of the first stage, which keeps the summaries of `donors` showers.
    """

    presets = PRESETS

    family: Literal["layered"] = "layered"
    preset: Literal["base", "debug"] = "base"
    zones: tuple[Annotated[int, Field(ge=0, le=4096)], ...] = (0, 1, 2, 3, 5)
    cell_threshold: Energy = Field(default=1e-3, gt=0)
    donors: int = Field(default=4096, ge=16, le=1_000_000)
    likelihood_steps: int = Field(ge=1, le=10_000_000)
    lesson_steps: int = Field(ge=0, le=10_000_000)
    teacher_passes: int = Field(default=4, ge=1, le=64)
    critic: CriticConfig = CriticConfig()

    @field_validator("zones")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] != 0 or list(value) != sorted(set(value)):
            raise ValueError(f"got {list(value)}, expected rings that rise from 0")
        return value

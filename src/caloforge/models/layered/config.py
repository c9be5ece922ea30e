"""Configuration of the layered family."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from caloforge.models.layered.presets import PRESETS
from caloforge.models.presets import FamilyConfig
from caloforge.units import Energy


class LayeredConfig(FamilyConfig):
    """Two stages: energies, hits and centre of zones of the layers, then the cells.

    The first stage is fitted. The second is trained in two phases. For `likelihood_steps` the teacher learns
    the density of every cell given the cells before it. From then on the student, which draws in one pass,
    is compared with real showers; its learning rate falls over `matching_steps`.

    `zones` are the rings around the axis, in cells, at which zones of a layer begin; the energy and
    the hits of each zone are part of the first stage, which keeps the summaries of `donors` showers at most.
    """

    presets = PRESETS

    family: Literal["layered"] = "layered"
    preset: Literal["base", "debug"] = "base"
    zones: tuple[Annotated[int, Field(ge=0, le=4096)], ...] = (0, 1, 2, 3, 5)
    cell_threshold: Energy = Field(default=1e-3, gt=0)
    # their numbers are kept as int16
    donors: int = Field(default=16384, ge=16, le=32767)
    likelihood_steps: int = Field(ge=1, le=10_000_000)
    matching_steps: int = Field(ge=1, le=10_000_000)

    @field_validator("zones")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] != 0 or list(value) != sorted(set(value)):
            raise ValueError(f"got {list(value)}, expected rings that rise from 0")
        return value

"""Configuration of the frozen-shower library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caloforge.models.frozen.presets import PRESETS
from caloforge.models.presets import FamilyConfig
from caloforge.units import Energy


class FrozenConfig(FamilyConfig):
    """A library of showers of the training data: the baseline that a learned model has to beat.

    The library holds `showers` showers drawn at random, without cells below `cell_threshold`. A generated
    shower is one of the `neighbours` nearest in energy and angle, scaled to the requested energy; with
    `symmetries` a random symmetry operation of the detector is applied.
    """

    presets = PRESETS

    family: Literal["frozen"] = "frozen"
    preset: Literal["base", "small", "debug"] = "base"
    showers: int = Field(ge=1, le=10_000_000)
    neighbours: int = Field(default=5, ge=1, le=1000)
    cell_threshold: Energy = Field(default=1e-3, ge=0)
    symmetries: bool = True

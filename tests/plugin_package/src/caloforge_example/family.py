from typing import Literal

from pydantic import Field

from caloforge.models.presets import FamilyConfig
from caloforge.models.registry import Family
from caloforge.units import Energy

PRESETS = {"base": {"spread": 0.1}, "debug": {"spread": 0.2}}


class MeanShowerConfig(FamilyConfig):
    presets = PRESETS

    family: Literal["mean-shower"] = "mean-shower"
    preset: Literal["base", "debug"] = "base"
    spread: float = Field(ge=0, le=1)
    least_energy: Energy = Field(default=0.001, gt=0)


FAMILY = Family(MeanShowerConfig, "caloforge_example.model:MeanShower")

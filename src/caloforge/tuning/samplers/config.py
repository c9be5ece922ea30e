"""The sampler section of a study; importing it does not import Optuna."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caloforge.config import StrictModel

SamplerKind = Literal[
    "random",
    "quasi-random",
    "tpe",
    "gp",
    "cma-es",
    "nsga2",
    "regularised-evolution",
    "pbt",
    "policy-gradient",
]


# samplers that support more than one objective
SEVERAL_OBJECTIVES: tuple[SamplerKind, ...] = ("random", "quasi-random", "tpe", "gp", "nsga2")


class SamplerConfig(StrictModel):
    """Sampler that suggests the trials.

    `startup` is the number of random or quasi-random trials before `tpe`, `gp` and `policy-gradient` use
    their model. `population` is the population size of `nsga2` and `regularised-evolution`, and the number of
    members of `pbt`.
    """

    kind: SamplerKind = "tpe"
    startup: int = Field(default=10, ge=1, le=100_000)
    population: int = Field(default=16, ge=4, le=100_000)

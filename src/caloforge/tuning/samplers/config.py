"""Which sampler proposes the trials of a study; importing it does not import Optuna."""

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


# those that choose by more than one objective
SEVERAL_OBJECTIVES: tuple[SamplerKind, ...] = ("random", "quasi-random", "tpe", "gp", "nsga2")


class SamplerConfig(StrictModel):
    """How the parameters of the next trial are chosen.

    `startup` is the number of trials spread over the space before `tpe`, `gp` and `policy-gradient` trust
    what they learned. `population` is the number of trials that `nsga2` and `regularised-evolution` breed
    from, and of the members of `pbt`.
    """

    kind: SamplerKind = "tpe"
    startup: int = Field(default=10, ge=1, le=100_000)
    population: int = Field(default=16, ge=4, le=100_000)

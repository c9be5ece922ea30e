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


class SamplerConfig(StrictModel):
    """How the parameters of the next trial are chosen.

    The first `startup` trials are random, before a surrogate is trusted. `population` is the size of what an
    evolutionary sampler breeds from.
    """

    kind: SamplerKind = "tpe"
    startup: int = Field(default=10, ge=1, le=100_000)
    population: int = Field(default=16, ge=4, le=100_000)

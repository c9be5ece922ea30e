"""Registry and configuration of the samplers of a study; importing this does not import Optuna.

A new sampler is one line of `BUILT_IN`, or an entry point of the group `caloforge.samplers` of any package.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, field_validator

from caloforge.config import StrictModel
from caloforge.errors import ConfigError
from caloforge.plugins import Registry


@dataclass(frozen=True)
class Sampler:
    """A sampler of a search.

    Attributes:
        make: "module:function" of (config, seed), which gives a sampler of Optuna; imported when it is made.
        several_objectives: Whether it supports more than one objective.
    """

    make: str
    several_objectives: bool = False


HERE = "caloforge.tuning.samplers"
BUILT_IN = {
    "random": Sampler(f"{HERE}.stateless:random", several_objectives=True),
    "quasi-random": Sampler(f"{HERE}.quasi_random:QuasiRandomSampler.from_config", several_objectives=True),
    "tpe": Sampler(f"{HERE}.stateless:tpe", several_objectives=True),
    "gp": Sampler(f"{HERE}.gaussian_process:GaussianProcessSampler.from_config", several_objectives=True),
    "cma-es": Sampler(f"{HERE}.cma_es:CmaEsSampler.from_config"),
    "nsga2": Sampler(f"{HERE}.stateless:nsga2", several_objectives=True),
    "regularised-evolution": Sampler(f"{HERE}.evolution:RegularisedEvolutionSampler.from_config"),
    "pbt": Sampler(f"{HERE}.population_based:PopulationBasedSampler.from_config"),
    "policy-gradient": Sampler(f"{HERE}.policy_gradient:PolicyGradientSampler.from_config"),
}
SAMPLERS = Registry("caloforge.samplers", "sampler", BUILT_IN, Sampler)


def several_objectives() -> list[str]:
    """Names of the samplers that support more than one objective."""
    return [name for name, sampler in SAMPLERS.usable().items() if sampler.several_objectives]


class SamplerConfig(StrictModel):
    """Sampler that suggests the trials.

    `startup` is the number of random or quasi-random trials before `tpe`, `gp` and `policy-gradient` use
    their model. `population` is the population size of `nsga2` and `regularised-evolution`, and the number of
    members of `pbt`.
    """

    kind: str = "tpe"
    startup: int = Field(default=10, ge=1, le=100_000)
    population: int = Field(default=16, ge=4, le=100_000)

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            SAMPLERS.get(value, "sampler")
        except ConfigError as error:
            # pydantic adds the path in the document
            raise ValueError(str(error).removeprefix("sampler: ")) from error
        return value

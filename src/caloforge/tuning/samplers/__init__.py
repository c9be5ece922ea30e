"""Samplers by name; all of them are functions of their seed and of the study's trials."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from caloforge.errors import ConfigError
from caloforge.tuning.samplers.config import SEVERAL_OBJECTIVES, SamplerConfig

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def make_sampler(config: SamplerConfig, *, seed: int, objectives: int = 1) -> BaseSampler:
    """The sampler of a study.

    Pending trials are those in the state RUNNING: every sampler counts with them, since suggestions are asked
    for ahead of need. A sampler keeps nothing between two suggestions but what stands in the trials, so that
    a study that was killed goes on as if nothing had happened.

    Args:
        config: Which one.
        seed: Of everything random in it.
        objectives: Number of objectives.

    Raises:
        ConfigError: A sampler that knows one objective only is asked for several.
    """
    if objectives > 1 and config.kind not in SEVERAL_OBJECTIVES:
        raise ConfigError(
            f"sampler.kind: {config.kind!r} knows one objective, got {objectives}; take one of "
            f"{', '.join(SEVERAL_OBJECTIVES)}"
        )
    return _of_optuna(config, seed) or _of_ours(config, seed)


def _of_optuna(config: SamplerConfig, seed: int) -> BaseSampler | None:
    from optuna import samplers

    from caloforge.tuning.samplers.stateless import FreshSampler

    if config.kind == "random":
        return FreshSampler(samplers.RandomSampler, seed)
    if config.kind == "tpe":
        # pending trials count as bad ones, so that no two groups try the same point
        make = partial(
            samplers.TPESampler, n_startup_trials=config.startup, multivariate=True, constant_liar=True
        )
        return FreshSampler(lambda number: make(seed=number), seed)
    if config.kind == "nsga2":
        return FreshSampler(
            lambda number: samplers.NSGAIISampler(seed=number, population_size=config.population), seed
        )
    return None


def _of_ours(config: SamplerConfig, seed: int) -> BaseSampler:
    from caloforge.tuning.samplers import (
        cma_es,
        evolution,
        gaussian_process,
        policy_gradient,
        population_based,
        quasi_random,
    )

    makers: dict[str, Callable[[], BaseSampler]] = {
        "quasi-random": lambda: quasi_random.QuasiRandomSampler(seed),
        "gp": lambda: gaussian_process.GaussianProcessSampler(seed, config.startup),
        "cma-es": lambda: cma_es.CmaEsSampler(seed),
        "regularised-evolution": lambda: evolution.RegularisedEvolutionSampler(seed, config.population),
        "pbt": lambda: population_based.PopulationBasedSampler(seed, config.population),
        "policy-gradient": lambda: policy_gradient.PolicyGradientSampler(seed, config.startup),
    }
    return makers[config.kind]()

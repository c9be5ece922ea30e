"""Samplers by name; each suggestion is a function of the seed and of the trials of the study."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from caloforge.errors import ConfigError
from caloforge.tuning.samplers.config import SEVERAL_OBJECTIVES, SamplerConfig

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def make_sampler(config: SamplerConfig, *, seed: int, objectives: int = 1) -> BaseSampler:
    """Build the sampler of a study.

    All samplers take pending trials (state RUNNING) into account, since suggestions are made in advance. A
    sampler has no state besides the trials, so that a study that was killed continues identically.

    Args:
        config: The sampler section of the study.
        seed: Seed of its random numbers.
        objectives: Number of objectives.

    Raises:
        ConfigError: The sampler does not support several objectives.
    """
    if objectives > 1 and config.kind not in SEVERAL_OBJECTIVES:
        raise ConfigError(
            f"sampler.kind: {config.kind!r} supports one objective, got {objectives}; take one of "
            f"{', '.join(SEVERAL_OBJECTIVES)}"
        )
    return _of_optuna(config, seed) or _of_ours(config, seed)


def _of_optuna(config: SamplerConfig, seed: int) -> BaseSampler | None:
    from optuna import samplers

    from caloforge.tuning.samplers.stateless import ReseededSampler

    if config.kind == "random":
        return ReseededSampler(samplers.RandomSampler, seed)
    if config.kind == "tpe":
        # constant liar: pending trials count as bad ones, so that no two groups try the same point
        make = partial(
            samplers.TPESampler, n_startup_trials=config.startup, multivariate=True, constant_liar=True
        )
        return ReseededSampler(lambda number: make(seed=number), seed)
    if config.kind == "nsga2":
        return ReseededSampler(
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

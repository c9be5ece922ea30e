"""Samplers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.tuning.samplers.config import SamplerConfig

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def make_sampler(config: SamplerConfig, *, seed: int, objectives: int = 1) -> BaseSampler:
    """The sampler of a study.

    Pending trials are those in the state RUNNING: a sampler must count with them, since suggestions are asked
    for ahead of need. It is asked and told in one thread only.

    Args:
        config: Which one.
        seed: Of everything random in it.
        objectives: Number of objectives.

    Raises:
        ConfigError: A sampler that knows one objective only is asked for several.
    """
    from optuna import samplers

    if config.kind == "random":
        return samplers.RandomSampler(seed=seed)
    if config.kind == "quasi-random":
        return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    if config.kind == "tpe":
        return samplers.TPESampler(
            seed=seed, n_startup_trials=config.startup, multivariate=True, group=True, constant_liar=True
        )
    if config.kind == "cma-es":
        return samplers.CmaEsSampler(
            seed=seed, n_startup_trials=config.startup, warn_independent_sampling=False
        )
    if config.kind == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=config.population)
    raise NotImplementedError(config.kind)

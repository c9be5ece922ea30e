"""Samplers by name; all of them are functions of their seed and of the study's trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.errors import ConfigError
from caloforge.tuning.samplers.config import SAMPLERS, SamplerConfig, several_objectives

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
        PluginError: The package that adds the sampler is broken.
    """
    entry = SAMPLERS.get(config.kind, "sampler.kind")
    if objectives > 1 and not entry.several_objectives:
        raise ConfigError(
            f"sampler.kind: {config.kind!r} knows one objective, got {objectives}; take one of "
            f"{', '.join(several_objectives())}"
        )
    sampler: BaseSampler = SAMPLERS.resolve(config.kind, entry.make)(config, seed)
    return sampler

"""Samplers by name; each suggestion is a function of the seed and of the trials of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.errors import ConfigError
from caloforge.tuning.samplers.config import SAMPLERS, SamplerConfig, several_objectives

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
        PluginError: The package that adds the sampler is broken.
    """
    entry = SAMPLERS.get(config.kind, "sampler.kind")
    if objectives > 1 and not entry.several_objectives:
        raise ConfigError(
            f"sampler.kind: {config.kind!r} supports one objective, got {objectives}; take one of "
            f"{', '.join(several_objectives())}"
        )
    sampler: BaseSampler = SAMPLERS.resolve(config.kind, entry.make)(config, seed)
    return sampler

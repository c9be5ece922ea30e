"""Optuna's samplers, made stateless: suggestions do not depend on earlier calls in the same process."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna import samplers
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from caloforge.tuning.samplers.config import SamplerConfig


class ReseededSampler(BaseSampler):
    """Creates one of Optuna's samplers for each suggestion, seeded by the study's seed and the trial number.

    Optuna's samplers draw from a generator whose state is lost with the process: after a restart they would
    repeat their first draws. Otherwise they have no state besides the trials.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        """Keep factory and seed.

        Args:
            make: Creates one of Optuna's samplers from a seed.
            seed: Seed of the study.
        """
        self._make = make
        self._seed = seed

    def _sampler(self, trial: FrozenTrial, purpose: str = "") -> BaseSampler:
        words = np.random.SeedSequence([self._seed, trial.number, zlib.crc32(purpose.encode())])
        return self._make(int(words.generate_state(1)[0]))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space that Optuna's sampler samples jointly."""
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The suggestion of Optuna's sampler."""
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The suggestion of Optuna's sampler for one parameter."""
        sampler = self._sampler(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Call the hook of Optuna's sampler."""
        self._sampler(trial).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Call the hook of Optuna's sampler."""
        self._sampler(trial).after_trial(study, trial, state, values)


def random(config: SamplerConfig, seed: int) -> ReseededSampler:
    """Every parameter drawn by itself."""
    del config
    return ReseededSampler(samplers.RandomSampler, seed)


def tpe(config: SamplerConfig, seed: int) -> ReseededSampler:
    """Tree-structured Parzen estimators; pending trials count as bad ones, so that no two try one point."""
    make = partial(
        samplers.TPESampler, n_startup_trials=config.startup, multivariate=True, constant_liar=True
    )
    return ReseededSampler(lambda number: make(seed=number), seed)


def nsga2(config: SamplerConfig, seed: int) -> ReseededSampler:
    """The genetic algorithm NSGA-II."""
    return ReseededSampler(
        lambda number: samplers.NSGAIISampler(seed=number, population_size=config.population), seed
    )

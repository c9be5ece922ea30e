"""Regularised evolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from caloforge.tuning.samplers.base import ReplaySampler, read_history
from caloforge.tuning.samplers.config import SamplerConfig
from caloforge.tuning.samplers.embedding import Axis, Points, make_axis

# share of the range by which an ordered parameter moves
STEP = 0.25
# tries to breed a child that is not there yet
TRIES = 20


class RegularisedEvolutionSampler(ReplaySampler):
    """Aging evolution: a tournament's winner has a child with one parameter changed, and the oldest dies.

    Real et al., "Regularized evolution for image classifier architecture search" (AAAI 2019), algorithm 1.
    The population is the trials that ended last, so that every model dies by age and not by its rank, and a
    lucky one cannot stay. Pending trials need no care: a child is bred from those that ended.
    """

    def __init__(self, seed: int, population: int, tournament: int | None = None) -> None:
        """A sampler.

        Args:
            seed: Of its random numbers.
            population: Trials that live; as many random ones come first.
            tournament: Members of which the best becomes the parent; a quarter of the population.
        """
        super().__init__(seed)
        self.population = population
        self.tournament = tournament or max(2, population // 4)

    @classmethod
    def from_config(cls, config: SamplerConfig, seed: int) -> Self:
        """The sampler of a study's settings."""
        return cls(seed, config.population)

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A child; nothing, so that all parameters are drawn, while the population grows."""
        history = read_history(study, trial, space)
        if len(history.finished) + len(history.pending) < self.population or not history.finished:
            return {}
        rng = self.rng(trial)
        living = history.finished[-self.population :]
        loss = history.loss[-self.population :]
        seen = [other.params for other in (*history.finished, *history.pending)]
        child: dict[str, Any] = {}
        for _ in range(TRIES):
            members = rng.choice(len(living), size=min(self.tournament, len(living)), replace=False)
            parent = living[members[np.argmin(loss[members])]].params
            child = mutate(parent, space, rng)
            if child not in seen:
                break
        return child


def mutate(
    params: Mapping[str, Any], space: Mapping[str, BaseDistribution], rng: np.random.Generator
) -> dict[str, Any]:
    """The parameters with one of them changed; those the change brings into being are left out."""
    names = [name for name in sorted(space) if name in params]
    if not names:
        return dict(params)
    name = names[int(rng.integers(len(names)))]
    axis = make_axis(space[name])
    value = axis.decode(changed(axis, params[name], rng))
    return {**params, name: value}


def changed(axis: Axis, value: Any, rng: np.random.Generator) -> Points:
    """Coordinates of another value: a near one where values are ordered, any where they are not."""
    place = axis.encode(value)
    while True:
        if not axis.ordered:
            new = rng.uniform(size=axis.width)
        else:
            # reflected at the ends
            new = np.abs(1 - np.abs(1 - (place + STEP * rng.standard_normal(axis.width))))
        if not axis.levels or axis.decode(new) != value:
            return np.clip(new, 0, 1)

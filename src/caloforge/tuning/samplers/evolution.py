"""Regularised (aging) evolution."""

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

# standard deviation of the mutation of an ordered parameter, relative to its range
STEP = 0.25
# attempts to find a child that was not tried before
TRIES = 20


class RegularisedEvolutionSampler(ReplaySampler):
    """Aging evolution: the winner of a tournament gets a child with one parameter mutated; the oldest dies.

    Real et al., "Regularized evolution for image classifier architecture search" (AAAI 2019), algorithm 1.
    The population consists of the trials that ended last: models are removed by age, not by rank, so that a
    lucky one does not stay. Parents are finished trials only; pending ones need no special treatment.
    """

    def __init__(self, seed: int, population: int, tournament: int | None = None) -> None:
        """Set the parameters of the evolution.

        Args:
            seed: Seed of all random numbers.
            population: Population size, and number of random trials before the evolution.
            tournament: Tournament size; by default a quarter of the population.
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
        """A child; empty for random parameters until the population is complete."""
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
    """Mutate one parameter; conditional parameters that it activates are left out."""
    names = [name for name in sorted(space) if name in params]
    if not names:
        return dict(params)
    name = names[int(rng.integers(len(names)))]
    axis = make_axis(space[name])
    value = axis.decode(changed(axis, params[name], rng))
    return {**params, name: value}


def changed(axis: Axis, value: Any, rng: np.random.Generator) -> Points:
    """Coordinates of another value: a nearby one of an ordered parameter, else any."""
    place = axis.encode(value)
    while True:
        if not axis.ordered:
            new = rng.uniform(size=axis.width)
        else:
            # reflected at the ends
            new = np.abs(1 - np.abs(1 - (place + STEP * rng.standard_normal(axis.width))))
        if not axis.levels or axis.decode(new) != value:
            return np.clip(new, 0, 1)

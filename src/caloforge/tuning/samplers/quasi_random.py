"""Quasi-random sampler: a scrambled Sobol sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from caloforge.tuning.samplers.base import ReplaySampler
from caloforge.tuning.samplers.embedding import Embedding, Points

# length of a sequence; a study with more trials continues with another scramble
LENGTH = 1 << 16


def sobol(embedding: Embedding, number: int, seed: int) -> Points:
    """Point `number` of a scrambled Sobol sequence (Owen 1998; Joe and Kuo 2008), (width,)."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(embedding.names), scramble=True, rng=[seed, number // LENGTH])
    if number % LENGTH:
        sequence.fast_forward(number % LENGTH)
    place: Points = embedding.from_uniform(sequence.random(1))[0]
    return place


class QuasiRandomSampler(ReplaySampler):
    """Scrambled Sobol sequence; the number of a trial is its index in the sequence."""

    several_objectives = True

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The point of the sequence with the index of the trial."""
        del study
        embedding = Embedding(space)
        return embedding.decode(sobol(embedding, trial.number, self.seed))

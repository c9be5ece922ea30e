"""Population-based training (PBT): weights and hyper-parameters evolve together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Self

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from caloforge.tuning.samplers.base import ReplaySampler, is_enqueued, read_history
from caloforge.tuning.samplers.config import SamplerConfig
from caloforge.tuning.samplers.embedding import make_axis
from caloforge.tuning.trial_attributes import PARENT

MEMBER = "pbt:member"
# fraction of members that are replaced by as many of the best; probability of a new draw of a parameter; its
# perturbation otherwise
REPLACED = 0.25
REDRAWN = 0.25
STEP = 0.15


class PopulationBasedSampler(ReplaySampler):
    """Members train in rounds; a bad one takes the weights of a good one and perturbs its hyper-parameters.

    Jaderberg et al., "Population based training of neural networks" (arXiv:1711.09846), with truncation
    selection (exploit) and perturbation or resampling (explore). A trial is one round of one member. The next
    round starts from the weights of a finished trial, whose number is the user attribute `parent` of the new
    one. The code that runs the trial loads these weights, trains the same number of steps in every round, and
    keeps the model as long as later trials may start from it. A trial without `parent` starts from new
    weights.

    Members do not wait for each other: each is compared with the last round of all others. A parameter that
    determines the network's structure is inherited with the weights and never changed.
    """

    def __init__(self, seed: int, population: int, shape: Collection[str] | None = None) -> None:
        """Set the population.

        Args:
            seed: Seed of all random numbers.
            population: Number of members.
            shape: Names of the structural parameters, for which weights cannot be inherited when they change;
                by default integers and choices below "model.".
        """
        super().__init__(seed)
        self.population = population
        self.shape = shape

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As `suggest_all`, also for the first trial and for enqueued ones, which are members too."""
        return self.suggest_all(study, trial, search_space)

    @classmethod
    def from_config(cls, config: SamplerConfig, seed: int) -> Self:
        """The sampler of a study's settings."""
        return cls(seed, config.population)

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next round of the member that has waited longest; empty for random parameters of a new one."""
        history = read_history(study, trial, space)
        rng = self.rng(trial)
        busy = {other.system_attrs.get(MEMBER) for other in history.pending}
        # index of the last round of each member
        last = {
            other.system_attrs[MEMBER]: index
            for index, other in enumerate(history.finished)
            if MEMBER in other.system_attrs
        }
        new = [member for member in range(self.population) if member not in last and member not in busy]
        idle = sorted((index, member) for member, index in last.items() if member not in busy)
        if new or not idle or is_enqueued(trial):
            # more workers than members: add a member
            member = new[0] if new else max((*busy - {None}, *last, -1)) + 1
            self.note(study, trial, MEMBER, member)
            return {}
        index, member = idle[0]
        self.note(study, trial, MEMBER, member)
        indices = np.array(sorted(last.values(), key=lambda place: (history.loss[place], place)))
        cut = max(1, int(REPLACED * len(indices)))
        replaced = len(indices) > cut and index in indices[-cut:]
        chosen = int(rng.choice(indices[:cut])) if replaced else index
        parent = history.finished[chosen]
        study._storage.set_trial_user_attr(trial._trial_id, PARENT, parent.number)
        # also in the copy that the caller holds
        trial.set_user_attr(PARENT, parent.number)
        params = {name: value for name, value in parent.params.items() if name in space}
        return self._explore(params, space, rng) if replaced else params

    def _explore(
        self, params: Mapping[str, Any], space: Mapping[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Resample or perturb all parameters that are not structural."""
        changed = dict(params)
        for name in sorted(params):
            if self._is_structural(name, space[name]):
                continue
            axis = make_axis(space[name])
            place = axis.encode(params[name])
            if rng.uniform() < REDRAWN:
                place = rng.uniform(size=axis.width)
            elif axis.ordered:
                sign = 1 if rng.uniform() < 0.5 else -1
                place = np.clip(place + sign * max(STEP, 1 / (axis.levels or 1000)), 0, 1)
            changed[name] = axis.decode(place)
        return changed

    def _is_structural(self, name: str, distribution: BaseDistribution) -> bool:
        if self.shape is not None:
            return name in self.shape
        whole = isinstance(distribution, CategoricalDistribution) or make_axis(distribution).levels > 0
        return name.startswith("model.") and whole

"""Population-based training: weights and hyper-parameters evolve together."""

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
# share of the members that are replaced, and by whom; of a parameter's value drawn again; its change
# otherwise
REPLACED = 0.25
REDRAWN = 0.25
STEP = 0.15


class PopulationBasedSampler(ReplaySampler):
    """Members train in turns; a bad one takes the weights of a good one and perturbs its hyper-parameters.

    Jaderberg et al., "Population based training of neural networks" (arXiv:1711.09846): truncation selection
    as exploit, perturbation or a new draw as explore. One trial is one turn of one member. The turn after it
    starts from the weights of a trial that ended, whose number stands in the trial's user attribute `parent`:
    whoever runs the trial loads these weights, trains the same number of steps as in every turn, and keeps
    the checkpoint as long as later trials may start from it. A trial without `parent` starts from new
    weights.

    Members never wait for each other: a member is compared with the last turn of every other one. A
    parameter that shapes the network is inherited with the weights and never changed.
    """

    def __init__(self, seed: int, population: int, shape: Collection[str] | None = None) -> None:
        """A sampler.

        Args:
            seed: Of its random numbers.
            population: Members.
            shape: Names of the parameters whose change makes weights useless. Where it is not given, whole
                numbers and choices below "model." are taken for them.
        """
        super().__init__(seed)
        self.population = population
        self.shape = shape

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As `suggest_all`; the first trial of all, and one that was enqueued, are members too."""
        return self.suggest_all(study, trial, search_space)

    @classmethod
    def from_config(cls, config: SamplerConfig, seed: int) -> Self:
        """The sampler of a study's settings."""
        return cls(seed, config.population)

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next turn of the member that waits longest; nothing, so that all is drawn, for a new one."""
        history = read_history(study, trial, space)
        rng = self.rng(trial)
        busy = {other.system_attrs.get(MEMBER) for other in history.pending}
        # the last turn of each member, and its place in the order
        last = {
            other.system_attrs[MEMBER]: index
            for index, other in enumerate(history.finished)
            if MEMBER in other.system_attrs
        }
        new = [member for member in range(self.population) if member not in last and member not in busy]
        idle = sorted((index, member) for member, index in last.items() if member not in busy)
        if new or not idle or is_enqueued(trial):
            # more workers than members: there are more members
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
        # the copy that whoever asked for the trial holds
        trial.set_user_attr(PARENT, parent.number)
        params = {name: value for name, value in parent.params.items() if name in space}
        return self._explore(params, space, rng) if replaced else params

    def _explore(
        self, params: Mapping[str, Any], space: Mapping[str, BaseDistribution], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Every parameter that does not shape the network drawn again or moved a little."""
        changed = dict(params)
        for name in sorted(params):
            if self._shapes(name, space[name]):
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

    def _shapes(self, name: str, distribution: BaseDistribution) -> bool:
        if self.shape is not None:
            return name in self.shape
        whole = isinstance(distribution, CategoricalDistribution) or make_axis(distribution).levels > 0
        return name.startswith("model.") and whole

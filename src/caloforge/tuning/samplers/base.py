"""Base class of caloforge's samplers, which are stateless: they learn from the trials at every suggestion."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from caloforge.tuning.samplers.config import SamplerConfig
from caloforge.tuning.samplers.embedding import make_axis


@dataclass(frozen=True)
class History:
    """The trials within the current space, from which a new one is suggested.

    Attributes:
        finished: Trials with finite values, in the order in which they ended.
        pending: Running trials, without the new one.
        failed: Trials without a finite value.
        losses: Values of the finished trials, to be minimised; (trials, objectives).
    """

    finished: list[FrozenTrial]
    pending: list[FrozenTrial]
    failed: list[FrozenTrial]
    losses: NDArray[np.float64]

    @property
    def loss(self) -> NDArray[np.float64]:
        """Losses of a study with one objective, (trials,)."""
        return self.losses[:, 0]


def read_history(
    study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution], *, pruned: bool = False
) -> History:
    """Read the trials of a study that lie in the space, without the new trial.

    Args:
        study: The study.
        trial: The new trial.
        space: The space; earlier trials may come from other ranges.
        pruned: Whether pruned trials count as finished, with their last value.
    """
    ended = {TrialState.COMPLETE} | ({TrialState.PRUNED} if pruned else set())
    trials = [
        other
        for other in study.get_trials(deepcopy=False)
        if other.number != trial.number and _lies_in(space, other)
    ]
    finished = [other for other in trials if other.state in ended and _is_finite(other)]
    # the storage has the times, so the order is the same after a restart
    finished.sort(key=lambda other: (other.datetime_complete, other.number))
    signs = [1.0 if direction == StudyDirection.MINIMIZE else -1.0 for direction in study.directions]
    values = [other.values for other in finished]
    return History(
        finished=finished,
        pending=[other for other in trials if other.state == TrialState.RUNNING],
        failed=[
            other
            for other in trials
            if other.state == TrialState.FAIL or (other.state in ended and not _is_finite(other))
        ],
        losses=np.array(values, dtype=float).reshape(len(values), len(signs)) * signs,
    )


def _lies_in(space: Mapping[str, BaseDistribution], trial: FrozenTrial) -> bool:
    """Whether all values of a trial are within the space; parameters not in the space are ignored."""
    return all(
        # fast path: the same range
        trial.distributions[name] == space[name] or space[name]._contains(space[name].to_internal_repr(value))
        for name, value in trial.params.items()
        if name in space
    )


def _is_finite(trial: FrozenTrial) -> bool:
    return trial.values is not None and all(math.isfinite(value) for value in trial.values)


def is_enqueued(trial: FrozenTrial) -> bool:
    """Whether the values of a trial were given, not suggested."""
    return "fixed_params" in trial.system_attrs


class ReplaySampler(BaseSampler):
    """A sampler whose suggestions are functions of its seed and of the trials.

    It has no state: the method is fitted to the trials again for every suggestion, and the random numbers
    depend on the seed and the number of the trial. So a study that is read from its storage continues
    identically.

    A sampler suggests the parameters that earlier trials had. Parameters that occur for the first time, in
    the first trial all of them, are drawn uniformly.

    Attributes:
        several_objectives: Whether it supports more than one objective.
    """

    several_objectives = False

    def __init__(self, seed: int) -> None:
        """Keep the seed of all random numbers."""
        self.seed = seed

    @classmethod
    def from_config(cls, config: SamplerConfig, seed: int) -> Self:
        """The sampler of a study's settings; one that heeds more than the seed overrides it."""
        del config
        return cls(seed)

    def rng(self, trial: FrozenTrial, purpose: str = "") -> np.random.Generator:
        """Random generator for a trial and a purpose."""
        return np.random.default_rng([self.seed, trial.number, zlib.crc32(purpose.encode())])

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters of earlier trials with more than one possible value, sorted by name."""
        self._check_objectives(study)
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            if other.number != trial.number:
                space.update(other.distributions)
        return {name: space[name] for name in sorted(space) if not space[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of the known parameters; none for a trial that was enqueued with its values."""
        known = search_space and not is_enqueued(trial)
        return self.suggest_all(study, trial, search_space) if known else {}

    def suggest_all(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The suggestion, with uniform values for the parameters that it leaves out."""
        params = self.suggest(study, trial, space)
        return params | {
            name: self.sample_independent(study, trial, name, distribution)
            for name, distribution in space.items()
            if name not in params
        }

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest values in a space that is not empty; parameters left out are drawn uniformly."""
        raise NotImplementedError

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform value, or log-uniform for a logarithmic parameter."""
        self._check_objectives(study)
        axis = make_axis(param_distribution)
        return axis.decode(self.rng(trial, param_name).uniform(size=axis.width))

    def _check_objectives(self, study: Study) -> None:
        if not self.several_objectives:
            self._raise_error_if_multi_objective(study)

    def note(self, study: Study, trial: FrozenTrial, name: str, value: Any) -> None:
        """Store a system attribute of a trial, for later suggestions."""
        study._storage.set_trial_system_attr(trial._trial_id, name, value)

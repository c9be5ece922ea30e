"""What the samplers of ours have in common: nothing is remembered but what the study's trials hold."""

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
    """What is known when a trial is asked for, from the trials whose values lie in the space.

    Attributes:
        finished: Trials with finite values, in the order in which they ended.
        pending: Trials that are running, without the one asked for.
        failed: Trials without a value, or with one that is not finite.
        losses: Values of the finished trials, to be minimised; (trials, objectives).
    """

    finished: list[FrozenTrial]
    pending: list[FrozenTrial]
    failed: list[FrozenTrial]
    losses: NDArray[np.float64]

    @property
    def loss(self) -> NDArray[np.float64]:
        """Of studies with one objective, (trials,)."""
        return self.losses[:, 0]


def read_history(
    study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution], *, pruned: bool = False
) -> History:
    """The trials of a study but the one asked for, and those with values outside the space.

    Args:
        study: The study.
        trial: The trial asked for.
        space: The space, which may have had other ranges when earlier trials were asked for.
        pruned: Whether trials stopped early count as finished, with the last value they had.
    """
    ended = {TrialState.COMPLETE} | ({TrialState.PRUNED} if pruned else set())
    trials = [
        other
        for other in study.get_trials(deepcopy=False)
        if other.number != trial.number and _lies_in(space, other)
    ]
    finished = [other for other in trials if other.state in ended and _is_finite(other)]
    # storages hold the time when a trial ended, so that the order outlives the process
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
    """Whether the space has each value of a trial, as far as it has the parameter."""
    return all(
        # the usual case, without a look at the value
        trial.distributions[name] == space[name] or space[name]._contains(space[name].to_internal_repr(value))
        for name, value in trial.params.items()
        if name in space
    )


def _is_finite(trial: FrozenTrial) -> bool:
    return trial.values is not None and all(math.isfinite(value) for value in trial.values)


def is_enqueued(trial: FrozenTrial) -> bool:
    """Whether a trial has values that no sampler chose."""
    return "fixed_params" in trial.system_attrs


class ReplaySampler(BaseSampler):
    """A sampler whose suggestion is a function of its seed and of the trials.

    It has no state: what a method learns is learned again from the trials at every suggestion, and the
    random numbers depend on the seed and the number of the trial. A study that is read back from its storage
    goes on as if it had never been stopped.

    The parameters known to a sampler are all that any trial had so far. Those a trial meets for the first
    time, all of them in the first trial, are drawn uniformly.

    Attributes:
        several_objectives: Whether it chooses by more than one objective; others refuse such a study.
    """

    several_objectives = False

    def __init__(self, seed: int) -> None:
        """A sampler.

        Args:
            seed: Of all its random numbers.
        """
        self.seed = seed

    @classmethod
    def from_config(cls, config: SamplerConfig, seed: int) -> Self:
        """The sampler of a study's settings; one that heeds more than the seed overrides it."""
        del config
        return cls(seed)

    def rng(self, trial: FrozenTrial, purpose: str = "") -> np.random.Generator:
        """The random numbers of a trial, others for each purpose."""
        return np.random.default_rng([self.seed, trial.number, zlib.crc32(purpose.encode())])

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every parameter with more than one value that a trial ever had, sorted by name."""
        self._check_objectives(study)
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            if other.number != trial.number:
                space.update(other.distributions)
        return {name: space[name] for name in sorted(space) if not space[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for the known parameters; none for a trial that was enqueued with its values."""
        known = search_space and not is_enqueued(trial)
        return self.suggest_all(study, trial, search_space) if known else {}

    def suggest_all(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What is suggested, and a uniform value for each parameter that is left out."""
        params = self.suggest(study, trial, space)
        return params | {
            name: self.sample_independent(study, trial, name, distribution)
            for name, distribution in space.items()
            if name not in params
        }

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for parameters of a space that is not empty; what is left out is drawn uniformly."""
        raise NotImplementedError

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform value, in the logarithm where the parameter is marked so."""
        self._check_objectives(study)
        axis = make_axis(param_distribution)
        return axis.decode(self.rng(trial, param_name).uniform(size=axis.width))

    def _check_objectives(self, study: Study) -> None:
        if not self.several_objectives:
            self._raise_error_if_multi_objective(study)

    def note(self, study: Study, trial: FrozenTrial, name: str, value: Any) -> None:
        """Store how a suggestion came about, for the suggestions after it."""
        study._storage.set_trial_system_attr(trial._trial_id, name, value)

"""Policy-gradient sampler: reinforcement learning of edits to the best trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from caloforge.tuning.samplers.base import History, ReplaySampler, read_history
from caloforge.tuning.samplers.config import SamplerConfig
from caloforge.tuning.samplers.controller import Controller, Step
from caloforge.tuning.samplers.embedding import Axis, make_axis

EPISODE = "policy-gradient"
# levels of a real parameter, or of an integer with a wide range
LEVELS = 8
# number of best trials that an episode may start from
STARTS = 3
# most edits per episode
MAX_EDITS = 4
# attempts to find a point that was not tried before
TRIES = 20


@dataclass(frozen=True)
class _Edits:
    """The possible edits: each sets one parameter to one of its levels."""

    axes: dict[str, Axis]

    @property
    def names(self) -> list[str]:
        return list(self.axes)

    def levels(self, name: str) -> int:
        levels = self.axes[name].levels
        return levels if 0 < levels <= 2 * LEVELS else LEVELS

    @property
    def sizes(self) -> list[int]:
        """Number of levels of each parameter."""
        return [self.levels(name) for name in self.names]

    def level(self, name: str, value: Any) -> int:
        axis = self.axes[name]
        place = axis.encode(value)
        if not axis.ordered:
            return int(np.argmax(place))
        return min(int(place[0] * self.levels(name)), self.levels(name) - 1)

    def value(self, name: str, level: int, rng: np.random.Generator) -> Any:
        """A random value within a level."""
        axis = self.axes[name]
        if not axis.ordered:
            return axis.decode(np.eye(axis.width)[level])
        return axis.decode(np.full(1, (level + rng.uniform(0.01, 0.99)) / self.levels(name)))

    def state(self, params: Mapping[str, Any]) -> NDArray[np.int64]:
        """Level of each parameter, -1 for parameters that do not exist."""
        return np.array([self.level(name, params[name]) if name in params else -1 for name in self.names])


class PolicyGradientSampler(ReplaySampler):
    """A policy-gradient controller that edits the best trials.

    The state is the vector of the levels of all parameters. An episode starts from one of the best trials;
    each action sets one parameter to another level, or ends the episode. The resulting trial is trained, and
    its result gives the reward, as in Zoph and Le, "Neural architecture search with reinforcement learning"
    (ICLR 2017), with edits in place of a new architecture. The policy is a small perceptron, trained by
    REINFORCE (Williams 1992) with a moving average of the rewards as baseline, in the clipped form of
    proximal policy optimisation (Schulman et al., arXiv:1707.06347), which allows several passes over a batch
    and trials from an older policy.

    The reward is the rank of the trial, scaled from -1 (worst) to 1 (best), minus that of the starting trial:
    it measures the effect of the edits, independent of the unit of the objective. Real parameters have eight
    levels, within which a value is drawn.
    """

    def __init__(self, seed: int, startup: int) -> None:
        """Set seed and number of initial trials.

        Args:
            seed: Seed of all random numbers and of the initial weights.
            startup: Number of random trials before the first episode.
        """
        super().__init__(seed)
        self.startup = startup

    @classmethod
    def from_config(cls, config: SamplerConfig, seed: int) -> Self:
        """The sampler of a study's settings."""
        return cls(seed, config.startup)

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters at the end of an episode; empty for random parameters in the first trials."""
        history = read_history(study, trial, space)
        if len(history.finished) + len(history.pending) < self.startup or not history.finished:
            return {}
        edits = _Edits({name: make_axis(distribution) for name, distribution in space.items()})
        controller = self._learn(history, edits)
        rng = self.rng(trial)
        seen = [other.params for other in (*history.finished, *history.pending)]
        best = np.argsort(history.loss, kind="stable")[:STARTS]
        for _ in range(TRIES):
            start = history.finished[int(rng.choice(best))]
            params, steps = _episode(controller, edits, start.params, rng)
            if params not in seen:
                break
        actions = [[step.action, step.log_probability] for step in steps]
        self.note(study, trial, EPISODE, {"start": start.number, "sizes": edits.sizes, "actions": actions})
        return params

    def _learn(self, history: History, edits: _Edits) -> Controller:
        """The controller trained on all finished episodes, in the order in which they ended."""
        controller = Controller(edits.sizes, np.random.default_rng([self.seed]))
        ranks = np.argsort(np.argsort(history.loss, kind="stable"), kind="stable")
        reward = 1 - 2 * ranks / max(len(ranks) - 1, 1)
        rewards = {other.number: float(value) for other, value in zip(history.finished, reward, strict=True)}
        params = {other.number: other.params for other in history.finished}
        for other in history.finished:
            episode = other.system_attrs.get(EPISODE)
            # skip episodes of a space with fewer parameters, whose actions differ
            if episode and episode["sizes"] == edits.sizes and episode["start"] in params:
                steps = _replay_steps(edits, params[episode["start"]], episode["actions"])
                controller.reward(steps, rewards[other.number] - rewards[episode["start"]])
        return controller


def _episode(
    controller: Controller, edits: _Edits, start: Mapping[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], list[Step]]:
    """Run an episode; returns the resulting parameters and its steps."""
    params = {name: value for name, value in start.items() if name in edits.axes}
    steps: list[Step] = []
    state = edits.state(params)
    while len(steps) < MAX_EDITS:
        step = controller.act(state, _allowed(edits, state, first=not steps), rng)
        steps.append(step)
        if step.action == controller.stop:
            break
        index, level = controller.edit(step.action)
        name = edits.names[index]
        params[name] = edits.value(name, level, rng)
        state = edits.state(params)
    return params, steps


def _replay_steps(edits: _Edits, start: Mapping[str, Any], actions: Sequence[Sequence[float]]) -> list[Step]:
    """Reconstruct the steps of an episode from the stored actions."""
    state = edits.state(start)
    offsets = np.cumsum([0, *edits.sizes])
    steps: list[Step] = []
    for number, log_probability in actions:
        action = int(number)
        steps.append(Step(state, _allowed(edits, state, first=not steps), action, log_probability))
        if action < offsets[-1]:
            index = int(np.searchsorted(offsets, action, side="right")) - 1
            state = state.copy()
            state[index] = action - offsets[index]
    return steps


def _allowed(edits: _Edits, state: NDArray[np.int64], *, first: bool) -> NDArray[np.bool_]:
    """Mask of actions that change the state; the first action cannot end the episode."""
    masks = []
    for level, name in zip(state, edits.names, strict=True):
        mask = np.full(edits.levels(name), level >= 0)
        # a level of a real parameter may be set again, to another value within it
        if level >= 0 and edits.levels(name) == edits.axes[name].levels:
            mask[level] = False
        masks.append(mask)
    return np.append(np.concatenate(masks), not first)

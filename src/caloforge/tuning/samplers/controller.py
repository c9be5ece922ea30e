"""The policy of the policy-gradient sampler: a perceptron with clipped updates, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HIDDEN = 32
# episodes of one update, passes over them
BATCH, PASSES = 4, 5
RATE = 0.03
CLIP = 0.2
ENTROPY = 0.01
# of the moving average of the rewards
MEMORY = 0.9
# probability that the first policy ends an episode after each edit
END = 0.5
DECAY = (0.9, 0.99)


@dataclass(frozen=True)
class Step:
    """One action.

    Attributes:
        state: Level of each parameter before it, (parameters,).
        allowed: Which actions were possible, (actions,).
        action: Which one was taken.
        log_probability: Of this action, by the policy that took it.
    """

    state: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    action: int
    log_probability: float


class Controller:
    """A policy over edits: each action but the last sets one parameter to one level; the last one ends.

    Attributes:
        stop: The action that ends an episode.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        """The first policy: every parameter is edited as often as every other, to any level.

        Args:
            sizes: Levels of each parameter.
            rng: Of the first weights.
        """
        self.offsets = np.cumsum([0, *sizes])
        self.stop = int(self.offsets[-1])
        preference = np.concatenate([np.full(size, -np.log(size)) for size in sizes])
        ending = np.log(len(sizes) * END / (1 - END))
        self.weights: list[Array] = [
            rng.standard_normal((self.stop, HIDDEN)) / np.sqrt(len(sizes)),
            np.zeros(HIDDEN),
            np.zeros((HIDDEN, self.stop + 1)),
            np.append(preference, ending),
        ]
        self._moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in self.weights]
        self._updates = 0
        self._baseline: float | None = None
        self._episodes: list[tuple[list[Step], float]] = []

    def edit(self, action: int) -> tuple[int, int]:
        """Index of the parameter and level of an action that edits."""
        index = int(np.searchsorted(self.offsets, action, side="right")) - 1
        return index, action - int(self.offsets[index])

    def act(self, state: NDArray[np.int64], allowed: NDArray[np.bool_], rng: np.random.Generator) -> Step:
        """An action drawn from the policy."""
        logits, _ = self._logits(self._one_hot([state]), allowed[None])
        probability = np.exp(logits[0])
        action = int(rng.choice(len(probability), p=probability / probability.sum()))
        return Step(state, allowed, action, float(logits[0, action]))

    def reward(self, steps: list[Step], reward: float) -> None:
        """Learn from an episode; weights change when a batch of them is full."""
        advantage = reward - (self._baseline or 0.0)
        self._baseline = reward if self._baseline is None else MEMORY * self._baseline + (1 - MEMORY) * reward
        self._episodes.append((steps, advantage))
        if len(self._episodes) == BATCH:
            self._update()
            self._episodes = []

    def _update(self) -> None:
        steps = [step for episode, _ in self._episodes for step in episode]
        advantage = np.array([value for episode, value in self._episodes for _ in episode])
        inputs = self._one_hot([step.state for step in steps])
        allowed = np.array([step.allowed for step in steps])
        action = np.array([step.action for step in steps])
        old = np.array([step.log_probability for step in steps])
        rows = np.arange(len(steps))
        for _ in range(PASSES):
            logits, hidden = self._logits(inputs, allowed)
            ratio = np.exp(np.clip(logits[rows, action] - old, -20, 20))
            # the gradient is gone where the ratio has left the clipped range in the advantage's direction
            useful = np.where(advantage > 0, ratio < 1 + CLIP, ratio > 1 - CLIP)
            probability = np.exp(logits)
            slope = -probability * (useful * ratio * advantage)[:, None]
            slope[rows, action] += useful * ratio * advantage
            terms = np.where(allowed, probability * logits, 0.0)
            slope -= ENTROPY * (terms - probability * terms.sum(axis=1, keepdims=True))
            self._ascend(inputs, hidden, slope / len(self._episodes))

    def _ascend(self, inputs: Array, hidden: Array, slope: Array) -> None:
        """One step of Adam (Kingma and Ba 2015) up the gradient by the logits."""
        back = (slope @ self.weights[2].T) * (1 - hidden**2)
        gradients = [inputs.T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]
        self._updates += 1
        for weight, gradient, (mean, square) in zip(self.weights, gradients, self._moments, strict=True):
            mean += (1 - DECAY[0]) * (gradient - mean)
            square += (1 - DECAY[1]) * (gradient**2 - square)
            size = np.sqrt(square / (1 - DECAY[1] ** self._updates)) + 1e-8
            weight += RATE * mean / (1 - DECAY[0] ** self._updates) / size

    def _logits(self, inputs: Array, allowed: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Logarithms of the probabilities, (n, actions), and the hidden layer."""
        hidden = np.tanh(inputs @ self.weights[0] + self.weights[1])
        logits = np.where(allowed, hidden @ self.weights[2] + self.weights[3], -1e9)
        logits = logits - logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), hidden

    def _one_hot(self, states: Sequence[NDArray[np.int64]]) -> Array:
        """(n, levels of all parameters); zeros for parameters that do not exist."""
        inputs = np.zeros((len(states), self.stop))
        for row, state in enumerate(states):
            there = state >= 0
            inputs[row, (self.offsets[:-1] + state)[there]] = 1.0
        return inputs

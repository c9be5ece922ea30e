"""Policy network of the policy-gradient sampler: a perceptron with clipped (PPO) updates, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HIDDEN = 32
# episodes per update, and passes over them
BATCH, PASSES = 4, 5
RATE = 0.03
CLIP = 0.2
ENTROPY = 0.01
# decay of the moving average of the rewards
MEMORY = 0.9
# probability that the initial policy ends an episode after an edit
END = 0.5
DECAY = (0.9, 0.99)


@dataclass(frozen=True)
class Step:
    """A step of an episode.

    Attributes:
        state: Level of each parameter before the action, (parameters,).
        allowed: Mask of the possible actions, (actions,).
        action: Index of the action.
        log_probability: Log-probability of the action under the policy that chose it.
    """

    state: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    action: int
    log_probability: float


class Controller:
    """Policy over edits: each action sets one parameter to one level; the last action ends the episode.

    Attributes:
        stop: Index of the action that ends an episode.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        """Initialise the policy: uniform over parameters, and over the levels of each.

        Args:
            sizes: Number of levels of each parameter.
            rng: Random generator for the initial weights.
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
        """Parameter index and level of an action."""
        index = int(np.searchsorted(self.offsets, action, side="right")) - 1
        return index, action - int(self.offsets[index])

    def act(self, state: NDArray[np.int64], allowed: NDArray[np.bool_], rng: np.random.Generator) -> Step:
        """Draw an action from the policy."""
        logits, _ = self._logits(self._one_hot([state]), allowed[None])
        probability = np.exp(logits[0])
        action = int(rng.choice(len(probability), p=probability / probability.sum()))
        return Step(state, allowed, action, float(logits[0, action]))

    def reward(self, steps: list[Step], reward: float) -> None:
        """Add an episode with its reward; the weights are updated when a batch is full."""
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
            # the gradient is zero where the ratio is clipped in the direction of the advantage
            useful = np.where(advantage > 0, ratio < 1 + CLIP, ratio > 1 - CLIP)
            probability = np.exp(logits)
            slope = -probability * (useful * ratio * advantage)[:, None]
            slope[rows, action] += useful * ratio * advantage
            terms = np.where(allowed, probability * logits, 0.0)
            slope -= ENTROPY * (terms - probability * terms.sum(axis=1, keepdims=True))
            self._ascend(inputs, hidden, slope / len(self._episodes))

    def _ascend(self, inputs: Array, hidden: Array, slope: Array) -> None:
        """One ascent step of Adam (Kingma and Ba 2015), from the gradient with respect to the logits."""
        back = (slope @ self.weights[2].T) * (1 - hidden**2)
        gradients = [inputs.T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]
        self._updates += 1
        for weight, gradient, (mean, square) in zip(self.weights, gradients, self._moments, strict=True):
            mean += (1 - DECAY[0]) * (gradient - mean)
            square += (1 - DECAY[1]) * (gradient**2 - square)
            size = np.sqrt(square / (1 - DECAY[1] ** self._updates)) + 1e-8
            weight += RATE * mean / (1 - DECAY[0] ** self._updates) / size

    def _logits(self, inputs: Array, allowed: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Log-probabilities (n, actions), and activations of the hidden layer."""
        hidden = np.tanh(inputs @ self.weights[0] + self.weights[1])
        logits = np.where(allowed, hidden @ self.weights[2] + self.weights[3], -1e9)
        logits = logits - logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), hidden

    def _one_hot(self, states: Sequence[NDArray[np.int64]]) -> Array:
        """One-hot encoding of states, (n, all levels); zeros for parameters that do not exist."""
        inputs = np.zeros((len(states), self.stop))
        for row, state in enumerate(states):
            there = state >= 0
            inputs[row, (self.offsets[:-1] + state)[there]] = 1.0
        return inputs

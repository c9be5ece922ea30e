"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.special import erfcx, log_ndtr
from threadpoolctl import threadpool_limits

from caloforge.tuning.samplers.base import History, ReplaySampler, read_history
from caloforge.tuning.samplers.config import SamplerConfig
from caloforge.tuning.samplers.embedding import Embedding, Points
from caloforge.tuning.samplers.quasi_random import sobol
from caloforge.tuning.samplers.regression import GaussianProcess, Vector
from caloforge.tuning.trial_attributes import NOISE

# points at which the acquisition is looked at: anywhere, around the best ones, and in each round of the
# search
ANYWHERE, AROUND, ROUND = 1000, 500, 200
# best points the first ones are drawn around; candidates that are improved; rounds; first and last step width
BEST, IMPROVED, ROUNDS = 5, 5, 8
STEPS = (0.2, 0.002)
# of the sum in the scalar that stands for several objectives
AUGMENTED = 0.05


class GaussianProcessSampler(ReplaySampler):
    """The largest expected improvement over a Gaussian process, aware of noise and of pending trials.

    Kernel and fit are in `regression`. The variance of a trial's value, which a study with folds stores, is
    the noise of its observation; the improvement is over the best mean of the process, not over a lucky
    value. The improvement is maximised in its logarithm (Ament et al., "Unexpected improvements to expected
    improvement", NeurIPS 2023). Pending trials have the mean of the process as their value (kriging
    believer), so that groups of workers never wait for each other. Several objectives become one by a random
    augmented Chebyshev norm for each suggestion (ParEGO: Knowles, IEEE Trans. Evol. Comput. 10, 2006).

    A failed trial has no value in the process; the improvement is weighted with the probability that a trial
    does not fail. Trials stopped early count with the last value they had. The first `startup`
    points are quasi-random.
    """

    several_objectives = True

    def __init__(self, seed: int, startup: int) -> None:
        """A sampler.

        Args:
            seed: Of its random numbers.
            startup: Trials, pending ones included, before the process is trusted.
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
        """The most promising point."""
        history = read_history(study, trial, space, pruned=True)
        embedding = Embedding(space)
        known = len(history.finished)
        if known < 2 or known + len(history.pending) < self.startup:
            return embedding.decode(sobol(embedding, trial.number, self.seed))
        rng = self.rng(trial)
        points = embedding.encode_all([other.params for other in history.finished])
        values, noise = _one_objective(history, rng)
        values, noise = _standardise(values, noise)
        pending, failed = (
            embedding.encode_all([other.params for other in trials if other.params])
            for trials in (history.pending, history.failed)
        )
        # many small products: threads of the linear algebra would only wait for each other
        with threadpool_limits(limits=1):
            process = GaussianProcess.fit(points, values, noise**2, embedding.parameter)
            best = points[np.argsort(process.posterior(points)[0])]
            search = _Search(process.believe(pending), embedding, best, failed, rng)
            place = search.maximum({place.tobytes() for place in np.vstack([points, pending, failed])})
        return embedding.decode(place)


def _one_objective(history: History, rng: np.random.Generator) -> tuple[Vector, Vector]:
    """One value for each trial, to be minimised, and its standard error."""
    losses = history.losses
    errors = np.array(
        [other.user_attrs.get(NOISE) or [0.0] * losses.shape[1] for other in history.finished], dtype=float
    )
    errors = np.where(np.isfinite(errors), errors, 0.0)
    if losses.shape[1] == 1:
        return losses[:, 0], errors[:, 0]
    # scales from the better half: a hopeless trial must not flatten the rest
    low = losses.min(axis=0)
    scale = np.maximum(np.median(losses, axis=0) - low, 1e-12)
    weights = rng.dirichlet(np.ones(losses.shape[1]))
    terms, errors = weights * (losses - low) / scale, weights * errors / scale
    return terms.max(axis=1) + AUGMENTED * terms.sum(axis=1), np.sqrt((errors**2).sum(axis=1))


def _standardise(values: Vector, noise: Vector) -> tuple[Vector, Vector]:
    """Values around the median in units of the spread of the better half; worse ones in their logarithm.

    Only the good side needs to be known well, and a diverged training must not set the scale.
    """
    median = np.median(values)
    better = median - values[values <= median]
    scale = max(float(np.sqrt(np.mean(better**2))), 1e-12 * max(1.0, abs(float(median))))
    z = (values - median) / scale
    worse = np.maximum(z, 0)
    z = np.where(z > 0, np.log1p(worse), z)
    return z - z.mean(), noise / scale / (1 + worse)


def log_improvement(mean: Vector, deviation: Vector, best: float) -> Vector:
    """Logarithm of the expected improvement below `best`, exact far from it too (Ament et al. 2023)."""
    z = (best - mean) / deviation
    near, far = np.maximum(z, -1.0), np.minimum(z, -1.0)
    density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    # phi(z) + z Phi(z) as it stands, and with phi(z) as a factor
    direct = np.log(np.exp(-0.5 * near**2) / np.sqrt(2 * np.pi) + near * np.exp(log_ndtr(near)))
    ratio = np.sqrt(np.pi / 2) * erfcx(-far / np.sqrt(2))
    # 1 + z Phi / phi loses all digits far out, where it is 1 / z^2
    factored = np.where(far > -1e3, np.log(np.maximum(1 + far * ratio, 1e-300)), -2 * np.log(-far))
    logarithm: Vector = np.where(z > -1.0, direct, density + factored) + np.log(deviation)
    return logarithm


class _Success:
    """How likely a trial is to end with a value: a process over 1 for those that did and -1 for the others.

    Its noise tells failures that strike anywhere from a region where every trial fails.
    """

    def __init__(self, good: Points, failed: Points, parameter: NDArray[np.intp]) -> None:
        labels = np.append(np.ones(len(good)), -np.ones(len(failed)))
        self.mean = float(labels.mean())
        points = np.vstack([good, failed])
        self.process = GaussianProcess.fit(points, labels - self.mean, np.zeros(len(labels)), parameter)

    def logarithm(self, points: Points) -> Vector:
        """Of the probability, (n,)."""
        mean, deviation = self.process.posterior(points)
        logarithm: Vector = log_ndtr((mean + self.mean) / np.hypot(deviation, self.process.noise))
        return logarithm


class _Search:
    """Random search for the largest expected improvement, then around the best found with shrinking steps."""

    def __init__(
        self,
        process: GaussianProcess,
        embedding: Embedding,
        best: Points,
        failed: Points,
        rng: np.random.Generator,
    ) -> None:
        self.process, self.embedding, self.best, self.rng = process, embedding, best, rng
        self.success = _Success(best, failed, embedding.parameter) if len(failed) else None
        self.target = float(process.posterior(best[:1])[0][0])

    def maximum(self, taken: set[bytes]) -> Points:
        """The best point that is not taken; where all are, the best of all; (width,)."""
        embedding, rng = self.embedding, self.rng
        anywhere = embedding.spread(rng.uniform(size=(ANYWHERE, len(embedding.names))))
        around = self._around(self.best[rng.integers(min(BEST, len(self.best)), size=AROUND)], STEPS[0])
        points = np.vstack([anywhere, around])
        scores = self._score(points)
        for step in np.geomspace(*STEPS, ROUNDS):
            top = points[np.argsort(-scores)[:IMPROVED]]
            tried = self._around(np.repeat(top, ROUND // len(top), axis=0), float(step))
            points, scores = (
                np.vstack([top, tried]),
                np.append(-np.sort(-scores)[: len(top)], self._score(tried)),
            )
        order = np.argsort(-scores)
        free = [index for index in order if points[index].tobytes() not in taken]
        chosen: Points = points[free[0] if free else order[0]]
        return chosen

    def _around(self, points: Points, step: float) -> Points:
        """Points with some of their parameters moved."""
        embedding, rng = self.embedding, self.rng
        count = len(embedding.names)
        share = max(1 / count, min(1.0, 3 / count))
        moved = rng.uniform(size=(len(points), count)) < share
        moved[np.arange(len(points)), rng.integers(count, size=len(points))] = True
        shifted = points + step * rng.standard_normal(points.shape)
        # a step from one choice to another, or from one whole number to the next, is not small
        jump = embedding.spread(rng.uniform(size=(len(points), count)))
        discrete = np.repeat([axis.levels > 0 for axis in embedding.axes.values()],
                             [axis.width for axis in embedding.axes.values()])  # fmt: skip
        far = (rng.uniform(size=(len(points), count)) < 0.5)[:, embedding.parameter] & discrete
        new = np.where(far, jump, np.abs(1 - np.abs(1 - shifted)))
        return embedding.snap(np.where(moved[:, embedding.parameter], new, points))

    def _score(self, points: Points) -> Vector:
        improvement = log_improvement(*self.process.posterior(points), self.target)
        return improvement + self.success.logarithm(points) if self.success else improvement

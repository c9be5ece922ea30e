"""Bayesian optimisation with a Gaussian process and expected improvement."""

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

# points where the acquisition function is evaluated: anywhere, around the best trials, and in each round
ANYWHERE, AROUND, ROUND = 1000, 500, 200
# number of best trials, and of candidates that are refined; rounds; first and last step width
BEST, IMPROVED, ROUNDS = 5, 5, 8
STEPS = (0.2, 0.002)
# weight of the sum in the augmented Chebyshev norm
AUGMENTED = 0.05


class GaussianProcessSampler(ReplaySampler):
    """Maximises the expected improvement under a Gaussian process, with noise and pending trials.

    Kernel and fit are in `regression`. The variance of the value of a trial, known in a study with folds, is
    the noise of its observation; the improvement is relative to the best posterior mean, not to the best
    (noisy) value. Its logarithm is maximised (Ament et al., "Unexpected improvements to expected
    improvement", NeurIPS 2023). Pending trials are set to the posterior mean (kriging believer), so that
    groups of workers do not wait for each other. Several objectives are combined by an augmented Chebyshev
    norm with random weights for each suggestion (ParEGO: Knowles, IEEE Trans. Evol. Comput. 10, 2006).

    Failed trials are not observations; the improvement is weighted with the probability that a trial
    succeeds. Pruned trials count with their last value. The first `startup` points are quasi-random.
    """

    several_objectives = True

    def __init__(self, seed: int, startup: int) -> None:
        """Set seed and number of initial trials.

        Args:
            seed: Seed of all random numbers.
            startup: Number of trials, pending ones included, before the Gaussian process is used.
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
        """The point with the largest acquisition function."""
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
        # BLAS threads do not pay for many small products
        with threadpool_limits(limits=1):
            process = GaussianProcess.fit(points, values, noise**2, embedding.parameter)
            best = points[np.argsort(process.posterior(points)[0])]
            search = _Search(process.believe(pending), embedding, best, failed, rng)
            place = search.maximum({place.tobytes() for place in np.vstack([points, pending, failed])})
        return embedding.decode(place)


def _one_objective(history: History, rng: np.random.Generator) -> tuple[Vector, Vector]:
    """Combine the objectives to one value per trial, to be minimised, with its standard error."""
    losses = history.losses
    errors = np.array(
        [other.user_attrs.get(NOISE) or [0.0] * losses.shape[1] for other in history.finished], dtype=float
    )
    errors = np.where(np.isfinite(errors), errors, 0.0)
    if losses.shape[1] == 1:
        return losses[:, 0], errors[:, 0]
    # scale by the better half, so that outliers do not dominate
    low = losses.min(axis=0)
    scale = np.maximum(np.median(losses, axis=0) - low, 1e-12)
    weights = rng.dirichlet(np.ones(losses.shape[1]))
    terms, errors = weights * (losses - low) / scale, weights * errors / scale
    return terms.max(axis=1) + AUGMENTED * terms.sum(axis=1), np.sqrt((errors**2).sum(axis=1))


def _standardise(values: Vector, noise: Vector) -> tuple[Vector, Vector]:
    """Standardise by the median and the spread of the better half; compress worse values logarithmically.

    Only the good values need precision, and a diverged training must not determine the scale.
    """
    median = np.median(values)
    better = median - values[values <= median]
    scale = max(float(np.sqrt(np.mean(better**2))), 1e-12 * max(1.0, abs(float(median))))
    z = (values - median) / scale
    worse = np.maximum(z, 0)
    z = np.where(z > 0, np.log1p(worse), z)
    return z - z.mean(), noise / scale / (1 + worse)


def log_improvement(mean: Vector, deviation: Vector, best: float) -> Vector:
    """Log of the expected improvement below `best`, numerically stable far from it (Ament et al. 2023)."""
    z = (best - mean) / deviation
    near, far = np.maximum(z, -1.0), np.minimum(z, -1.0)
    density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    # phi(z) + z Phi(z) directly, and with phi(z) factored out
    direct = np.log(np.exp(-0.5 * near**2) / np.sqrt(2 * np.pi) + near * np.exp(log_ndtr(near)))
    ratio = np.sqrt(np.pi / 2) * erfcx(-far / np.sqrt(2))
    # 1 + z Phi / phi cancels for large |z|, where it tends to 1 / z^2
    factored = np.where(far > -1e3, np.log(np.maximum(1 + far * ratio, 1e-300)), -2 * np.log(-far))
    logarithm: Vector = np.where(z > -1.0, direct, density + factored) + np.log(deviation)
    return logarithm


class _SuccessProbability:
    """Probability that a trial succeeds: a Gaussian process fitted to labels 1 (success) and -1 (failure).

    The fitted noise distinguishes random failures from a region where all trials fail.
    """

    def __init__(self, good: Points, failed: Points, parameter: NDArray[np.intp]) -> None:
        labels = np.append(np.ones(len(good)), -np.ones(len(failed)))
        self.mean = float(labels.mean())
        points = np.vstack([good, failed])
        self.process = GaussianProcess.fit(points, labels - self.mean, np.zeros(len(labels)), parameter)

    def logarithm(self, points: Points) -> Vector:
        """Log-probability of success, (n,)."""
        mean, deviation = self.process.posterior(points)
        logarithm: Vector = log_ndtr((mean + self.mean) / np.hypot(deviation, self.process.noise))
        return logarithm


class _Search:
    """Maximisation of the acquisition function: random search, then local search with shrinking steps."""

    def __init__(
        self,
        process: GaussianProcess,
        embedding: Embedding,
        best: Points,
        failed: Points,
        rng: np.random.Generator,
    ) -> None:
        self.process, self.embedding, self.best, self.rng = process, embedding, best, rng
        self.success = _SuccessProbability(best, failed, embedding.parameter) if len(failed) else None
        self.target = float(process.posterior(best[:1])[0][0])

    def maximum(self, taken: set[bytes]) -> Points:
        """The best point (width,) that is not in `taken`, or the best one if all are."""
        embedding, rng = self.embedding, self.rng
        anywhere = embedding.from_uniform(rng.uniform(size=(ANYWHERE, len(embedding.names))))
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
        """Perturb some parameters of each point."""
        embedding, rng = self.embedding, self.rng
        count = len(embedding.names)
        probability = max(1 / count, min(1.0, 3 / count))
        moved = rng.uniform(size=(len(points), count)) < probability
        moved[np.arange(len(points)), rng.integers(count, size=len(points))] = True
        shifted = points + step * rng.standard_normal(points.shape)
        # discrete parameters need jumps: small steps do not reach another value
        jump = embedding.from_uniform(rng.uniform(size=(len(points), count)))
        discrete = np.repeat([axis.levels > 0 for axis in embedding.axes.values()],
                             [axis.width for axis in embedding.axes.values()])  # fmt: skip
        far = (rng.uniform(size=(len(points), count)) < 0.5)[:, embedding.parameter] & discrete
        new = np.where(far, jump, np.abs(1 - np.abs(1 - shifted)))
        return embedding.snap(np.where(moved[:, embedding.parameter], new, points))

    def _score(self, points: Points) -> Vector:
        improvement = log_improvement(*self.process.posterior(points), self.target)
        return improvement + self.success.logarithm(points) if self.success else improvement

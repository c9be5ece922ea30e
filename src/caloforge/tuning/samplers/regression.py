"""Gaussian process regression with heteroscedastic noise: a known variance for each observation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Vector = NDArray[np.float64]

ROOT5 = math.sqrt(5.0)
# variance added to each (standardised) observation for numerical stability
JITTER = 1e-6
# mean and width of the normal priors on the log of the signal variance, and of the unknown noise variance
LOG_VARIANCE = (0.0, 1.0)
LOG_NOISE = (-7.0, 2.0)
BOUND = 9.0
# most iterations of a fit
STEPS = 60


def length_prior(parameters: int) -> tuple[float, float]:
    """Mean and width of the normal prior on the logarithm of a length scale.

    The mean grows with the number of parameters as distances in the unit cube do: Hvarfner et al., "Vanilla
    Bayesian optimization performs great in high dimensions" (ICML 2024), with their constants.
    """
    return math.sqrt(2.0) + math.log(parameters) / 2 - 1.0, 1.2


@dataclass(frozen=True)
class GaussianProcess:
    """Gaussian process conditioned on observations: mean 0, Matérn 5/2 kernel, a length scale per parameter.

    Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), equations 2.25, 2.26, 4.17, 5.9.

    Attributes:
        points: Observed points, (n, width).
        values: Observed values, standardised, (n,).
        known: Known noise variance of each value, (n,).
        parameter: Index of the parameter of each coordinate, (width,).
        logs: Logarithms of length scales, signal variance and unknown noise variance.
        factor: Lower Cholesky factor of the covariance of the values, (n, n).
        weights: Inverse covariance times values, (n,).
    """

    points: Vector
    values: Vector
    known: Vector
    parameter: NDArray[np.intp]
    logs: Vector
    factor: Vector
    weights: Vector

    @classmethod
    def fit(cls, points: Vector, values: Vector, known: Vector, parameter: NDArray[np.intp]) -> Self:
        """Fit the hyper-parameters by maximum a posteriori, from two starting points."""
        count = int(parameter[-1]) + 1
        squares = _squares(points, points, parameter)
        mean, _ = length_prior(count)
        starts = [np.array([length] * count + [0.0, LOG_NOISE[0]]) for length in (mean, math.log(0.3))]
        bounds = [(-4.0, BOUND)] * count + [(-BOUND, BOUND), (math.log(JITTER), 1.0)]
        found = [
            minimize(
                _objective, start, (squares, values, known), jac=True, bounds=bounds,
                method="L-BFGS-B", options={"maxiter": STEPS},
            )
            for start in starts
        ]  # fmt: skip
        logs = min(found, key=lambda result: float(result.fun)).x
        return cls._condition(points, values, known, parameter, logs)

    @classmethod
    def _condition(
        cls, points: Vector, values: Vector, known: Vector, parameter: NDArray[np.intp], logs: Vector
    ) -> Self:
        covariance, _, _ = _covariance(_squares(points, points, parameter), known, logs)
        factor = cholesky(covariance, lower=True)
        weights = cho_solve((factor, True), values)
        return cls(points, values, known, parameter, logs, factor, weights)

    @property
    def noise(self) -> float:
        """Standard deviation of the unknown noise."""
        return math.sqrt(math.exp(self.logs[-1]) + JITTER)

    def posterior(self, points: Vector) -> tuple[Vector, Vector]:
        """Posterior mean and standard deviation at points (m, width); both (m,)."""
        variance = math.exp(self.logs[-2])
        cross = variance * _matern(_distance(_squares(points, self.points, self.parameter), self.logs))
        spread = solve_triangular(self.factor, cross.T, lower=True)
        rest = np.maximum(variance - np.einsum("ij,ij->j", spread, spread), 1e-12)
        return cross @ self.weights, np.sqrt(rest)

    def believe(self, points: Vector) -> Self:
        """Condition on the posterior mean at points (m, width): the kriging believer.

        Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization" (2010): the
        mean is unchanged, and the uncertainty at these points is removed.
        """
        if not len(points):
            return self
        mean, _ = self.posterior(points)
        return self._condition(
            np.vstack([self.points, points]),
            np.append(self.values, mean),
            np.append(self.known, np.zeros(len(points))),
            self.parameter,
            self.logs,
        )


def _squares(first: Vector, second: Vector, parameter: NDArray[np.intp]) -> Vector:
    """Squared distances in each parameter, (parameters, n, m)."""
    result = np.zeros((int(parameter[-1]) + 1, len(first), len(second)))
    for column, index in enumerate(parameter):
        result[index] += (first[:, column, None] - second[None, :, column]) ** 2
    return result


def _distance(squares: Vector, logs: Vector) -> Vector:
    """sqrt(5) times the distance in units of the length scales, (n, m)."""
    scaled = np.tensordot(np.exp(-2 * logs[:-2]), squares, axes=1)
    distance: Vector = ROOT5 * np.sqrt(scaled)
    return distance


def _matern(distance: Vector) -> Vector:
    kernel: Vector = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return kernel


def _covariance(squares: Vector, known: Vector, logs: Vector) -> tuple[Vector, Vector, Vector]:
    """Covariance of the observations, its noise-free part, and the distances."""
    distance = _distance(squares, logs)
    signal = math.exp(logs[-2]) * _matern(distance)
    covariance = signal.copy()
    covariance[np.diag_indices_from(covariance)] += known + math.exp(logs[-1]) + JITTER
    return covariance, signal, distance


def _objective(logs: Vector, squares: Vector, values: Vector, known: Vector) -> tuple[float, Vector]:
    """Negative log posterior density of the hyper-parameters, and its gradient."""
    covariance, signal, distance = _covariance(squares, known, logs)
    try:
        factor = cholesky(covariance, lower=True)
    except np.linalg.LinAlgError:
        return 1e25, np.zeros_like(logs)
    inverse = cho_solve((factor, True), np.eye(len(values)))
    weights = inverse @ values
    value = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
    # derivative with respect to each element of the covariance
    slope = 0.5 * (inverse - np.outer(weights, weights))
    # derivative of the kernel with respect to a log length scale, without the factor distance^2 / scale^2
    by_length = slope * (5 / 3 * math.exp(logs[-2]) * (1 + distance) * np.exp(-distance))
    gradient = np.empty_like(logs)
    gradient[:-2] = np.einsum("ij,kij->k", by_length, squares, optimize=True) * np.exp(-2 * logs[:-2])
    gradient[-2] = np.sum(slope * signal)
    gradient[-1] = np.trace(slope) * math.exp(logs[-1])
    mean, width = length_prior(len(squares))
    centres = np.array([mean] * len(squares) + [LOG_VARIANCE[0], LOG_NOISE[0]])
    widths = np.array([width] * len(squares) + [LOG_VARIANCE[1], LOG_NOISE[1]])
    pull = (logs - centres) / widths
    return value + 0.5 * float(pull @ pull), gradient + pull / widths

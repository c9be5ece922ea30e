"""Relative differences of means, standard deviations and mean profiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.resampling import Array, Metric, Resampler, Statistic


def mean_shift(
    truth: NDArray[Any], generated: NDArray[Any], resampler: Resampler, *, scale: float | None = None
) -> Metric:
    """Difference of the means, generated minus truth, relative to the mean of the truth; signed.

    The floor is the mean absolute value among truth samples and falls like sqrt(1/n_1 + 1/n_2).

    Args:
        truth: (n,) one number per shower.
        generated: (m,) the same for the generated showers.
        resampler: Weights of this pair of samples.
        scale: Divide by this instead, for numbers whose mean is zero by symmetry.

    Examples:
        >>> truth = np.array([1.0, 3.0] * 50)
        >>> round(mean_shift(truth, truth + 0.1, Resampler(100, 100, seed=1)).value, 6)
        0.05
    """

    def build(first: NDArray[Any], second: NDArray[Any]) -> Statistic:
        one, other = first.astype(np.float64), second.astype(np.float64)

        def statistic(w_first: Array, w_second: Array) -> Array:
            want = w_first @ one / w_first.sum(axis=1)
            got = w_second @ other / w_second.sum(axis=1)
            return _ratio(got - want, np.abs(want) if scale is None else np.full(len(want), scale))

        return statistic

    return resampler.measure(build, truth, generated, "root")


def width_shift(truth: NDArray[Any], generated: NDArray[Any], resampler: Resampler) -> Metric:
    """Difference of the standard deviations relative to that of the truth; signed.

    The floor is the mean absolute value among truth samples and falls like sqrt(1/n_1 + 1/n_2).

    Args:
        truth: (n,) one number per shower.
        generated: (m,) the same for the generated showers.
        resampler: Weights of this pair of samples.
    """

    def build(first: NDArray[Any], second: NDArray[Any]) -> Statistic:
        # relative to a common origin, or the squares would cancel
        origin = float(np.mean(first, dtype=np.float64))
        one, other = first.astype(np.float64) - origin, second.astype(np.float64) - origin

        def statistic(w_first: Array, w_second: Array) -> Array:
            want, got = _spread(one, w_first), _spread(other, w_second)
            return _ratio(got - want, want)

        return statistic

    return resampler.measure(build, truth, generated, "root")


def profile_deviation(truth: NDArray[Any], generated: NDArray[Any], resampler: Resampler) -> Metric:
    r"""Mean relative deviation of two mean profiles, weighted by the truth.

    .. math:: \sum_i\,\lvert \bar g_i - \bar t_i \rvert \,/\, \sum_i\,\bar t_i

    This is E of the 3DGAN figures of merit with each bin weighted by its content: nearly empty bins do not
    dominate. Always positive; the floor falls like sqrt(1/n_1 + 1/n_2).

    Args:
        truth: (n, k) profile of each shower.
        generated: (m, k) the same for the generated showers.
        resampler: Weights of this pair of samples.
    """

    def build(first: NDArray[Any], second: NDArray[Any]) -> Statistic:
        one, other = first.astype(np.float64), second.astype(np.float64)

        def statistic(w_first: Array, w_second: Array) -> Array:
            want = w_first @ one / w_first.sum(axis=1, keepdims=True)
            got = w_second @ other / w_second.sum(axis=1, keepdims=True)
            return _ratio(np.abs(got - want).sum(axis=1), np.abs(want).sum(axis=1))

        return statistic

    return resampler.measure(build, truth, generated, "root")


def _spread(values: Array, weights: Array) -> Array:
    total = weights.sum(axis=1)
    mean = weights @ values / total
    result: Array = np.sqrt(np.maximum(weights @ values**2 / total - mean**2, 0.0))
    return result


def _ratio(top: Array, bottom: Array) -> Array:
    """Quotient; 0 where both are 0, infinite where only the truth is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(top == 0, 0.0, top / bottom)

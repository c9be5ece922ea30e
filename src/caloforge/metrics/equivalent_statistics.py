"""Equivalent statistics: how many showers of the truth scatter as much as a generator differs from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from caloforge.metrics.resampling import Metric

# mean, mean square and 95 % quantile of Kolmogorov's distribution: sqrt(pi / 2) ln 2, pi^2 / 12
MEAN, MEAN_SQUARE, QUANTILE = math.sqrt(math.pi / 2) * math.log(2), math.pi**2 / 12, 1.3581


def equivalent_showers(distance: Metric, n_truth: int, n_generated: int) -> Metric:
    r"""Number N for which two samples of N showers of the truth have the distance that was measured.

    Two samples of one distribution, of n and m showers, have a Kolmogorov-Smirnov distance D of

    .. math:: \langle D^2\rangle = \frac{\pi^2}{12}\,r^2\left(\frac{1}{n} + \frac{1}{m}\right)

    with r = 1 for continuous observables; r is below 1 where values repeat, and is taken from the floor. What
    a measured D has beyond this is set equal to the scatter of two samples of N showers:

    .. math::

        D^2 - \frac{\pi^2}{12}\,r^2\left(\frac{1}{n} + \frac{1}{m}\right) = \frac{\pi^2}{6}\,\frac{r^2}{N}

    A distance that equal distributions exceed in one of twenty cases is no evidence of a difference: N is
    then the lower limit that these samples allow, about 0.8 n for n = m, without an uncertainty. Little above
    that, N is up to a third too small: difference and noise add up at the place of the maximum.

    Args:
        distance: Kolmogorov-Smirnov distance, its standard error and its floor.
        n_truth: Showers of the truth.
        n_generated: Generated showers.

    Returns:
        N; its floor is the lower limit, which a sample of the truth itself would have.
    """
    noise = 1 / n_truth + 1 / n_generated
    repeats = (distance.floor / MEAN) ** 2 / noise
    excess = distance.value**2 - MEAN_SQUARE * repeats * noise
    least = _seen(QUANTILE) * repeats * noise
    if least <= 0:
        # the truth has no scatter at all: any distance is a difference
        return Metric(0.0 if distance.value > 0 else math.inf, math.nan, math.inf)
    limit = 2 * MEAN_SQUARE * repeats / least
    if excess <= least:
        return Metric(limit, math.nan, limit)
    value = 2 * MEAN_SQUARE * repeats / excess
    return Metric(value, value * 2 * distance.value * distance.uncertainty / excess, limit)


def is_limit(result: Metric) -> bool:
    """Whether the samples show no difference, so that the number is a lower limit."""
    return math.isnan(result.uncertainty)


def median_showers(results: Sequence[Metric]) -> Metric:
    """The median over observables; a lower limit where that of the median observable is one."""
    ordered = sorted(results, key=lambda result: result.value)
    middle = ordered[(len(ordered) - 1) // 2]
    return Metric(middle.value, middle.uncertainty, median(result.floor for result in results))


def fewest_showers(results: Sequence[Metric]) -> Metric:
    """The worst observable; its floor is the median of the smallest of as many independent observables."""
    worst = min(results, key=lambda result: result.value)
    probability = 0.5 ** (1 / len(results))
    quantile = math.sqrt(-math.log((1 - probability) / 2) / 2)
    typical = median(result.floor for result in results)
    return Metric(worst.value, worst.uncertainty, typical * _seen(QUANTILE) / _seen(max(quantile, QUANTILE)))


def _seen(quantile: float) -> float:
    """Excess of D^2 at a quantile of Kolmogorov's distribution, in units of r^2 (1/n + 1/m)."""
    return quantile**2 - MEAN_SQUARE

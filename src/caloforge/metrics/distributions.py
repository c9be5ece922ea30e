"""Distances between two distributions of a scalar: separation power, Wasserstein-1, KS, chi-squared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.resampling import Array, Metric, Resampler, Statistic


def separation_power(
    truth: NDArray[Any], generated: NDArray[Any], edges: Array, resampler: Resampler
) -> Metric:
    r"""Separation power of two histograms of unit sum.

    .. math:: S = \frac12 \sum_i\,\frac{(h_i - g_i)^2}{h_i + g_i}

    0 for equal histograms, 1 for disjoint ones; called "chi2" in the CaloChallenge code (arXiv:2410.21611).
    The floor falls like 1/n_1 + 1/n_2.

    Args:
        truth: (n,) one number per shower.
        generated: (m,) the same for the generated showers.
        edges: (k + 1,) bin edges; values outside count in two more bins, below and above.
        resampler: Weights of this pair of samples.
    """
    return spectrum_separation(_bin_matrix(truth, edges), _bin_matrix(generated, edges), resampler)


def spectrum_separation(truth: NDArray[Any], generated: NDArray[Any], resampler: Resampler) -> Metric:
    """Separation power of two spectra to which every shower contributes many entries.

    The bootstrap draws whole showers, since the voxels of one shower are not independent. The floor falls
    like 1/n_1 + 1/n_2.

    Args:
        truth: (n, k) entries of each shower in each bin.
        generated: (m, k) the same for the generated showers.
        resampler: Weights of this pair of samples.
    """

    def build(first: NDArray[Any], second: NDArray[Any]) -> Statistic:
        one, other = first.astype(np.float64), second.astype(np.float64)

        def statistic(w_first: Array, w_second: Array) -> Array:
            return separation(w_first @ one, w_second @ other)

        return statistic

    return resampler.measure(build, truth, generated, "linear")


def separation(h: NDArray[Any], g: NDArray[Any]) -> Array:
    """Separation power of histograms along the last axis; 1 where one of the two is empty.

    Examples:
        >>> round(float(separation(np.array([1, 1]), np.array([1, 0]))), 4)
        0.3333
    """
    total_h, total_g = h.sum(axis=-1, keepdims=True), g.sum(axis=-1, keepdims=True)
    p = np.divide(h, total_h, out=np.zeros_like(h, np.float64), where=total_h > 0)
    q = np.divide(g, total_g, out=np.zeros_like(g, np.float64), where=total_g > 0)
    both = p + q
    terms = np.divide((p - q) ** 2, both, out=np.zeros_like(both), where=both > 0)
    empty = (total_h[..., 0] > 0) != (total_g[..., 0] > 0)
    result: Array = np.where(empty, 1.0, terms.sum(axis=-1) / 2)
    return result


def chi2_per_ndf(truth: NDArray[Any], generated: NDArray[Any], edges: Array, resampler: Resampler) -> Metric:
    r"""Chi2 per degree of freedom between the shapes of two histograms of counts.

    .. math:: \chi^2 = \sum_i\,\frac{(\sqrt{M/N}\,h_i - \sqrt{N/M}\,g_i)^2}{h_i + g_i}

    with N and M entries, and one degree of freedom less than filled bins (N. Gagunashvili, physics/0605123,
    unweighted case). About 1 for equal distributions whatever the sample sizes, so the floor is not scaled;
    for different ones it grows in proportion to the sample. The bootstrap uncertainty includes the
    statistical noise that chi2 measures, and is an upper limit.

    Args:
        truth: (n,) one number per shower.
        generated: (m,) the same for the generated showers.
        edges: (k + 1,) bin edges; values outside count in two more bins.
        resampler: Weights of this pair of samples.
    """

    def build(first: NDArray[Any], second: NDArray[Any]) -> Statistic:
        one, other = _bin_matrix(first, edges), _bin_matrix(second, edges)

        def statistic(w_first: Array, w_second: Array) -> Array:
            h, g = w_first @ one, w_second @ other
            ratio = np.sqrt(g.sum(axis=1, keepdims=True) / h.sum(axis=1, keepdims=True))
            total = h + g
            terms = np.divide((ratio * h - g / ratio) ** 2, total, out=np.zeros_like(total), where=total > 0)
            result: Array = terms.sum(axis=1) / np.maximum((total > 0).sum(axis=1) - 1, 1)
            return result

        return statistic

    return resampler.measure(build, truth, generated, "none")


def kolmogorov_smirnov(truth: NDArray[Any], generated: NDArray[Any], resampler: Resampler) -> Metric:
    """Largest distance between the two distribution functions, 0 to 1.

    The floor falls like sqrt(1/n_1 + 1/n_2).

    Args:
        truth: (n,) one number per shower.
        generated: (m,) the same for the generated showers.
        resampler: Weights of this pair of samples.
    """

    def build(first: NDArray[Any], second: NDArray[Any]) -> Statistic:
        pooled = _Pooled(first, second)

        def statistic(w_first: Array, w_second: Array) -> Array:
            result: Array = np.abs(pooled.difference(w_first, w_second)).max(axis=1)
            return result

        return statistic

    return resampler.measure(build, truth, generated, "root")


def wasserstein(truth: NDArray[Any], generated: NDArray[Any], resampler: Resampler) -> Metric:
    """Wasserstein-1 distance (mean transport distance) in standard deviations of the truth.

    Dividing by the standard deviation makes observables of different units comparable. The floor falls like
    sqrt(1/n_1 + 1/n_2).

    Args:
        truth: (n,) one number per shower.
        generated: (m,) the same for the generated showers.
        resampler: Weights of this pair of samples.
    """
    scale = float(np.std(truth, dtype=np.float64)) or 1.0

    def build(first: NDArray[Any], second: NDArray[Any]) -> Statistic:
        pooled = _Pooled(first, second)

        def statistic(w_first: Array, w_second: Array) -> Array:
            result: Array = np.abs(pooled.difference(w_first, w_second)) @ pooled.steps / scale
            return result

        return statistic

    return resampler.measure(build, truth, generated, "root")


def ks_probability(first: NDArray[Any], second: NDArray[Any]) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance of two samples and the asymptotic probability of a larger one.

    With ties (listed energies) the probability is too large, never too small.

    Examples:
        >>> ks_probability(np.arange(100.0), np.arange(100.0))
        (0.0, 1.0)
    """
    pooled = _Pooled(first, second)
    ones = np.ones((1, len(first))), np.ones((1, len(second)))
    distance = float(np.abs(pooled.difference(*ones)).max())
    size = len(first) * len(second) / (len(first) + len(second))
    argument = np.sqrt(size) * distance
    if argument < 0.2:  # the series does not converge; the probability is 1 to 12 digits
        return distance, 1.0
    k = np.arange(1, 101)
    return distance, float(np.clip(2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * argument) ** 2)), 0, 1))


def quantile_edges(truth: NDArray[Any], bins: int = 30, tail: float = 0.002) -> Array:
    """Equal-width bin edges between the quantiles `tail` and 1 - `tail` of the truth.

    The metrics count what lies outside in two bins of their own. A constant sample gets one bin around its
    value.
    """
    low, high = np.quantile(truth.astype(np.float64), [tail, 1 - tail])
    if high <= low:
        pad = max(abs(low) * 1e-6, 1e-12)
        return np.array([low - pad, high + pad])
    edges: Array = np.linspace(low, high, bins + 1)
    return edges


def _bin_matrix(values: NDArray[Any], edges: Array) -> Array:
    """(n, k + 2) one-hot bin of each value; the first and last bins are under- and overflow."""
    index = np.searchsorted(edges, values.astype(np.float64), side="right")
    matrix = np.zeros((len(values), len(edges) + 1))
    matrix[np.arange(len(values)), index] = 1.0
    return matrix


class _Pooled:
    """Two samples sorted together, for their empirical distribution functions under varying weights."""

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        values = np.concatenate([first, second]).astype(np.float64)
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        # equal values are one step: evaluate the functions after the last of them
        self.last = np.flatnonzero(np.append(np.diff(ordered) > 0, True))
        self.steps = np.append(np.diff(ordered[self.last]), 0.0)

    def difference(self, w_first: Array, w_second: Array) -> Array:
        """(R, distinct values) first minus second distribution function, after each value."""
        signed = np.concatenate(
            [w_first / w_first.sum(axis=1, keepdims=True), -w_second / w_second.sum(axis=1, keepdims=True)],
            axis=1,
        )
        return np.cumsum(signed[:, self.order], axis=1)[:, self.last]

"""Polynomials of the logarithm of the energy, fitted to many columns at once, with penalties."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# penalty of each degree, and of those of logarithms of squares
RIDGE, SQUARES_RIDGE = (0.0, 0.5, 1.0, 4.0, 12.0), (0.0, 2.0, 6.0)
LEAST_RIDGE = 1e-3
# of an iteration; logarithms of mean squares stay within these
NEWTON, LARGEST_STEP, SQUARES_RANGE = 4, 0.7, (-3.0, 6.0)
# first guess of a mean square is worth so many showers of 1
FEW_SQUARES = 5.0
# of the variances that all columns share
ROUNDS, FIRST_VARIANCE, LEAST_VARIANCE, FLOOR = 30, 0.05, 1e-9, 0.05


class EnergyScale:
    """Legendre polynomials of the logarithm of the energy over a range."""

    def __init__(self, low: float, high: float) -> None:
        """Of the energies from low to high, MeV."""
        self.middle, self.half = np.log(low * high) / 2, max(np.log(high / low) / 2, 1e-3)

    def powers(self, energy: Floats, degree: int) -> Floats:
        """(N, degree + 1)."""
        return np.asarray(legvander((np.log(energy) - self.middle) / self.half, degree))


def ridge_of(degree: int) -> Floats:
    """Diagonal penalty (degree + 1, degree + 1)."""
    return np.diag(np.array(RIDGE[: degree + 1]) + LEAST_RIDGE)


def solved(weight: Floats, design: Floats, right: Floats) -> Floats:
    """Solution (degree + 1, F) of the weighted normal equations of each column.

    Args:
        weight: (N, F).
        design: (N, degree + 1).
        right: (degree + 1, F).
    """
    gram = _grams(weight, design) + ridge_of(design.shape[1] - 1)
    return np.asarray(np.linalg.solve(gram, right.T[..., None])[..., 0].T)


def log_mean_squares(squares: Floats, weight: Floats, design: Floats) -> Floats:
    """Coefficients (3, F) of smooth means of squares (N, F), which are exp(polynomial)."""
    coefficients = np.zeros((design.shape[1], squares.shape[1]))
    coefficients[0] = np.log((squares * weight).sum(0) + FEW_SQUARES) - np.log(weight.sum(0) + FEW_SQUARES)
    for _ in range(NEWTON):
        mean = np.exp(np.clip(design @ coefficients, -4, 6))
        penalty = np.array(SQUARES_RIDGE)[:, None] * coefficients
        step = solved(weight, design, design.T @ (weight * (squares / mean - 1)) - penalty)
        coefficients += np.clip(step, -LARGEST_STEP, LARGEST_STEP)
    return coefficients


def mean_squares(design: Floats, coefficients: Floats) -> Floats:
    """Of the coefficients that `log_mean_squares` finds, (N, F)."""
    return np.asarray(np.exp(np.clip(design @ coefficients, *SQUARES_RANGE)))


def shrunk_means(values: Floats, weight: Floats, design: Floats) -> Floats:
    """Coefficients (degree + 1, F) of the means of values (N, F), shrunk towards 0.

    Each coefficient is normal over the columns, with a variance of its degree that the columns themselves
    tell (empirical Bayes by expectation maximisation).
    """
    gram, right = _grams(weight, design), np.einsum("nf,ni->fi", weight * values, design)
    noise = (weight * values**2).sum(0) / np.maximum(weight.sum(0), 1) + FLOOR
    prior = np.full(design.shape[1], FIRST_VARIANCE)
    found = np.zeros(right.shape)
    for _ in range(ROUNDS):
        covariance = np.linalg.inv(gram / noise[:, None, None] + np.diag(1 / prior))
        found = np.einsum("fij,fj->fi", covariance, right / noise[:, None])
        spread = found**2 + np.einsum("fii->fi", covariance)
        prior = np.maximum(spread.mean(0), LEAST_VARIANCE)
        rest = (weight * (values - design @ found.T) ** 2).sum(0)
        noise = (rest + 1) / (weight.sum(0) + 1)
    return np.asarray(found.T)


def _grams(weight: Floats, design: Floats) -> Floats:
    """Weighted Gram matrices (F, degree + 1, degree + 1)."""
    terms = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    return np.asarray((weight.T @ products).reshape(-1, terms, terms))

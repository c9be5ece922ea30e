"""Fit of the Gamma distribution to the longitudinal profile of each shower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GammaFit:
    r"""Gamma functions fitted to the longitudinal profiles of N showers; every attribute is (N,).

    .. math:: \mathrm{d}E/\mathrm{d}t \propto (bt)^{a-1}\,e^{-bt}

    Attributes:
        a: Shape; NaN where no profile of this form fits.
        b: Inverse scale, 1/X0; NaN likewise.
        maximum: Depth of the shower maximum (a - 1) / b, X0.
    """

    a: Array
    b: Array
    maximum: Array


def gamma_fit(layers: NDArray[Any], depths: Array) -> GammaFit:
    r"""Fit the longitudinal profile of the PDG (review on passage of particles, eq. 34.36) to each shower.

    .. math:: \ln E_l = c + (a - 1) \ln t_l - b\,t_l

    is linear in its parameters: least squares weighted with the energies (the variance of ln E falls like
    1/E) have a closed solution, computed for all showers at once. Unlike moments, the fit is not biased by
    leakage behind the last layer or by layers of unequal depth.

    Where fewer than three layers hold at least 1e-6 of the energy, or the fitted maximum is not inside the
    calorimeter, the maximum is the depth of the layer with most energy.

    Args:
        layers: (N, nz) visible energy of each layer, MeV.
        depths: (nz,) depth of the active material, X0, positive.

    Returns:
        The parameters of N fits.

    Examples:
        >>> depth = np.arange(1.0, 25.0)
        >>> gamma_fit((depth**3 * np.exp(-depth / 2))[None], depth).maximum.round(3)
        array([6.])
    """
    energy = np.maximum(layers.astype(np.float64), 0.0)
    total = energy.sum(axis=1, keepdims=True)
    weights = np.divide(energy, total, out=np.zeros_like(energy), where=total > 0)
    # smaller weights make the equations singular
    weights[weights < 1e-6] = 0.0
    basis = np.stack([np.ones_like(depths), np.log(depths), -depths], axis=1)
    products = basis[:, :, None] * basis[:, None, :]
    normal = np.einsum("nz,zij->nij", weights, products)
    log_energy = np.log(np.where(weights > 0, weights, 1.0))
    right = np.einsum("nz,zi->ni", weights * log_energy, basis)
    solvable = np.count_nonzero(weights, axis=1) >= 3
    normal[~solvable] = np.eye(3)
    _, slope, b = np.linalg.solve(normal, right[..., None])[..., 0].T
    with np.errstate(divide="ignore", invalid="ignore"):
        maximum = slope / b
    fits = solvable & (b > 0) & (slope > 0) & (maximum < depths[-1])
    hottest = depths[np.argmax(energy, axis=1)]
    return GammaFit(
        a=np.where(fits, slope + 1, np.nan),
        b=np.where(fits, b, np.nan),
        maximum=np.where(fits, maximum, hottest),
    )

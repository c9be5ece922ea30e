"""Coupling of azimuthal Fourier modes between radial bins and along the depth, Eq. 16.

A shower that is wide in one direction is so at all radii and in neighbouring layers, which neither sums of
bins nor couplings of neighbours describe. The residuals of a radial bin are projected on the dipole and the
quadrupole around the axis, cosine and sine each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.layered.constants import LAYER_DECAYS, MODE_ORDERS, MODE_SOURCES, MODES
from caloforge.models.layered.geometry import LayerGeometry

# unit of the coupling, a few hundredths; see SCALES in couplings.py
SCALE = 0.1
# largest singular value of the coupling to each source, half of where a moment of Eq. 20 turns
# round: below -1 for the same layer, below -(1 - d^2) / (2 d) for a memory of d, it falls with its coupling
LARGEST_COUPLING = (0.5, *((1 - decay**2) / (4 * decay) for decay in LAYER_DECAYS))


class AzimuthalCoupling(nn.Module):
    """Shift of the mean energies of a radial bin by the modes of all bins, of its layer and those in front.

    Attributes:
        mode_coupling: (MODE_SOURCES, orders, bins, bins) from the last bin index to the one before, in units
            of SCALE; sources are the same layer, and the layers in front with each of LAYER_DECAYS.
    """

    modes: Tensor
    layer_weights: Tensor

    def __init__(self, layers: int, geometry: LayerGeometry) -> None:
        """No coupling.

        Args:
            layers: Layers of a shower.
            geometry: Cells of a layer.
        """
        super().__init__()
        bins = len(geometry.radial_bin_sizes)
        apart = np.subtract.outer(np.arange(layers), np.arange(layers))
        self.register_buffer("modes", torch.from_numpy(_bin_modes(geometry)), persistent=False)
        self.register_buffer("layer_weights", torch.from_numpy(_layer_weights(apart)), persistent=False)
        self.mode_coupling = nn.Parameter(torch.zeros(MODE_SOURCES, len(MODE_ORDERS), bins, bins))

    def forward(self, residuals: Tensor) -> Tensor:
        """Shift of the mean in standard deviations, (N, layers, cells), from residuals of the same shape."""
        incoming = self.layer_weights @ (residuals @ self.modes)[:, None]
        apart = torch.eye(MODES, device=residuals.device)[:, None, :, None]
        transfer = (self.coupling().mT[:, :, :, None] * apart).flatten(3).flatten(1, 2)
        return (incoming @ transfer).sum(1) @ self.modes.T

    def coupling(self) -> Tensor:
        """Coupling of each mode, (MODE_SOURCES, MODES, bins, bins)."""
        return SCALE * self.mode_coupling.repeat_interleave(2, dim=1)

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """Limit the coupling to each source, so that each moment rises with its parameter, Eq. 20.

        Modes of a layer depend on those in front, which depend on modes in front of them. With a strong
        negative coupling this second order exceeds the first, and matching of moments runs away.
        """
        left, strength, right = torch.linalg.svd(self.mode_coupling)
        limits = strength.new_tensor(LARGEST_COUPLING)[:, None, None] / SCALE
        if bool((strength > limits).any()):
            self.mode_coupling.copy_(left * torch.minimum(strength, limits)[..., None, :] @ right)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # models of earlier releases have fewer decays
        stored, own = state.get(prefix + "mode_coupling"), self.mode_coupling
        if stored is not None and stored.shape[1:] == own.shape[1:] and len(stored) < len(own):
            missing = stored.new_zeros(len(own) - len(stored), *own.shape[1:])
            state[prefix + "mode_coupling"] = torch.cat([stored, missing])
        super()._load_from_state_dict(state, prefix, *rest)

    @torch.no_grad()
    def mode_products(self, residuals: Tensor) -> Tensor:
        """Mean products of the modes of each bin with the incoming ones, of the shape of `mode_coupling`."""
        amplitudes = residuals @ self.modes
        incoming = self.layer_weights @ amplitudes[:, None]
        # cosine and sine of an order side by side
        amplitudes, incoming = (
            x.reshape(*x.shape[:-1], len(MODE_ORDERS), 2, -1) for x in (amplitudes, incoming)
        )
        products: Tensor = torch.einsum("nlpci,nslpcj->spij", amplitudes, incoming) / len(residuals)
        return products


def _bin_modes(geometry: LayerGeometry) -> NDArray[np.float32]:
    """Normalised modes of each radial bin, (cells, MODES * bins)."""
    modes = (geometry.fourier_modes(MODE_ORDERS)[:, None] * geometry.bin_membership.T).reshape(
        -1, geometry.cells
    )
    norm = np.sqrt((modes**2).sum(axis=1, keepdims=True))
    return np.ascontiguousarray((modes / np.maximum(norm, 1e-6)).T.astype(np.float32))


def _layer_weights(apart: NDArray[np.int64]) -> NDArray[np.float32]:
    """(MODE_SOURCES, layers, layers) weights with which modes of other layers come in.

    Args:
        apart: (layers, layers) number of layers by which one is behind the other.
    """
    in_front = [
        np.where(apart > 0, np.power(decay, np.maximum(apart - 1.0, 0)), 0.0) for decay in LAYER_DECAYS
    ]
    return np.stack([apart == 0, *in_front]).astype(np.float32)

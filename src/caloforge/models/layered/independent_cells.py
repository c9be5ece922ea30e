"""Density of each cell given the layer features, without couplings, Eq. 10."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.layered.cell_density import CellCondition, CellDensity
from caloforge.models.layered.constants import LOG_RATE_RANGE, ROOT_MEAN, ROOT_OFFSET
from caloforge.models.layered.energy_transform import EnergyTransform
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.layered.shower_frame import AxisTerms

# parameters are stored divided by this, so that with one learning rate they change faster than couplings
PARAMETER_SCALE = 5.0
INPUTS = 4


class IndependentCells(nn.Module):
    """Rate, mean and log sigma of a cell from energy and hits of its radial bin and from the position.

    Cells of a symmetry class share their parameters. In a window around the axis of a shower the log rate,
    and the energy of a hit that a cell expects, also depend on where the axis lies in its cell and on its
    direction, Eq. 22.

    Attributes:
        coefficients: (3, 4, layers, classes) of rate, mean and log sigma: constant, hit energy, its square,
            and uniform log rate; divided by PARAMETER_SCALE.
        position_coefficients: (2, 2, layers, classes) of rate and mean: centre and depth covariance along the
            direction of the cell; divided likewise.
        scaled_position_coefficients: (2, layers, classes) the same of the mean, times the cube root of the
            energy of a hit; divided likewise.
        axis_coefficients: (2, K, layers, classes) of the log rate and of the log energy of a hit, Eq. 22;
            divided likewise. Only with a window.
        energy_transform: Eq. 8.
    """

    bin_membership: Tensor
    symmetry_class: Tensor
    direction: Tensor
    radial_bin_sizes: Tensor

    def __init__(
        self, layers: int, geometry: LayerGeometry, threshold: float, axis: AxisTerms | None = None
    ) -> None:
        """First guesses: rates go with the size of a cell in its bin, means rise with the energy of the bin.

        Args:
            layers: Layers of a shower.
            geometry: Cells of a layer.
            threshold: Least energy of a cell, MeV.
            axis: Terms of Eq. 22, for windows around the axes of showers.
        """
        super().__init__()
        self.threshold = threshold
        self.register_buffer("symmetry_class", torch.from_numpy(geometry.symmetry_class), persistent=False)
        self.register_buffer("bin_membership", torch.from_numpy(geometry.bin_membership), persistent=False)
        self.register_buffer("direction", torch.from_numpy(geometry.direction), persistent=False)
        self.register_buffer(
            "radial_bin_sizes", torch.from_numpy(geometry.radial_bin_sizes).float(), persistent=False
        )
        self.energy_transform = EnergyTransform(layers, len(geometry.radial_bin_sizes))
        self.coefficients = nn.Parameter(torch.zeros(3, INPUTS, layers, geometry.symmetry_classes))
        with torch.no_grad():
            self.coefficients[0, 3] = 1 / PARAMETER_SCALE
            # what a cell expects goes with its size
            self.coefficients[0, 0] = _by_class(np.log(geometry.area), geometry) / PARAMETER_SCALE
            self.coefficients[1, 0], self.coefficients[1, 1] = (
                (ROOT_MEAN + ROOT_OFFSET) / PARAMETER_SCALE,
                0.4 / PARAMETER_SCALE,
            )
            self.coefficients[2, 0] = -1.0 / PARAMETER_SCALE
        self.position_coefficients = nn.Parameter(torch.zeros(2, 2, layers, geometry.symmetry_classes))
        self.scaled_position_coefficients = nn.Parameter(torch.zeros(2, layers, geometry.symmetry_classes))
        self.axis = axis
        if axis is not None:
            shape = (2, axis.count, layers, geometry.symmetry_classes)
            self.axis_coefficients = nn.Parameter(torch.zeros(shape))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # models of earlier releases do without
        name = "scaled_position_coefficients"
        state.setdefault(prefix + name, torch.zeros_like(self.scaled_position_coefficients))
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, condition: CellCondition) -> CellDensity:
        """Density of each cell, (N, layers, cells)."""
        # epsilon and eta of Eq. 10: mean energy of a hit, and log rate if all cells of the bin had the same
        hit_energy = torch.log(
            condition.bin_energy.clamp_min(self.threshold) / condition.hit_counts.clamp_min(1.0)
        )
        hit_energy = hit_energy - self.energy_transform.median_energy.log()
        root = torch.exp(hit_energy / 3) @ self.bin_membership.T
        hit_energy = hit_energy @ self.bin_membership.T
        window = condition.window
        sizes = self.radial_bin_sizes if window is None else window.bin_cells
        occupancy = (condition.hit_counts + 0.5) / (sizes + 1)
        uniform_log_rate = torch.log(-torch.log1p(-occupancy)) @ self.bin_membership.T
        coefficients = PARAMETER_SCALE * self.coefficients[..., self.symmetry_class]
        position_coefficients = PARAMETER_SCALE * self.position_coefficients[..., self.symmetry_class]
        centre = (condition.position[:, :2] @ self.direction)[:, None]
        depth_covariance = (condition.position[:, 2:] @ self.direction)[:, None]
        cell_energy = hit_energy
        if self.axis is not None and window is not None:
            weights = PARAMETER_SCALE * self.axis_coefficients
            cell_energy = hit_energy + self.axis.values(window.terms, weights[1])
        log_rate, mean, log_sigma = (
            energy * (energy * coefficients[k, 2] + coefficients[k, 1])
            + coefficients[k, 0]
            + uniform_log_rate * coefficients[k, 3]
            for k, energy in enumerate((hit_energy, cell_energy, cell_energy))
        )
        if self.axis is not None and window is not None:
            log_rate = log_rate + self.axis.values(window.terms, weights[0])
        log_rate = (
            log_rate + centre * position_coefficients[0, 0] + depth_covariance * position_coefficients[0, 1]
        )
        # where hits have more energy, the same asymmetry shifts their cube roots further
        scaled = PARAMETER_SCALE * self.scaled_position_coefficients[..., self.symmetry_class]
        by_centre, by_covariance = position_coefficients[1][:, None] + root * scaled[:, None]
        mean = mean + centre * by_centre + depth_covariance * by_covariance
        return CellDensity(log_rate.clamp(*LOG_RATE_RANGE).exp(), mean, log_sigma).within(condition)


def _by_class(values: NDArray[np.float64], geometry: LayerGeometry) -> Tensor:
    """(classes,) values of cells, the same for all cells of a symmetry class."""
    example = np.unique(geometry.symmetry_class, return_index=True)[1]
    return torch.from_numpy(values[example]).float()

"""Transfer: the cell sampler of a new detector starts from that of a trained model.

Parameters of a layer are interpolated in its depth in radiation lengths. Where the cells of a layer differ,
means and widths of the energies of hits are interpolated in the distance from the axis in Molière radii, and
kernels in the length of a displacement. What is computed from the training showers (energy transform,
largest numbers of hits, leakage correction, layer sampler) is fitted to those of the new detector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.errors import ModelError
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.layered.cell_sampler import CellSampler
from caloforge.models.layered.constants import KERNEL
from caloforge.models.layered.couplings import NeighbourCoupling, legendre
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.layered.layer_sampler import LayerSampler
from caloforge.models.training_metadata import DataFacts

FloatArray = NDArray[np.float64]
# energy arguments at which polynomials of one range are expressed by those of another
SAMPLES = 17
# energies so little beyond the trained ones count as these
ENERGY_SLACK = 1.1
# parameters of the shape (..., layers, classes or rings)
OF_LAYERS = (
    "coefficients",
    "position_coefficients",
    "scaled_position_coefficients",
    "axis_coefficients",
    "gain",
    "residual_weight",
    "offsets",
    "axis_offsets",
    "log_gain",
)


@dataclass(frozen=True)
class Place:
    """A cell sampler, and where its parameters lie in the detector.

    Attributes:
        detector: The detector.
        geometry: Cells of a layer, or of a window around the axis.
        layer_sampler: For the scale of the energy.
        cell_sampler: What has the parameters.
    """

    detector: Detector
    geometry: LayerGeometry
    layer_sampler: LayerSampler
    cell_sampler: CellSampler

    @property
    def depths(self) -> FloatArray:
        """Depth of each layer, in radiation lengths."""
        return self.detector.active_depths_x0()

    @property
    def layer_spacing(self) -> float:
        """Mean distance of layers, in radiation lengths."""
        return self.detector.radiation_lengths / self.detector.n_layers

    @property
    def pitch(self) -> FloatArray:
        """Size of a cell in Molière radii along x and y; twice that of a ring along the radius."""
        mesh = self.detector.mesh
        assert isinstance(mesh, CartesianMesh | CylindricalMesh)
        sizes = [mesh.cell_x, mesh.cell_y] if isinstance(mesh, CartesianMesh) else [mesh.cell_r, mesh.cell_r]
        return np.array(sizes) / self.detector.moliere_radius

    def positions(self) -> FloatArray:
        """Centres of the cells in Molière radii, (2, cells)."""
        rows, columns = self.geometry.rows, self.geometry.columns
        row, column = np.indices((rows, columns)).reshape(2, -1)
        if self.geometry.circular:
            radius, angle = (column + 0.5) * self.pitch[0], 2 * np.pi * (row + 0.5) / rows
            return np.stack([radius * np.cos(angle), radius * np.sin(angle)])
        return np.stack([column - (columns - 1) / 2, row - (rows - 1) / 2]) * self.pitch[:, None]

    def radii_of(self, group: NDArray[np.int64]) -> FloatArray:
        """Mean distance from the axis of the cells of each group, in Molière radii.

        Args:
            group: (cells,) such as their symmetry class or their ring.
        """
        away = np.hypot(*self.positions())
        return np.asarray(np.bincount(group, away) / np.maximum(np.bincount(group), 1))

    def kernel_distances(self) -> FloatArray:
        """Mean length of each displacement of each kernel, (kernels, displacements); nan beyond its reach."""
        index, position = self.geometry.neighbour_index(KERNEL), self.positions()
        away = np.hypot(*(position[:, None] - position[:, index]))
        found = np.full((self.geometry.kernels, len(index)), np.nan)
        for kernel in range(self.geometry.kernels):
            own = (self.geometry.kernel_of_cell == kernel) & (index >= 0)
            count = own.sum(1)
            sums = np.where(own, away, 0.0).sum(1)
            found[kernel, count > 0] = sums[count > 0] / count[count > 0]
        return found

    def cell_areas(self) -> FloatArray:
        """Size of the cells that each kernel belongs to, in square Molière radii, (kernels,)."""
        if not self.geometry.circular:
            return np.array([self.pitch.prod()])
        ring = np.arange(self.geometry.columns)
        areas: FloatArray = (2 * ring + 1) * np.pi * self.pitch[0] ** 2 / self.geometry.rows
        return areas


def check_transferable(donor: DataFacts, target: DataFacts, detectors: tuple[Detector, Detector]) -> None:
    """Refuse a donor whose cells mean something else.

    Args:
        donor: Of the trained model.
        target: Of the new one.
        detectors: Of the trained model and of the new one.

    Raises:
        ModelError: Other particles, another meaning of the energy, or a detector without layers.
    """
    if donor.energy_meaning != target.energy_meaning:
        raise ModelError(
            f"the energies of its cells are {donor.energy_meaning}, those of the showers "
            f"{target.energy_meaning}; take a model of the same meaning"
        )
    if set(donor.ranges.pdg_ids) != set(target.ranges.pdg_ids):
        raise ModelError(
            f"it makes showers of the particles {list(donor.ranges.pdg_ids)} (PDG), those of the run are "
            f"{list(target.ranges.pdg_ids)}; take a model of the same particles"
        )
    for detector in detectors:
        if not detector.layers:
            raise ModelError(
                f"{detector.name} has no layers, so that its depths in radiation lengths are not known; "
                "describe them in YAML"
            )


@torch.no_grad()
def transfer(donor: Place, target: Place) -> list[str]:
    """Start the learned parts of a cell sampler from those of another; returns notes for the user.

    Args:
        donor: The trained one.
        target: The new one, with its first guesses.
    """
    by_layer = _interpolation(target.depths, donor.depths)
    own, other = target.cell_sampler, donor.cell_sampler
    # both couplings of the teacher, for all cells of a layer
    one = torch.ones(1, 1, dtype=torch.float64)
    own.teacher.residual_weight.copy_(_mapped(other.teacher.residual_weight, by_layer, one))
    notes = _transfer_modes(own, other)
    same, known = _same_cells(donor.geometry, target.geometry), _knows_energies(donor, target)
    if same and known:
        _transfer_cells(donor, target, by_layer)
    else:
        # rates of cells that differ, or of fewer hits than the donor has seen, are better guessed
        by_class = _energy_classes(donor, target)
        found = _mapped(other.independent.coefficients, by_layer, by_class)
        own.independent.coefficients[1:] = found[1:]
        for mine, theirs in ((own.teacher, other.teacher), (own.student, other.student)):
            if same:
                mine.kernels.copy_(theirs.kernels)
            else:
                _transfer_kernels(donor, target, mine, theirs)
        reason = "its energies end before those of the showers" if same else "its cells are others"
        notes.append(f"{reason}: rates, gains and terms of the position start from first guesses")
    beyond = int((target.depths > donor.depths[-1] + donor.layer_spacing).sum())
    if beyond:
        notes.append(
            f"{beyond} of {len(target.depths)} layers lie deeper than its last one ({donor.depths[-1]:.1f} "
            "radiation lengths) and start from that"
        )
    return notes


def _mapped(parameter: Tensor, by_layer: Tensor, by_place: Tensor) -> Tensor:
    """Parameters (..., layers, places) at the layers and places of the target."""
    return torch.einsum("lm,...mc,kc->...lk", by_layer, parameter.double(), by_place).float()


def _transfer_cells(donor: Place, target: Place, by_layer: Tensor) -> None:
    """All parameters, for layers of the same cells, which may differ in size."""
    own, other = target.cell_sampler, donor.cell_sampler
    # positions are in cells, depth covariances in cells times layers
    per_cell = float(target.pitch[0] / donor.pitch[0])
    per_covariance = per_cell * target.layer_spacing / donor.layer_spacing
    scale = torch.tensor([per_cell, per_covariance])[:, None, None]
    change = _legendre_change(donor, target)
    theirs: dict[str, Tensor] = dict(other.named_parameters())
    for name, parameter in own.named_parameters():
        value = theirs.get(name)
        if value is None or name.startswith("student.azimuthal"):
            continue
        if name.rpartition(".")[2] in OF_LAYERS:
            places = torch.eye(value.shape[-1], dtype=torch.float64)
            value = _mapped(value, by_layer, places)
        if name.endswith("position_coefficients"):
            value = value * scale
        if name == "student.offsets":
            value = torch.einsum("ab,xblc->xalc", change, value.double()).float()
        if value.shape == parameter.shape:
            parameter.copy_(value)


def _transfer_modes(own: CellSampler, other: CellSampler) -> list[str]:
    """Take over the coupling of azimuthal modes, if there are as many radial bins."""
    mine, theirs = (part.student.azimuthal.mode_coupling for part in (own, other))
    if mine.shape != theirs.shape:
        return [f"it has {theirs.shape[-1]} radial bins and not {mine.shape[-1]}: azimuthal modes start at 0"]
    mine.copy_(theirs)
    return []


def _transfer_kernels(donor: Place, target: Place, own: NeighbourCoupling, other: NeighbourCoupling) -> None:
    """Kernels by the length of their displacements."""
    length, area = donor.kernel_distances(), donor.cell_areas()[:, None]
    values = other.kernels[:, other.kernel_class].numpy()
    # the particles that reach a cell go with its size
    densities = values[0] / area, values[1]
    known = other.reach.numpy() & np.isfinite(length)
    wanted, new_area = target.kernel_distances(), target.cell_areas()[:, None]
    within = own.reach.numpy() & np.isfinite(wanted)
    classes = own.kernel_class.numpy()[within]
    count = np.bincount(classes, minlength=own.kernels.shape[1])
    for index, density in enumerate(densities):
        found = _profile(length[known], density[known], wanted) * (new_area if index == 0 else 1.0)
        sums = np.bincount(classes, found[within], minlength=len(count))
        own.kernels[index] = torch.from_numpy(sums / np.maximum(count, 1)).float()


def _profile(length: FloatArray, value: FloatArray, wanted: FloatArray) -> FloatArray:
    """Means of values by length, interpolated at other lengths; 0 beyond the largest."""
    unique, place = np.unique(length.round(6), return_inverse=True)
    mean = np.bincount(place, value) / np.bincount(place)
    return np.asarray(np.interp(np.nan_to_num(wanted), unique, mean, right=0.0))


def _same_cells(donor: LayerGeometry, target: LayerGeometry) -> bool:
    """Whether layers of both have the same cells, symmetries and kernels."""
    return (
        (donor.rows, donor.columns, donor.circular) == (target.rows, target.columns, target.circular)
        and np.array_equal(donor.symmetry_class, target.symmetry_class)
        and np.array_equal(donor.radial_bin, target.radial_bin)
        and np.array_equal(
            donor.kernel_classes(KERNEL, mirrored=True), target.kernel_classes(KERNEL, mirrored=True)
        )
    )


def _knows_energies(donor: Place, target: Place) -> bool:
    """Whether the donor was trained on all energies of the target."""
    (low, high), (least, most) = (place.layer_sampler.ranges.energy for place in (donor, target))
    return least >= low / ENERGY_SLACK and most <= high * ENERGY_SLACK


def _energy_classes(donor: Place, target: Place) -> Tensor:
    """Weights of the donor's symmetry classes for each of the target, by their distance from the axis.

    A radial bin of one cell gives its energy to it, whatever the density: such classes have learned nothing.
    """
    there, here = donor.geometry, target.geometry
    learned = np.unique(there.symmetry_class[there.radial_bin_sizes[there.radial_bin] > 1])
    known = donor.radii_of(there.symmetry_class)[learned]
    weights = torch.zeros(here.symmetry_classes, there.symmetry_classes, dtype=torch.float64)
    weights[:, learned] = _interpolation(target.radii_of(here.symmetry_class), known)
    return weights


def _interpolation(wanted: FloatArray, known: FloatArray) -> Tensor:
    """Weights (wanted, known) of linear interpolation between known places, constant beyond them."""
    order = np.argsort(known, kind="stable")
    # of equal places one alone cannot be interpolated from
    places = known[order] + 1e-9 * np.arange(len(known))
    weights = np.stack([np.interp(wanted, places, row) for row in np.eye(len(known))], axis=1)
    found = np.empty_like(weights)
    found[:, order] = weights
    return torch.from_numpy(found)


def _legendre_change(donor: Place, target: Place) -> Tensor:
    """Coefficients in the target's energy argument of polynomials in that of the donor, (terms, terms)."""
    argument = torch.linspace(-1, 1, SAMPLES)
    low, high = (math.log(end) for end in target.layer_sampler.ranges.energy)
    energy = torch.exp((low + high) / 2 + argument * (high - low) / 2)
    there = donor.layer_sampler.energy_argument(energy)
    solution: Tensor = torch.linalg.lstsq(legendre(argument).double(), legendre(there).double()).solution
    return solution

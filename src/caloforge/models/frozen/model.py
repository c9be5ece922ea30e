"""The frozen-shower library as a `ShowerModel`: filled in `fit`, without gradient steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.beam import ANGLE_SLACK
from caloforge.errors import ModelError, TrainingError
from caloforge.geometry import CylindricalMesh, Detector
from caloforge.models.base import Condition, Phase, ShowerModel, TrainingBatch
from caloforge.models.checks import check_between, check_rising, check_shape
from caloforge.models.frozen.config import FrozenConfig
from caloforge.models.frozen.library import MAX_CODE, draw_library, pack
from caloforge.models.symmetries import cell_images, symmetries
from caloforge.models.training_metadata import DataFacts
from caloforge.showers import ShowerBatch

# distance between different particles, larger than any in energy and angle, in units of their ranges
PARTICLE_DISTANCE = 1e6
# limits of ln(E/MeV) that float32 holds after rescaling
LOG_ENERGIES = (-40.0, 40.0)
LIBRARY = ("conditions", "pdg_ids", "starts", "cells", "codes", "scale")


class Frozen(ShowerModel):
    """A library of showers of the training data, which are rescaled to the requested energy.

    For each shower the noise selects a symmetry operation, and one of the k library showers nearest to the
    condition in (log energy, theta, phi), each in units of its trained range, after that operation. Its cell
    energies are scaled by the ratio of the incident energies. No other fluctuations are generated.
    """

    family = "frozen"
    # the number of hits depends on the shower, so that shapes depend on values
    exportable = False
    config: FrozenConfig
    conditions: Tensor
    pdg_ids: Tensor
    starts: Tensor
    cells: Tensor
    codes: Tensor
    scale: Tensor
    images: Tensor
    mirrored: Tensor

    def __init__(self, config: FrozenConfig, detector: Detector, facts: DataFacts) -> None:
        """Create an empty library, to be filled by `fit` or from a stored model."""
        super().__init__(config, detector, facts)
        for name, values in pack([], math.prod(detector.shower_shape)):
            self.register_buffer(name, torch.from_numpy(values))
        group = symmetries(detector, facts.ranges)[: None if config.symmetries else 1]
        images = cell_images(detector, group)
        # signs that an operation gives (theta - pi/2, phi); rotations of a cylinder leave them unchanged
        mirrored = np.array([[-1 if op.flip_y else 1, -1 if op.flip_x else 1] for op in group], np.float32)
        mirrored = np.ones((len(images), 2), np.float32) if len(images) > len(group) else mirrored
        self.register_buffer("images", torch.from_numpy(images), persistent=False)
        self.register_buffer("mirrored", torch.from_numpy(mirrored), persistent=False)

    @classmethod
    def count_numbers(cls, config: FrozenConfig, detector: Detector, facts: DataFacts) -> int:
        """See the base class: the images of all cells; the size of the file limits the stored showers."""
        group = symmetries(detector, facts.ranges)[: None if config.symmetries else 1]
        turns = detector.mesh.nphi if isinstance(detector.mesh, CylindricalMesh) and len(group) > 1 else 1
        # twice: with the temporary arrays
        return 2 * len(group) * turns * math.prod(detector.shower_shape)

    def check_weights(self) -> None:
        """See the base class: starts of the showers, cell indices, and the order of the library."""
        count, entries = self.pdg_ids.numel(), self.cells.numel()
        check_shape("conditions", self.conditions, count, 3)
        check_shape("pdg_ids", self.pdg_ids, count)
        check_shape("starts", self.starts, count + 1)
        check_shape("cells", self.cells, entries)
        check_shape("codes", self.codes, entries)
        check_shape("scale", self.scale, 2)
        if not count:
            raise ValueError("the library is empty")
        check_rising("starts", self.starts)
        check_between("starts", self.starts[[0]], 0, 0)
        check_between("starts", self.starts[[-1]], entries, entries)
        check_between("cells", self.cells.long(), 0, self.images.shape[1] - 1)
        check_between("conditions", self.conditions[:, 0], *LOG_ENERGIES)
        check_between(
            "scale", torch.stack([self.scale[0], self.scale[0] + MAX_CODE * self.scale[1]]), *LOG_ENERGIES
        )
        check_rising("the order of the library", self._sort_key(self.conditions[:, 0], self.pdg_ids))
        missing = set(self.ranges.pdg_ids) - set(self.pdg_ids.tolist())
        if missing:
            raise ValueError(f"the library has no shower of the particle {min(missing)}")

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Two numbers per shower: for the operation and for the neighbour."""
        return (2,)

    def optimized(self) -> dict[str, nn.Module]:
        """Nothing: the library is not trained by gradients."""
        return {}

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:  # noqa: ARG002
        """Nothing: the library is not trained by gradients."""
        return iter(())

    def fit(self, batches: Iterable[ShowerBatch], rng: np.random.Generator) -> None:
        """Fill the library.

        Raises:
            TrainingError: The library has no shower of one of the particles.
        """
        showers = draw_library(batches, self.config.showers, self.config.cell_threshold, rng)
        missing = set(self.ranges.pdg_ids) - {shower.pdg_id for shower in showers}
        if missing:
            raise TrainingError(
                f"the library of {len(showers)} showers has none of the particle {min(missing)}; give a "
                "larger model.showers"
            )
        for name, values in pack(showers, self.images.shape[1]):
            setattr(self, name, torch.from_numpy(values).to(self.images.device))

    def library_bytes(self) -> int:
        """Size of the library on disk and in memory."""
        return sum(getattr(self, name).nbytes for name in LIBRARY)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # buffers take the sizes of the stored library
        for name in LIBRARY:
            if prefix + name in state_dict:
                own: Tensor = getattr(self, name)
                setattr(self, name, own.new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)

    # ---- generation

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Generate showers: rescaled showers of the library.

        Raises:
            ModelError: The library is empty.
        """
        if not len(self.conditions):
            raise ModelError("the library is empty; caloforge train fills it")
        choice = torch.special.ndtr(noise.float())
        operation = _pick(choice[:, 0], len(self.images))
        found = self._neighbour(condition, self.mirrored[operation], choice[:, 1])
        start, count = self.starts[found], self.starts[found + 1] - self.starts[found]
        # hits of all selected showers, concatenated, and the row of each
        row = torch.repeat_interleave(torch.arange(len(found), device=found.device), count)
        before = count.cumsum(0) - count
        entry = torch.arange(len(row), device=row.device) + (start - before)[row]
        n_cells = self.images.shape[1]
        cell = self.images.view(-1)[operation[row] * n_cells + self.cells[entry].to(torch.int64)]
        ratio = condition.energy.log() - self.conditions[found, 0]
        energy = (self.codes[entry].float() * self.scale[1] + (self.scale[0] + ratio)[row]).exp()
        showers = energy.new_zeros(len(found) * n_cells)
        showers[row * n_cells + cell] = energy
        return showers.view(len(found), *self.detector.shower_shape)

    def _neighbour(self, condition: Condition, mirrored: Tensor, choice: Tensor) -> Tensor:
        """Select one of the k nearest library showers for each condition; indices (N,).

        Args:
            condition: The requested conditions.
            mirrored: (N, 2) signs that the operation gives theta - pi/2 and phi.
            choice: (N,) uniform in [0, 1).
        """
        half = math.pi / 2
        # the operations are self-inverse: search the library at the transformed angles
        requested = torch.stack(
            (
                condition.energy.log(),
                half + (condition.theta - half) * mirrored[:, 0],
                condition.phi * mirrored[:, 1],
            ),
            dim=1,
        )
        candidates = self._candidates(requested[:, 0], condition.pdg_id)
        units = requested.new_tensor(self._units())
        distance = ((requested[:, None] - self.conditions[candidates]) * units).square().sum(2)
        distance = distance + PARTICLE_DISTANCE * (condition.pdg_id[:, None] != self.pdg_ids[candidates])
        nearest = distance.topk(min(self.config.neighbours, distance.shape[1]), dim=1, largest=False)
        # fewer than k, if the library has fewer showers of this particle
        usable = (nearest.values < PARTICLE_DISTANCE).sum(1)
        return candidates.expand(len(requested), -1).gather(
            1, nearest.indices.gather(1, _pick(choice, usable)[:, None])
        )[:, 0]

    def _candidates(self, log_energy: Tensor, pdg_id: Tensor) -> Tensor:
        """Indices of library showers that include the k nearest: (N, 2 k) by energy alone, else (1, all)."""
        count, k = len(self.conditions), self.config.neighbours
        _, theta, phi = self._units()
        if theta or phi or 2 * k >= count:
            return torch.arange(count, device=log_energy.device)[None]
        # the library is sorted by particle, then energy
        own = torch.searchsorted(
            self._sort_key(self.conditions[:, 0], self.pdg_ids), self._sort_key(log_energy, pdg_id)
        )
        return (own - k).clamp(0, count - 2 * k)[:, None] + torch.arange(2 * k, device=own.device)

    def _sort_key(self, log_energy: Tensor, pdg_id: Tensor) -> Tensor:
        # logarithms of energies differ by less than 100, so that particles do not mix
        return log_energy.double() + 100.0 * pdg_id.double()

    def _units(self) -> tuple[float, float, float]:
        """Scale factors of log energy, theta and phi in distances; 0 for a constant one."""
        ranges = self.ranges
        energy = math.log(ranges.energy[1] / ranges.energy[0])
        theta, phi = (high - low for low, high in (ranges.theta, ranges.phi))
        return (
            1 / energy if energy > 0 else 1.0,
            1 / theta if theta > ANGLE_SLACK else 0.0,
            1 / phi if phi > ANGLE_SLACK else 0.0,
        )


def _pick(choice: Tensor, count: Tensor | int) -> Tensor:
    """An integer below `count` from a uniform number in [0, 1]."""
    chosen = (choice * count).long()
    return torch.minimum(chosen, torch.as_tensor(count, device=choice.device) - 1)

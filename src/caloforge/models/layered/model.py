"""The layered family as a `ShowerModel`: fit, training by likelihood and by moment matching, generation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.errors import ConfigError, ModelError, TrainingError
from caloforge.geometry import Detector
from caloforge.models.base import (
    Condition,
    Phase,
    ShowerModel,
    TrainingBatch,
    require_regular_mesh,
)
from caloforge.models.checks import check_between, check_rising
from caloforge.models.compiled_model import CompiledModel
from caloforge.models.layered.cell_density import CellCondition, Cells, heaviside
from caloforge.models.layered.cell_sampler import CellSampler
from caloforge.models.layered.config import LayeredConfig
from caloforge.models.layered.constants import KERNEL, KNOTS, LEAST_FEATURE, ONE_HIT
from caloforge.models.layered.features import FeatureLayout, feature_images, layer_features
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.layered.layer_sampler import BINS, LayerSampler, Occupancy
from caloforge.models.layered.moment_matching import moments
from caloforge.models.layered.noise_layout import noise_layout
from caloforge.models.layered.shower_frame import MARGIN, follows_axis
from caloforge.models.layered.shower_library.store import ShowerLibrary, describe, read_library
from caloforge.models.layered.shower_library.suitability import check_suitable
from caloforge.models.layered.shower_windows import ShowerWindows, Window
from caloforge.models.layered.transfer import Place, check_transferable, transfer
from caloforge.models.symmetries import symmetries
from caloforge.models.training_metadata import DataFacts
from caloforge.showers import ShowerBatch

# rows that the layer sampler is fitted to, images of the showers included
FIT_ROWS = 200_000
# hits that the energy transform is fitted to
FIT_HITS = 500_000
# cells hit in a smaller fraction of showers are taken to be hit by single particles
SINGLE = 0.2
# step size of Eq. 19 (a larger one makes the table oscillate), and layers on either side that are joined
QUANTILE_STEP, QUANTILE_LAYERS = 0.03, 1
# degree of the polynomial of the energy argument in Eq. 2, and penalty of the ridge regression
LEAKAGE_DEGREE, LEAKAGE_RIDGE = 3, 1e-9
# learning rates end at this fraction of their first value
LAST_LEARNING_RATE = 0.02
# bound on the weights of the layer sampler, which are scores and coefficients
LARGEST_VALUE = 1e6
# of the median energy of a single particle in a cell, MeV
MEDIAN_ENERGY_RANGE = (1e-9, 1e9)
# where rings cannot follow the axis
OFF_AXIS = (
    "model layered: the showers enter beside the axis of the mesh, which needs frame: shower and a cartesian "
    "mesh (this one is {mesh}); simulate with beam.impact: centre"
)


class Layered(ShowerModel):
    """Layer features, and cells drawn from a learned conditional density given these.

    Energies and numbers of hits of the radial bins of a generated shower are exactly those of its features,
    and their sum is exactly its visible energy, Eq. 7 and 18.
    """

    family = "layered"
    takes_impact = True
    # moments are small differences of large sums
    trains_in_bf16 = False
    compilable = True
    config: LayeredConfig
    leakage_correction: Tensor
    noise_index: Tensor
    steps: Tensor

    def __init__(self, config: LayeredConfig, detector: Detector, facts: DataFacts) -> None:
        """Initial weights; `fit` prepares the layer sampler.

        Raises:
            ConfigError: The mesh is ragged, or showers enter beside the axis of rings that cannot follow it.
        """
        super().__init__(config, detector, facts)
        layers, _, _ = require_regular_mesh(detector, self.family)
        self.group = symmetries(detector, facts.ranges)
        self.windows: ShowerWindows | None = None
        self.library: ShowerLibrary | None = None
        ranges, terms = facts.ranges, None
        if config.frame == "shower" and follows_axis(detector, ranges):
            self.windows = ShowerWindows(detector, ranges, config.radial_bins)
            self.geometry, self.layout = self.windows.geometry, self.windows.layout
            self.noise_layout = noise_layout(self.geometry, self.windows.images.operation)
            ranges, terms = self.windows.frame.feature_ranges(ranges), self.windows.terms
        else:
            if ranges.off_axis:
                raise ConfigError(OFF_AXIS.format(mesh=detector.mesh.kind))
            self.geometry = layer_geometry(detector, ranges, config.radial_bins)
            self.layout = FeatureLayout(layers, len(self.geometry.radial_bin_sizes))
            self.noise_layout = noise_layout(self.geometry)
        # the layout is that of features, not of what is left of them
        learned = config.layer_sampler == "flow" and self.windows is None
        self.layer_sampler = LayerSampler(
            self.layout.layer, ranges, config.layer_sampler, self.layout if learned else None
        )
        self.cell_sampler = CellSampler(layers, self.geometry, threshold=config.cell_threshold, axis=terms)
        self.register_buffer("leakage_correction", torch.zeros(layers))
        self.register_buffer(
            "noise_index", torch.from_numpy(self.noise_layout.noise_of_cells), persistent=False
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @classmethod
    def count_numbers(cls, config: LayeredConfig, detector: Detector, facts: DataFacts) -> int:
        """See the base class; a little more than there are."""
        layers, rows, columns = require_regular_mesh(detector, cls.family)
        if config.frame == "shower" and follows_axis(detector, facts.ranges):
            rows, columns = rows + 2 * MARGIN + 1, columns + 2 * MARGIN + 1
        cells, bins = rows * columns, len(config.radial_bins)
        features = FeatureLayout(layers, bins).size
        # parameters and noise of cells; pairs of cells; modes; quantile tables of the features; layer weights
        return (
            layers * cells * 48
            + cells * (KERNEL * KERNEL * 6 + 12 * bins)
            + features * (BINS * KNOTS + 256)
            + (features * features if config.layer_sampler == "flow" else 0)
            + 2 * layers * layers
            + 4 * bins * bins
        )

    def check_weights(self) -> None:
        """See the base class: stored showers, numbers of hits, the median energy."""
        for name, buffer in self.layer_sampler.named_buffers(prefix="layer_sampler"):
            # sums of products of these become numbers of hits
            if not name.endswith((".front", ".back")):
                check_between(name, buffer, -LARGEST_VALUE, LARGEST_VALUE)
        if self.windows is not None:
            for name, buffer in self.windows.expectation.named_buffers(prefix="windows.expectation"):
                check_between(name, buffer, -LARGEST_VALUE, LARGEST_VALUE)
        self.layer_sampler.check("layer_sampler")
        check_rising("layer_sampler.centres", self.layer_sampler.centres)
        sizes = torch.from_numpy(self.geometry.radial_bin_sizes)
        for most, size in zip(self.cell_sampler.max_hits, sizes, strict=True):
            check_between("cell_sampler.max_hits", most, 1, int(size))
        median_energy = self.cell_sampler.independent.energy_transform.median_energy
        check_between(
            "cell_sampler.independent.energy_transform.median_energy", median_energy, *MEDIAN_ENERGY_RANGE
        )
        preference = self.cell_sampler.student.preference
        check_between("cell_sampler.student.preference", preference, 0, LARGEST_VALUE)
        check_between("steps", self.steps, 0, 2**40)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Noise of the layer sampler, then numbers for the hits of all cells, then for their energies.

        Those of a layer are in the order of `noise_layout.py`.
        """
        return (self.layer_sampler.noise_size + 2 * self.layout.layers * self.noise_layout.size,)

    def optimized(self) -> dict[str, nn.Module]:
        """Teacher (with the density of independent cells), and student."""
        cells = self.cell_sampler
        return {
            "teacher": nn.ModuleList([cells.independent, cells.teacher]),
            "student": cells.student,
        }

    def sampler(self) -> nn.Module:
        """The cell sampler; the layer sampler is fitted, not trained."""
        return self.cell_sampler

    def transfer_from(self, donor: ShowerModel) -> list[str]:
        """See the base class: the learned cells, see `transfer.py`; the layer sampler is fitted anew."""
        if not isinstance(donor, Layered):
            raise ModelError(
                f"it is of the family {donor.family}, and the run of the family {self.family}; take a model "
                "of that family"
            )
        check_transferable(donor.facts, self.facts, (donor.detector, self.detector))
        there, here = (
            Place(model.detector, model.geometry, model.layer_sampler, model.cell_sampler)
            for model in (donor, self)
        )
        return transfer(there, here)

    def start_from_library(self, folder: Path) -> tuple[dict[str, str], list[str]]:
        """See the base class: the layer sampler is fitted to its showers as well, Eq. 26 to 29."""
        library = read_library(folder)
        notes = check_suitable(library.card, self.facts, self.detector)
        self.library = library
        record = {
            "model": library.card.name,
            "detector": describe(library.card),
            "weights_sha256": library.card.weights_sha256,
        }
        return record, notes

    # ---- fit

    def fit(self, batches: Iterable[ShowerBatch], rng: np.random.Generator) -> None:
        """Fit energy transform, largest numbers of hits, leakage correction and layer sampler.

        Raises:
            TrainingError: Fewer than four showers, or too few to be added to those of a library.
        """
        count = sum(len(batch) for batch in batches)
        if count < 4:
            raise TrainingError(f"{count} showers to fit to, expected at least 4; give more data")
        self.cell_sampler.independent.energy_transform.fit(self._single_hits(batches, count, rng))
        stored = min(self.config.stored_showers, count)
        if self.windows is not None:
            self._fit_windows(self.windows, batches, stored, rng)
            return
        operations = max(1, min(len(self.group), FIT_ROWS // count))
        rows, conditions, numbers, done = [], [], [], 0
        for batch in batches:
            showers = self._thresholded(batch.showers)
            own = layer_features(showers, batch.incident_energy, self.geometry, self._median_energy, rng)
            rows.append(feature_images(own, showers, self.geometry, self.group[:operations], rng))
            conditions += [Condition.of(batch)] * operations
            numbers += [torch.arange(done, done + len(batch))] * operations
            done += len(batch)
        if self.library is not None:
            # scikit-learn takes a second to import
            from caloforge.models.layered.shower_library.features import FeaturePlace, add_library

            threshold = self.config.cell_threshold
            place = FeaturePlace(self.detector, self.geometry, self.layout, self._median_energy, threshold)
            add_library(self.library, place, (rows, conditions, numbers), operations, rng)
            stored = self.config.stored_showers
        most = [self.layout.hit_counts(torch.from_numpy(part)).amax((0, 1)) for part in rows]
        self.cell_sampler.set_max_hits(torch.stack(most).amax(0).clamp_min(1))
        features, condition = np.concatenate(rows), _joined(conditions)
        energies = self.layout.bin_energy(torch.from_numpy(features), self.config.cell_threshold)
        response = torch.from_numpy(features[:, 0])
        features[:, 0] -= self._fit_leakage_correction(energies, response, condition).numpy()
        counts = self.layout.hit_counts(torch.from_numpy(features))
        least = self.layout.with_counts(torch.ones_like(counts[:1]), LEAST_FEATURE)[0]
        occupancy = Occupancy(self.layout.with_counts(counts == 0, 0), least)
        self.layer_sampler.fit(features, condition, torch.cat(numbers), stored, occupancy)

    def _fit_windows(
        self,
        windows: ShowerWindows,
        batches: Iterable[ShowerBatch],
        stored: int,
        rng: np.random.Generator,
    ) -> None:
        """The same for windows around the axes of showers: the layer sampler is fitted to what is left."""
        for batch in batches:
            windows.count(self._thresholded(batch.showers), Condition.of(batch))
        windows.fit_shares()
        parts, conditions, empties = [], [], []
        for batch in batches:
            condition = Condition.of(batch)
            found, window = windows.cut(self._thresholded(batch.showers), condition)
            own = layer_features(
                found, batch.incident_energy, self.geometry, self._median_energy, rng, window=window.facts()
            )
            parts.append(
                (
                    torch.from_numpy(own),
                    *windows.sums(torch.from_numpy(own), window, self.config.cell_threshold),
                )
            )
            empties.append(windows.empty(parts[-1][2], window))
            conditions.append(condition)
        features, energies, hits = (torch.cat(part) for part in zip(*parts, strict=True))
        self.cell_sampler.set_max_hits(hits.amax((0, 1)).clamp_min(1))
        condition = _joined(conditions)
        features[:, 0] -= self._fit_leakage_correction(energies, features[:, 0], condition)
        position, energy_argument = (
            windows.frame.position(condition),
            self.layer_sampler.energy_argument(condition.energy),
        )
        windows.expectation.fit(features, position, energy_argument)
        rest = windows.expectation.rest(features, position, energy_argument)
        images, asked = windows.images_of(rest), windows.feature_condition(condition, position)
        numbers = torch.arange(len(rest)).repeat(len(images))
        if self.layer_sampler.resampler is not None:
            windows.expectation.least_root.fill_(ONE_HIT)
        empty = self.layout.with_counts(torch.cat(empties), 0).repeat(len(images), 1)
        occupancy = Occupancy(empty, self.layer_sampler.least)
        self.layer_sampler.fit(
            torch.cat(images).numpy(), _joined([asked] * len(images)), numbers, stored, occupancy
        )

    def _fit_leakage_correction(self, bin_energy: Tensor, response: Tensor, condition: Condition) -> Tensor:
        """Fit Eq. 2, and return the correction of each row, (N,).

        At each energy the logarithm of the response is nearly linear in the layers' fractions of the visible
        energy.
        """
        energies = bin_energy.sum(2).double()
        fractions = energies / energies.sum(1, keepdim=True).clamp_min(self.config.cell_threshold)
        energy_argument = self.layer_sampler.energy_argument(condition.energy).double()
        powers = energy_argument[:, None] ** torch.arange(LEAKAGE_DEGREE + 1)
        design = torch.cat([fractions, powers], dim=1)
        normal = design.T @ design + LEAKAGE_RIDGE * len(design) * torch.eye(design.shape[1])
        solution = torch.linalg.solve(normal, design.T @ response.double())
        self.leakage_correction.copy_(solution[: len(self.leakage_correction)])
        return fractions.float() @ self.leakage_correction

    @property
    def _median_energy(self) -> float:
        return float(self.cell_sampler.independent.energy_transform.median_energy)

    def _single_hits(
        self, batches: Iterable[ShowerBatch], count: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Energies of some of the hits of cells that single particles reach, MeV."""
        single, hits = self._single_cells(batches), []
        for batch in batches:
            energies = self._cells_of(batch).reshape(len(batch), -1)[:, single]
            hits.append(rng.permutation(energies[energies > 0])[: FIT_HITS * len(batch) // count + 1])
        return np.concatenate(hits)

    def _single_cells(self, batches: Iterable[ShowerBatch]) -> NDArray[Any]:
        """Flat indices of the cells that are seldom hit."""
        hit, count = np.zeros(self._cells), 0
        for batch in batches:
            hit += (self._cells_of(batch) > 0).reshape(len(batch), -1).sum(0)
            count += len(batch)
        return np.flatnonzero(hit < SINGLE * count)

    def _cells_of(self, batch: ShowerBatch) -> NDArray[Any]:
        """Cells of the layers, or of windows of them, (N, layers, rows, columns)."""
        showers = self._thresholded(batch.showers)
        return showers if self.windows is None else self.windows.cut(showers, Condition.of(batch))[0]

    def _thresholded(self, showers: NDArray[Any]) -> NDArray[Any]:
        return np.where(showers < self.config.cell_threshold, np.float32(0), showers)

    # ---- training

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:
        """Likelihood, then moment matching, by the number of steps done."""
        condition, cells = self.condition_and_cells(batch)
        by_likelihood = int(self.steps) < self.config.likelihood_steps
        yield self._likelihood(condition, cells) if by_likelihood else self._moment_matching(condition, cells)
        self.steps += 1
        if int(self.steps) == self.config.likelihood_steps:
            self.cell_sampler.start_student()

    def rate(self, part: str) -> float:
        """Factor of the learning rate: a cosine from 1 to LAST_LEARNING_RATE over the part's phase."""
        done, likelihood = int(self.steps), self.config.likelihood_steps
        fraction = (
            done / likelihood if part == "teacher" else (done - likelihood) / self.config.matching_steps
        )
        return (
            LAST_LEARNING_RATE
            + (1 - LAST_LEARNING_RATE) * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0))) / 2
        )

    def _likelihood(self, condition: CellCondition, cells: Cells) -> Phase:
        independent = self.cell_sampler.independent(condition)
        teacher_density = self.cell_sampler.teacher_density(cells, independent, condition)
        self.cell_sampler.residual_skewness.observe(teacher_density.residuals(cells), cells.hit_mask)
        bin_hits = condition.hit_counts @ self.cell_sampler.bin_membership.T
        logs = {
            "independent_nll": independent.negative_log_likelihood(cells, bin_hits).mean(),
            "cells_nll": teacher_density.negative_log_likelihood(cells, bin_hits).mean(),
        }
        loss = logs["cells_nll"] / self._cells
        return Phase("teacher", loss, _detached(logs))

    def _moment_matching(self, condition: CellCondition, real: Cells) -> Phase:
        sampler = self.cell_sampler
        sampler.student.clamp_parameters()
        with torch.no_grad():
            independent, drawn = (
                sampler.independent(condition),
                sampler.draw(condition, self._noise(condition)),
            )
            # energies are compared as they are in the shower, after scaling
            generated = Cells(
                drawn.hit_mask,
                sampler.independent.energy_transform.transformed_energy(
                    sampler.cell_energies(drawn, condition)
                ),
            )
            step_size = QUANTILE_STEP * self.rate("student")
            sampler.independent.energy_transform.match_quantiles(
                self._bin_hits(generated), self._bin_hits(real), step_size
            )
            sides = [moments(cells, independent, condition, sampler.student) for cells in (generated, real)]
        gaps = {name: value - sides[1][name] for name, value in sides[0].items()}
        parameters = dict(sampler.student.named_parameters())
        # the gap of a moment is the gradient of its parameter, Eq. 20
        loss = torch.stack([(gaps[name] * parameter).sum() for name, parameter in parameters.items()]).sum()
        logs = {f"gap_{name}": gap.abs().mean() for name, gap in gaps.items()}
        return Phase("student", loss, _detached(logs), empty_images=(drawn.hit_mask == 0).all())

    def _bin_hits(self, cells: Cells) -> list[Tensor]:
        """Transformed energies of hits by radial bin and layer, adjacent layers included, Eq. 19."""
        radial_bin, layers = self.cell_sampler.student.radial_bin, range(self.layout.layers)
        near = [
            cells.transformed_energy[:, max(layer - QUANTILE_LAYERS, 0) : layer + QUANTILE_LAYERS + 1]
            for layer in layers
        ]
        parts = [part[:, :, radial_bin == b] for part in near for b in range(self.layout.radial_bins)]
        return [part[part > 0] for part in parts]

    @property
    def _cells(self) -> int:
        return self.layout.layers * self.geometry.cells

    def _noise(self, condition: CellCondition) -> tuple[Tensor, Tensor]:
        hits = condition.hit_counts
        shape = (*hits.shape[:2], self.geometry.cells)
        return torch.randn(shape, device=hits.device), torch.randn(shape, device=hits.device)

    def condition_and_cells(self, batch: TrainingBatch) -> tuple[CellCondition, Cells]:
        """Condition of the cells of real showers, as the layer sampler would give it, and their cells."""
        showers = torch.where(batch.showers < self.config.cell_threshold, 0.0, batch.showers)
        device, window = showers.device, None
        if self.windows is not None:
            window = self.windows.window(batch.condition)
            showers = self.windows.frame.windows(showers, window.position)
        shape = (len(showers), self.layout.layers, self.geometry.rows, self.geometry.columns)
        showers = showers.flatten(2)
        # dequantisation noise follows torch's seed, which the training loop sets for every step
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        found = layer_features(
            showers.view(shape).cpu().numpy(),
            batch.condition.energy.cpu().numpy(),
            self.geometry,
            self._median_energy,
            rng,
            window=None if window is None else window.facts(),
        )
        features = torch.from_numpy(found).to(device)
        energy_argument = self.layer_sampler.energy_argument(batch.condition.energy)
        if self.windows is not None and window is not None:
            features = self.windows.expectation.position_rest(features, window.position, energy_argument)
        condition = self._cell_condition(features, batch.condition, window)
        return self._in_mesh(condition, window), Cells(
            heaviside(showers), self.cell_sampler.independent.energy_transform.transformed_energy(showers)
        )

    def _cell_condition(self, features: Tensor, condition: Condition, window: Window | None) -> CellCondition:
        """Condition of the cells; energies are those of whole windows."""
        energy_argument, cells = self.layer_sampler.energy_argument(condition.energy), None
        if self.windows is not None and window is not None:
            bin_energy, hit_counts = self.windows.sums(features, window, self.config.cell_threshold)
            median_energy = self.cell_sampler.independent.energy_transform.median_energy
            cells = self.windows.cell_window(window, bin_energy, energy_argument, median_energy)
        else:
            bin_energy = self.layout.bin_energy(features, self.config.cell_threshold)
            hit_counts = self.layout.hit_counts(features)
        return CellCondition(
            bin_energy=bin_energy,
            hit_counts=torch.minimum(hit_counts, self.cell_sampler.max_hits),
            position=features[:, self.layout.position],
            energy_argument=energy_argument,
            window=cells,
        )

    @staticmethod
    def _in_mesh(condition: CellCondition, window: Window | None) -> CellCondition:
        """The condition with the energies of bins that are in the mesh."""
        if window is None:
            return condition
        return replace(condition, bin_energy=condition.bin_energy * window.shares.energy)

    # ---- generation

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Showers in MeV."""
        first = self.layer_sampler.noise_size
        cell_condition = self.sample_features(condition, noise[:, :first])
        places = noise[:, first:].reshape(-1, 2, self.layout.layers, self.noise_layout.size)
        # runtimes gather whole rows many times faster than single numbers
        hits, energies = places.mT.index_select(2, self.noise_index).mT.unbind(1)
        cells = self.cell_sampler.draw(cell_condition, (hits, energies))
        showers = self.cell_sampler.cell_energies(cells, cell_condition)
        if self.windows is not None and cell_condition.window is not None:
            showers = self.windows.frame.showers(showers, cell_condition.window.position)
        return showers.view(-1, *self.detector.shower_shape)

    def compiled(self) -> CompiledModel:
        """See the base class."""
        # importing the compiler takes half a second
        from caloforge.models.layered.numba_backend.read_weights import compiled_generator

        return compiled_generator(self)

    def sample_features(self, condition: Condition, noise: Tensor) -> CellCondition:
        """Condition of the cells of N showers, from the normal noise of the layer sampler, Eq. 4 to 7."""
        window, asked = None, condition
        if self.windows is not None:
            window = self.windows.window(condition)
            asked = self.windows.feature_condition(condition, window.position)
        features = self.layer_sampler.features(self.layer_sampler.sample_scores(noise, asked), asked)
        if self.windows is not None and window is not None:
            energy_argument = self.layer_sampler.energy_argument(condition.energy)
            features = self.windows.expectation.features(features, window.position, energy_argument)
            features = self.windows.keep_hits(features, window)
        sums = self._cell_condition(features, condition, window)
        layers = sums.bin_energy.sum(2)
        total = layers.sum(1).clamp_min(self.config.cell_threshold)
        # add the leakage correction of this shower's layers again
        visible = (features[:, 0] + layers @ self.leakage_correction / total).exp() * condition.energy
        scaled = replace(sums, bin_energy=sums.bin_energy * (visible / total)[:, None, None])
        return self._in_mesh(scaled, window)


def _detached(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in parts.items()}


def _joined(conditions: list[Condition]) -> Condition:
    names = [field.name for field in fields(Condition)]
    return Condition(*(torch.cat([getattr(one, name) for one in conditions]) for name in names))

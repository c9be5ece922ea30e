"""The layered family as a `ShowerModel`: fit, likelihood, comparison, generation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.errors import TrainingError
from caloforge.geometry import Detector
from caloforge.models.base import (
    Condition,
    Phase,
    ShowerModel,
    TrainingBatch,
    require_regular_mesh,
)
from caloforge.models.checks import check_between, check_rising
from caloforge.models.columns import CompiledForm
from caloforge.models.layered.cells import CellStage
from caloforge.models.layered.comparison import moments
from caloforge.models.layered.config import LayeredConfig
from caloforge.models.layered.constants import CHOICES, KERNEL, KNOTS
from caloforge.models.layered.density import Cells, Given, step
from caloforge.models.layered.layers import BINS, LayerStage
from caloforge.models.layered.order import order_of
from caloforge.models.layered.plane import plane_of
from caloforge.models.layered.summary import Layout, summarise, summary_images
from caloforge.models.symmetries import symmetries
from caloforge.models.training_metadata import DataFacts
from caloforge.showers import ShowerBatch

# rows that the first stage is fitted to, images of the showers included
FIT_ROWS = 200_000
# hits that the spectrum is fitted to
FIT_HITS = 500_000
# cells hit less often than this are hit by single particles
SINGLE = 0.2
# the spectrum of a layer takes over this share of what a batch says of it and so many layers on either side;
# with more its waves grow
BEND, BEND_REACH = 0.03, 1
# powers of the argument of the energy beside the shares of the layers, and strength of the regression
BALANCE_DEGREE, BALANCE_RIDGE = 3, 1e-9
# rates end at this share of their first value
LAST_RATE = 0.02
# of the first stage's numbers, which are scores and coefficients
LARGEST_NUMBER = 1e6
# energies of a single particle in a cell, MeV
UNIT_RANGE = (1e-9, 1e9)


class Layered(ShowerModel):
    """Summary of the layers joined from those of real showers, cells from a network over noise.

    The layers' energies, zone by zone, are exactly those of the summary, their sum exactly the visible energy
    drawn for the shower.
    """

    family = "layered"
    compilable = True
    config: LayeredConfig
    balance: Tensor
    numbers: Tensor
    steps: Tensor

    def __init__(self, config: LayeredConfig, detector: Detector, facts: DataFacts) -> None:
        """Random weights; `fit` prepares the first stage.

        Raises:
            ConfigError: The mesh is ragged.
        """
        super().__init__(config, detector, facts)
        layers, _, _ = require_regular_mesh(detector, self.family)
        self.group = symmetries(detector, facts.ranges)
        self.plane = plane_of(detector, facts.ranges, config.zones)
        self.order = order_of(self.plane)
        self.layout = Layout(layers, len(self.plane.zone_sizes))
        self.layer_stage = LayerStage(self.layout.layer, facts.ranges)
        self.cell_stage = CellStage(layers, self.plane, threshold=config.cell_threshold)
        self.register_buffer("balance", torch.zeros(layers))
        self.register_buffer("numbers", torch.from_numpy(self.order.of_cells), persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @classmethod
    def count_numbers(cls, config: LayeredConfig, detector: Detector, facts: DataFacts) -> int:  # noqa: ARG003
        """See the base class; a little more than there are."""
        layers, rows, columns = require_regular_mesh(detector, cls.family)
        cells, zones = rows * columns, len(config.zones)
        summary = Layout(layers, zones).size
        # parameters and noise of the cells; pairs of cells; zones of the cells; tables of the summary; depths
        return (
            layers * cells * 48
            + cells * (KERNEL * KERNEL * 6 + 12 * zones)
            + summary * (BINS * KNOTS + 64)
            + 2 * layers * layers
            + 4 * zones * zones
        )

    def check_weights(self) -> None:
        """See the base class: donors, most hits of the zones, what is divided by."""
        for name, buffer in self.layer_stage.named_buffers(prefix="layer_stage"):
            # sums of products of these become hits, which are counted
            if not name.endswith((".front", ".back")):
                check_between(name, buffer, -LARGEST_NUMBER, LARGEST_NUMBER)
        self.layer_stage.donors.check("layer_stage.donors")
        check_rising("layer_stage.centres", self.layer_stage.centres)
        sizes = torch.from_numpy(self.plane.zone_sizes)
        for most, size in zip(self.cell_stage.most_hits, sizes, strict=True):
            check_between("cell_stage.most_hits", most, 1, int(size))
        unit = self.cell_stage.alone.spectrum.unit
        check_between("cell_stage.alone.spectrum.unit", unit, *UNIT_RANGE)
        check_between("steps", self.steps, 0, 2**40)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """What the summary is drawn from, then numbers for the hits of the cells, then for their energies.

        Those of a layer are in the order of `order.py`.
        """
        return (CHOICES + 2 * self.layout.layers * self.order.size,)

    def optimized(self) -> dict[str, nn.Module]:
        """Teacher; of the student what the comparison tells."""
        cells = self.cell_stage
        return {
            "teacher": nn.ModuleList([cells.alone, cells.teacher]),
            "student": cells.student,
        }

    def sampler(self) -> nn.Module:
        """The second stage; the first is never trained."""
        return self.cell_stage

    # ---- fit

    def fit(self, batches: Iterable[ShowerBatch], rng: np.random.Generator) -> None:
        """First stage, spectrum of single particles, mean hits of the layers.

        Raises:
            TrainingError: Fewer than four showers.
        """
        count = sum(len(batch) for batch in batches)
        if count < 4:
            raise TrainingError(f"{count} showers to fit to, expected at least 4; give more data")
        self.cell_stage.alone.spectrum.fit(self._single_hits(batches, count, rng))
        operations = max(1, min(len(self.group), FIT_ROWS // count))
        rows, conditions, numbers, done = [], [], [], 0
        for batch in batches:
            showers = self._thresholded(batch.showers)
            own = summarise(showers, batch.incident_energy, self.plane, self._unit, rng)
            rows.append(summary_images(own, showers, self.plane, self.group[:operations], rng))
            conditions += [Condition.of(batch)] * operations
            numbers += [torch.arange(done, done + len(batch))] * operations
            done += len(batch)
        most = [self.layout.zone_hits(torch.from_numpy(part)).amax((0, 1)) for part in rows]
        self.cell_stage.limit(torch.stack(most).amax(0).clamp_min(1))
        summary, condition, donors = np.concatenate(rows), _joined(conditions), min(self.config.donors, count)
        summary[:, 0] -= self._fit_balance(torch.from_numpy(summary), condition).numpy()
        self.layer_stage.fit(summary, condition, torch.cat(numbers), donors)

    def _fit_balance(self, summary: Tensor, condition: Condition) -> Tensor:
        """What the depth says of the visible energy: what is missing has left behind, or never came in.

        The logarithm of the response is, at each energy, nearly linear in the shares of the layers.
        """
        energies = self.layout.zone_energy(summary, self.config.cell_threshold).sum(2).double()
        shares = energies / energies.sum(1, keepdim=True).clamp_min(self.config.cell_threshold)
        argument = self.layer_stage.argument(condition.energy).double()
        powers = argument[:, None] ** torch.arange(BALANCE_DEGREE + 1)
        design = torch.cat([shares, powers], dim=1)
        normal = design.T @ design + BALANCE_RIDGE * len(design) * torch.eye(design.shape[1])
        solution = torch.linalg.solve(normal, design.T @ summary[:, 0].double())
        self.balance.copy_(solution[: len(self.balance)])
        return shares.float() @ self.balance

    @property
    def _unit(self) -> float:
        return float(self.cell_stage.alone.spectrum.unit)

    def _single_hits(
        self, batches: Iterable[ShowerBatch], count: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Energies of hits in cells that single particles reach, a part of all."""
        single, hits = self._single_cells(batches), []
        for batch in batches:
            energies = self._thresholded(batch.showers).reshape(len(batch), -1)[:, single]
            hits.append(rng.permutation(energies[energies > 0])[: FIT_HITS * len(batch) // count + 1])
        return np.concatenate(hits)

    def _single_cells(self, batches: Iterable[ShowerBatch]) -> NDArray[Any]:
        """Flat indices of the cells that are seldom hit."""
        hit, count = np.zeros(math.prod(self.detector.shower_shape)), 0
        for batch in batches:
            hit += (self._thresholded(batch.showers) > 0).reshape(len(batch), -1).sum(0)
            count += len(batch)
        return np.flatnonzero(hit < SINGLE * count)

    def _thresholded(self, showers: NDArray[Any]) -> NDArray[Any]:
        return np.where(showers < self.config.cell_threshold, np.float32(0), showers)

    # ---- training

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:
        """Likelihood, or comparison, by the steps done."""
        given, cells = self.known(batch)
        learning = int(self.steps) < self.config.likelihood_steps
        yield self._likelihood(given, cells) if learning else self._comparison(given, cells)
        self.steps += 1
        if int(self.steps) == self.config.likelihood_steps:
            self.cell_stage.graduate()

    def rate(self, part: str) -> float:
        """Falls to almost nothing within the phase of the part."""
        done, likelihood = int(self.steps), self.config.likelihood_steps
        share = done / likelihood if part == "teacher" else (done - likelihood) / self.config.matching_steps
        return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2

    def _likelihood(self, given: Given, cells: Cells) -> Phase:
        alone = self.cell_stage.alone(given)
        taught = self.cell_stage.taught(cells, alone)
        self.cell_stage.shape.observe(taught.scores(cells), cells.hits)
        together = given.hits @ self.cell_stage.member.T
        logs = {
            "alone_nll": alone.negative_log_likelihood(cells, together).mean(),
            "cells_nll": taught.negative_log_likelihood(cells, together).mean(),
        }
        loss = logs["cells_nll"] / self._cells
        return Phase("teacher", loss, _detached(logs))

    def _comparison(self, given: Given, real: Cells) -> Phase:
        stage = self.cell_stage
        stage.student.confine()
        with torch.no_grad():
            alone, drawn = stage.alone(given), stage.draw(given, self._noise(given))
            # what is seen of a draw is the shower
            made = Cells(drawn.hits, stage.alone.spectrum.coordinate(stage.showers(drawn, given)))
            share = BEND * self.rate("student")
            stage.alone.spectrum.bend(self._zone_hits(made), self._zone_hits(real), share)
            sides = [moments(cells, alone, given.argument, stage.student) for cells in (made, real)]
        gaps = {name: value - sides[1][name] for name, value in sides[0].items()}
        moved = dict(stage.student.named_parameters())
        # each moment rises with one parameter: its gap is the way down, as in Robbins and Monro (1951)
        loss = torch.stack([(gaps[name] * parameter).sum() for name, parameter in moved.items()]).sum()
        logs = {f"gap_{name}": gap.abs().mean() for name, gap in gaps.items()}
        return Phase("student", loss, _detached(logs), empty_images=(drawn.hits == 0).all())

    def _zone_hits(self, cells: Cells) -> list[Tensor]:
        """Coordinates of the hits of each zone of each layer, and of the layers before and behind."""
        zone, layers = self.cell_stage.student.zone, range(self.layout.layers)
        near = [cells.coordinate[:, max(layer - BEND_REACH, 0) : layer + BEND_REACH + 1] for layer in layers]
        parts = [part[:, :, zone == z] for part in near for z in range(self.layout.zones)]
        return [part[part > 0] for part in parts]

    @property
    def _cells(self) -> int:
        return self.layout.layers * self.plane.cells

    def _noise(self, given: Given) -> tuple[Tensor, Tensor]:
        hits = given.hits
        shape = (*hits.shape[:2], self.plane.cells)
        return torch.randn(shape, device=hits.device), torch.randn(shape, device=hits.device)

    def known(self, batch: TrainingBatch) -> tuple[Given, Cells]:
        """What the first stage would say of real showers, and their cells."""
        showers = batch.showers.flatten(2)
        showers = torch.where(showers < self.config.cell_threshold, 0.0, showers)
        device = showers.device
        # the spread of discrete numbers follows torch's seed, which the loop sets for every step
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        summary = summarise(
            showers.view(batch.showers.shape).cpu().numpy(),
            batch.condition.energy.cpu().numpy(),
            self.plane,
            self._unit,
            rng,
        )
        given = self._given(torch.from_numpy(summary).to(device), batch.condition)
        return given, Cells(step(showers), self.cell_stage.alone.spectrum.coordinate(showers))

    def _given(self, summary: Tensor, condition: Condition) -> Given:
        return Given(
            zone_energy=self.layout.zone_energy(summary, self.config.cell_threshold),
            hits=torch.minimum(self.layout.zone_hits(summary), self.cell_stage.most_hits),
            transverse=summary[:, self.layout.transverse],
            argument=self.layer_stage.argument(condition.energy),
        )

    # ---- generation

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Showers in MeV."""
        given = self.draw_layers(condition, noise[:, :CHOICES])
        places = noise[:, CHOICES:].reshape(-1, 2, self.layout.layers, self.order.size)
        # runtimes move whole rows many times faster than single numbers
        hits, energies = places.mT.index_select(2, self.numbers).mT.unbind(1)
        cells = self.cell_stage.draw(given, (hits, energies))
        return self.cell_stage.showers(cells, given).view(-1, *self.detector.shower_shape)

    def compiled(self) -> CompiledForm:
        """See the base class."""
        # loading the compiler takes half a second
        from caloforge.models.layered.compiled.reading import generator_of

        return generator_of(self)

    def draw_layers(self, condition: Condition, noise: Tensor) -> Given:
        """First stage alone: N summaries from (N, CHOICES) normal numbers."""
        summary = self.layer_stage.summary(self.layer_stage.from_noise(noise, condition), condition)
        given = self._given(summary, condition)
        layers = given.zone_energy.sum(2)
        total = layers.sum(1).clamp_min(self.config.cell_threshold)
        # the visible energy as the depth has it
        visible = (summary[:, 0] + layers @ self.balance / total).exp() * condition.energy
        energy = given.zone_energy * (visible / total)[:, None, None]
        return Given(energy, given.hits, given.transverse, given.argument)


def _detached(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in parts.items()}


def _joined(conditions: list[Condition]) -> Condition:
    return Condition(
        *(
            torch.cat([getattr(one, name) for one in conditions])
            for name in ("energy", "theta", "phi", "pdg_id")
        )
    )

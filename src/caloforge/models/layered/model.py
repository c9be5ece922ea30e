"""The layered family as a `ShowerModel`: fit, likelihood, critic, generation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.errors import TrainingError
from caloforge.geometry import Detector
from caloforge.models.base import Condition, Phase, ShowerModel, TrainingBatch, require_regular_mesh
from caloforge.models.facts import DataFacts
from caloforge.models.layered.cells import CellStage
from caloforge.models.layered.config import LayeredConfig
from caloforge.models.layered.critic import Critic, excess
from caloforge.models.layered.density import Cells, Given, step
from caloforge.models.layered.layers import DONORS, LayerStage
from caloforge.models.layered.plane import plane_of
from caloforge.models.layered.summary import Layout, summarise, summary_images
from caloforge.models.symmetries import symmetries
from caloforge.showers import ShowerBatch

# rows that the first stage is fitted to, images of the showers included
FIT_ROWS = 200_000
# hits that the spectrum is fitted to
FIT_HITS = 500_000
# cells hit less often than this are hit by single particles
SINGLE = 0.2
# the network is not told of more than this many standard deviations
LARGEST_CONDITION = 4.0
# the student's rate against the critic, as a share of its first one
LAST_RATE = 0.1


class Layered(ShowerModel):
    """Summary of the layers from a smoothed bootstrap, cells from a network over noise.

    The layers' energies, zone by zone, are exactly those of the summary, their sum exactly the visible energy
    drawn for the shower.
    """

    family = "layered"
    config: LayeredConfig
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
        self.layout = Layout(layers, len(self.plane.zone_sizes))
        self.layer_stage = LayerStage(self.layout.size, facts.ranges, donors=config.donors)
        one = Condition(torch.ones(1), torch.zeros(1), torch.zeros(1), torch.zeros(1, dtype=torch.int32))
        width = self.layer_stage.columns(one).shape[1] + self.layout.size
        self.cell_stage = CellStage(layers, self.plane, threshold=config.cell_threshold)
        self.critic = Critic(
            layers,
            self.plane,
            width,
            width=config.critic.width,
            use_features=config.critic.features,
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """What the summary is drawn from, then a number for the hit of each cell, then one for its energy."""
        return (DONORS + 2 * self._cells,)

    def optimized(self) -> dict[str, nn.Module]:
        """Teacher, student and critic."""
        cells = self.cell_stage
        return {
            "teacher": nn.ModuleList([cells.alone, cells.teacher]),
            "student": cells.student,
            "critic": self.critic,
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
        rows, conditions = [], []
        for batch in batches:
            showers = self._thresholded(batch.showers)
            own = summarise(showers, batch.incident_energy, self.plane, self._unit, rng)
            rows.append(summary_images(own, showers, self.plane, self.group[:operations], rng))
            conditions += [Condition.of(batch)] * operations
        self.layer_stage.fit(np.concatenate(rows), _joined(conditions))

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
        """Likelihood, lesson, or critic and student, by the steps done."""
        given, cells = self.known(batch)
        done = int(self.steps)
        if done < self.config.likelihood_steps:
            yield self._likelihood(given, cells)
        elif done < self.config.likelihood_steps + self.config.lesson_steps:
            yield self._lesson(given)
        else:
            yield from self._criticism(given, cells)
        self.steps += 1
        if int(self.steps) == self.config.likelihood_steps:
            self.cell_stage.graduate()

    def rate(self, part: str) -> float:
        """Falls to almost nothing within each of the first two phases; constant in the last."""
        done, likelihood, lesson = int(self.steps), self.config.likelihood_steps, self.config.lesson_steps
        if part == "teacher":
            share = done / likelihood
        elif part == "student" and done < likelihood + lesson:
            share = (done - likelihood) / lesson
        else:
            return LAST_RATE if part == "student" else 1.0
        return 0.02 + 0.98 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2

    def _likelihood(self, given: Given, cells: Cells) -> Phase:
        alone = self.cell_stage.alone(given)
        taught = self.cell_stage.taught(cells, alone)
        self.cell_stage.shape.observe(taught.scores(cells), cells.hits)
        logs = {
            "alone_nll": alone.negative_log_likelihood(cells).mean(),
            "cells_nll": taught.negative_log_likelihood(cells).mean(),
        }
        loss = logs["cells_nll"] / self._cells
        return Phase("teacher", loss, _detached(logs))

    def _lesson(self, given: Given) -> Phase:
        divergence = self._divergence(given)
        return Phase("student", divergence / self._cells, _detached({"lesson": divergence}))

    def _divergence(self, given: Given) -> Tensor:
        """Of the student's densities from the teacher's, for one noise; mean over showers."""
        teacher, student = self.cell_stage.lesson(given, self._noise(given), self.config.teacher_passes)
        return student.divergence_from(teacher).mean()

    def _criticism(self, given: Given, real: Cells) -> Iterator[Phase]:
        weights = self.config.critic
        with torch.no_grad():
            alone = self.cell_stage.alone(given)
            fake = self.cell_stage.draw(given, self._noise(given))
        sides = [excess(cells, alone) for cells in (real, fake)]
        features = [self.critic.features(side, learn=side is sides[0]) for side in sides]
        scores = [self.critic(*pair, given.condition) for pair in zip(sides, features, strict=True)]
        hinge = F.relu(1 - scores[0]).mean() + F.relu(1 + scores[1]).mean()
        yield Phase("critic", hinge, _detached({"critic_hinge": hinge}))
        drawn = excess(self.cell_stage.draw(given, self._noise(given)), alone)
        made = self.critic.features(drawn)
        self.critic.requires_grad_(False)
        score = self.critic(drawn, made, given.condition).mean()
        self.critic.requires_grad_(True)
        parts = {"student_score": score, "matching": matching(features[0], made)}
        loss = weights.matching * parts["matching"] - weights.weight * score
        if weights.lesson:
            parts["lesson"] = self._divergence(given)
            loss = loss + weights.lesson * parts["lesson"]
        yield Phase("student", loss, _detached(parts), empty_images=(drawn[:, 1] == 0).all())

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
        with torch.no_grad():
            values = torch.from_numpy(summary).to(device)
            scores = self.layer_stage.normal_scores(values, batch.condition)
            given = self._given(values, scores, batch.condition)
        return given, Cells(step(showers), self.cell_stage.alone.spectrum.coordinate(showers))

    def _given(self, summary: Tensor, scores: Tensor, condition: Condition) -> Given:
        columns = self.layer_stage.columns(condition)
        return Given(
            zone_energy=self.layout.zone_energy(summary, self.config.cell_threshold),
            hits=torch.minimum(self.layout.zone_hits(summary), self.cell_stage.alone.zone_sizes),
            transverse=summary[:, self.layout.transverse],
            condition=torch.cat([columns, scores], dim=1).clamp(-LARGEST_CONDITION, LARGEST_CONDITION),
        )

    # ---- generation

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Showers in MeV."""
        given = self.draw_layers(condition, noise[:, :DONORS])
        shape, end = (-1, self.layout.layers, self.plane.cells), DONORS + self._cells
        numbers = (noise[:, DONORS:end].reshape(shape), noise[:, end:].reshape(shape))
        cells = self.cell_stage.draw(given, numbers)
        return self.cell_stage.showers(cells, given).view(-1, *self.detector.shower_shape)

    def draw_layers(self, condition: Condition, noise: Tensor) -> Given:
        """First stage alone: N summaries from (N, DONORS) normal numbers."""
        scores = self.layer_stage.from_noise(noise, condition)
        summary = self.layer_stage.summary(scores, condition)
        given = self._given(summary, scores, condition)
        visible = summary[:, 0].exp() * condition.energy
        total = given.zone_energy.sum((1, 2)).clamp_min(self.config.cell_threshold)
        energy = given.zone_energy * (visible / total)[:, None, None]
        return Given(energy, given.hits, given.transverse, given.condition)


def matching(real: Tensor, made: Tensor) -> Tensor:
    """Square of the difference of the means of features, mean over features, without bias.

    The product of the differences in two halves of the batch is on average the square of the difference.

    Args:
        real: (N, k), in standard deviations.
        made: (N, k) of generated showers with the same conditions.
    """
    difference = made - real.detach()
    half = len(difference) // 2
    return (difference[:half].mean(0) * difference[half:].mean(0)).mean()


def _detached(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in parts.items()}


def _joined(conditions: list[Condition]) -> Condition:
    return Condition(
        *(
            torch.cat([getattr(one, name) for one in conditions])
            for name in ("energy", "theta", "phi", "pdg_id")
        )
    )

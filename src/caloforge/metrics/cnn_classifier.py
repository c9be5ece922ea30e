"""Classifier test with a residual CNN over all cells, tuned for samples of a few thousand showers.

The layers of the calorimeter are the channels of two-dimensional convolutions. The input is each cell less
its mean at the incident energy. Squares of the first filtered images, which contain the products of
neighbouring cells, are passed to the last layer beside the output of the residual blocks. Training uses a
one-cycle learning rate and random mirror images of both samples; scores are averaged over all mirror images.
With samples too small for the networks of the CaloChallenge, it still detects wrong correlations between
cells, within a layer and along the depth.

Splits, calibration, areas and errors are those of `neural_classifier`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from caloforge.metrics.cnn_network import Images, StrongNetwork, fit_scales
from caloforge.metrics.feature_table import Rows, voxel_table
from caloforge.metrics.neural_networks import (
    NeuralResult,
    Progress,
    Repeat,
    judge_scores,
    split_rows,
    summarise,
)
from caloforge.metrics.resampling import Array

# showers in memory as images at once, outside of training steps
BLOCK = 256
Index = NDArray[np.integer]


@dataclass(frozen=True)
class StrongTraining:
    """How the network is trained.

    Attributes:
        epochs: Number of epochs; fewer where the second split is separated completely.
        batch: Showers of a step.
        learning_rate: Peak of the cycle.
        weight_decay: Of AdamW.
        device: A torch device; a GPU where there is one.
    """

    epochs: int = 16
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")


def strong_classifier(
    truth: Rows | NDArray[np.float32],
    generated: Rows | NDArray[np.float32],
    energies: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    *,
    images: Images | None = None,
    epochs: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    training: StrongTraining | None = None,
    measure_floor: bool = False,
    progress: Progress | None = None,
) -> NeuralResult:
    """Train residual CNNs to separate two samples by their cells.

    The larger sample is cut to the size of the smaller one. 60 % of the showers train, 20 % choose the epoch
    by its area and calibrate the scores, 20 % give the area. 3000 + 3000 showers of 25 x 25 x 25 take
    about five minutes on two cores.

    Args:
        truth: (n, layers, rows, columns) showers, MeV; or the table log10 E_inc, voxels (see `rows`).
        generated: The same of the generated showers.
        energies: Incident energies of both arrays, MeV; None where tables are given.
        images: The symmetries; by default all that the shape allows, for orthogonal incidence. Must be given
            with tables.
        epochs: Instead of those of `training`.
        repeats: Trainings with other splits and weights.
        seed: Seed of splits, weights, batches and images.
        training: How to train.
        measure_floor: Train once more on halves of the truth; otherwise the floors are the expectation, 0.5
            and 0.
        progress: Called with steps done and all steps.

    Raises:
        ValueError: Fewer than 20 showers in a sample, or neither tables nor energies.
    """
    training = training or StrongTraining()
    training = training if epochs is None else replace(training, epochs=epochs)
    if isinstance(truth, np.ndarray) and isinstance(generated, np.ndarray) and energies is not None:
        layers, rows, columns = truth.shape[1:]
        images = images or Images((layers, rows, columns), swap=rows == columns)
        truth, generated = _table(truth, energies[0]), _table(generated, energies[1])
    if images is None or isinstance(truth, np.ndarray) or isinstance(generated, np.ndarray):
        raise ValueError("expected arrays with their energies, or tables with their images")
    count = min(len(truth), len(generated))
    if count < 20:
        raise ValueError(f"got {len(truth)} and {len(generated)} showers, expected at least 20 of each")
    meter = _Meter(progress, repeats + measure_floor)
    done = []
    for run in range(repeats + measure_floor):
        rng = np.random.default_rng((seed, run))
        if run < repeats:
            samples = truth, generated
            parts = [split_rows(np.arange(count), rng) for _ in samples]
        else:
            samples = truth, truth
            order, half = rng.permutation(len(truth)), len(truth) // 2
            parts = [split_rows(part, rng) for part in (order[:half], order[half : 2 * half])]
        meter.run = run
        done.append(_Run(_Data(samples, parts, images), training, rng, meter).result())
    floor = done.pop() if measure_floor else replace(done[0], auc=0.5, jsd=0.0)
    return summarise(done, floor, seed)


def _table(showers: NDArray[np.float32], energy: NDArray[np.floating]) -> Rows:
    starts = range(0, len(showers), BLOCK)
    return voxel_table((showers[k : k + BLOCK], energy[k : k + BLOCK]) for k in starts)


@dataclass(frozen=True)
class _Data:
    """Two tables, each with the rows of its three splits."""

    samples: tuple[Rows, Rows]
    parts: list[list[Index]]
    images: Images

    def training_truth(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of log10 E (b,) and showers (b, layers, rows, columns) of the truth in the first split."""
        index = self.parts[0][0]
        for start in range(0, len(index), BLOCK):
            table = torch.from_numpy(self.samples[0].take(index[start : start + BLOCK]))
            yield table[:, 0], table[:, 1:].reshape(-1, *self.images.shape)

    def batches(
        self, split: int, size: int, rng: np.random.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor, Array]]:
        """log10 E (b,), showers (b, layers, rows, columns) and label (1 for truth) of one split.

        Half of each batch is truth.
        """
        orders = [part[split] if rng is None else rng.permutation(part[split]) for part in self.parts]
        half = size // 2
        for start in range(0, max(map(len, orders)), half):
            tables = [
                rows.take(order[start : start + half])
                for rows, order in zip(self.samples, orders, strict=True)
            ]
            table = torch.from_numpy(np.concatenate(tables))
            label = np.repeat([1.0, 0.0], [len(t) for t in tables])
            yield table[:, 0], table[:, 1:].reshape(-1, *self.images.shape), label


class _Run:
    """One training of the network."""

    def __init__(
        self, data: _Data, training: StrongTraining, rng: np.random.Generator, meter: _Meter
    ) -> None:
        self.data, self.training, self.rng, self.meter = data, training, rng, meter
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            network = StrongNetwork(data.images, fit_scales(data.training_truth(), data.images))
        self.network = network.to(training.device)

    def result(self) -> Repeat:
        """Train, choose the epoch by its area on the second split, calibrate, test on the third."""
        training, network = self.training, self.network
        steps = math.ceil(len(self.data.parts[0][0]) / (training.batch // 2))
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, training.learning_rate, total_steps=training.epochs * steps, pct_start=0.25
        )
        best, chosen, weights = -1.0, 0, network.state_dict()
        for epoch in range(1, training.epochs + 1):
            self._epoch(optimiser, schedule, (epoch - 1) * steps)
            scores, label = self._scores(1, images=1)
            area = float(roc_auc_score(label, scores))
            if area > best:
                best, chosen, weights = area, epoch, copy.deepcopy(network.state_dict())
            if area == 1:
                break
        self.meter.tell(1, 1)
        network.load_state_dict(weights)
        count = len(self.data.images)
        choosing, testing = (self._scores(split, images=count) for split in (1, 2))
        return judge_scores(choosing, testing, chosen, break_ties=True)

    def _epoch(
        self, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, before: int
    ) -> None:
        self.network.train()
        for energy, showers, label in self.data.batches(0, self.training.batch, self.rng):
            logits = self._logits(energy, self.data.images.draw(showers, self.rng))
            target = torch.from_numpy(label).to(logits)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            before += 1
            self.meter.tell(before, schedule.total_steps)  # type: ignore[attr-defined]

    def _logits(self, energy: Tensor, showers: Tensor) -> Tensor:
        device = self.training.device
        logits: Tensor = self.network(energy.to(device), showers.to(device))
        return logits

    def _scores(self, split: int, images: int) -> tuple[Array, Array]:
        """Probability to be truth, averaged over mirror images, and label, of every shower of a split."""
        self.network.eval()
        scores, labels = [], []
        with torch.inference_mode():
            for energy, showers, label in self.data.batches(split, BLOCK, None):
                seen = [
                    self._logits(energy, self.data.images.image(showers, number)) for number in range(images)
                ]
                scores.append(torch.sigmoid(torch.stack(seen).mean(dim=0)).double().cpu().numpy())
                labels.append(label)
        return np.concatenate(scores), np.concatenate(labels)


class _Meter:
    """Progress over all trainings, in thousandths."""

    def __init__(self, report: Progress | None, runs: int) -> None:
        self._report, self._runs, self.run = report, runs, 0

    def tell(self, done: int, total: int) -> None:
        """Report progress of the training that is running."""
        if self._report is not None:
            self._report(self.run * 1000 + 1000 * done // total, self._runs * 1000)

"""Classifier tests with neural networks by the protocol of the CaloChallenge: MLP and 3D ResNet.

Reference: its `evaluate.py` and `resnet.py`, arXiv:2410.21611. 60 % of the showers train; 20 % choose the
epoch by accuracy and calibrate its scores by isotonic regression; the last 20 % give area and divergence. By
default float32 takes the place of the challenge's float64; `Training(double=True)` is exactly the challenge.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from caloforge.metrics.feature_table import Rows
from caloforge.metrics.resampling import Array, Metric
from caloforge.metrics.tree_classifier import bootstrap_areas

Progress = Callable[[int, int], object]
Index = NDArray[np.integer]

SPLIT = (0.6, 0.2, 0.2)
PLANES = (32, 64, 64, 128)
# scores after calibration stay this far from 0 and 1
CLIP = 1e-6
# weight of the uncalibrated score, which orders equal calibrated ones
TIE = 1e-9


@dataclass(frozen=True)
class Training:
    """Hyper-parameters of a training; the defaults are those of the challenge except for the precision.

    Attributes:
        epochs: Largest number of epochs.
        batch: Showers of a step.
        learning_rate: Of Adam.
        patience: Stop after so many epochs without a better accuracy; None trains them all.
        double: float64 instead of float32.
        device: A torch device; a GPU where there is one.
    """

    epochs: int = 50
    batch: int = 1000
    learning_rate: float = 2e-4
    patience: int | None = None
    double: bool = False
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of network and input."""
        return torch.float64 if self.double else torch.float32


@dataclass(frozen=True)
class Repeat:
    """One training: area under the ROC curve and Jensen-Shannon divergence of the calibrated scores.

    Attributes:
        auc: Area, of the last split.
        jsd: Divergence in units of ln 2, of the last split.
        epoch: The epoch chosen, from 1.
        scores_truth: (n,) calibrated probability to be truth, of the truth.
        scores_generated: (n,) the same of the generated showers.
    """

    auc: float
    jsd: float
    epoch: int
    scores_truth: Array
    scores_generated: Array


@dataclass(frozen=True)
class NeuralResult:
    """Means over the repeats.

    Attributes:
        auc: Area under the ROC curve: 0.5 for equal samples, 1 for separable ones. The challenge quotes the
            spread of `repeats` instead of the error.
        jsd: Jensen-Shannon divergence in units of ln 2: 0 for equal samples, 1 for separable ones.
        repeats: Every training.
    """

    auc: Metric
    jsd: Metric
    repeats: tuple[Repeat, ...]


def neural_classifier(
    truth: Rows,
    generated: Rows,
    *,
    voxels: tuple[int, int, int] | None = None,
    repeats: int = 1,
    seed: int = 0,
    training: Training | None = None,
    measure_floor: bool = False,
    progress: Progress | None = None,
) -> NeuralResult:
    """Train classifiers between two samples and measure how well they separate them.

    Memory beyond the samples is that of the network and a few batches. The larger sample is cut to the size
    of the smaller one. Errors are those of the last split or the spread of the repeats, whichever is larger.

    Args:
        truth: Table of the truth; see `rows` and `calochallenge.feature_vector`.
        generated: The same of the generated showers.
        voxels: Shape of a shower: train the 3D ResNet on log10 E_inc and voxels; by default the MLP on all
            columns.
        repeats: Trainings with other splits and weights; the challenge takes 10.
        seed: Seed of splits, weights and batches.
        training: How to train.
        measure_floor: Train once more on halves of the truth; otherwise the floors are the expectation, 0.5
            and 0.
        progress: Called with steps done and all steps.

    Raises:
        ValueError: Fewer than 10 showers in a sample.
    """
    training = training or Training()
    count = min(len(truth), len(generated))
    if count < 10:
        raise ValueError(f"got {len(truth)} and {len(generated)} showers, expected at least 10 of each")
    runs = repeats + measure_floor
    meter = _Meter(progress, training, [count] * repeats + [len(truth) // 2] * measure_floor)
    done = []
    for run in range(runs):
        rng = np.random.default_rng((seed, run))
        if run < repeats:
            parts = [split_rows(np.arange(len(rows))[:count], rng) for rows in (truth, generated)]
            data = _Data(truth, generated, parts)
        else:
            order = rng.permutation(len(truth))
            half = len(truth) // 2
            data = _Data(
                truth, truth, [split_rows(order[:half], rng), split_rows(order[half : 2 * half], rng)]
            )
        network = _network(truth.width, voxels, int(rng.integers(2**31)))
        done.append(_run(network, data, training, rng, meter))
        meter.finish(run)
    floor = done.pop() if measure_floor else replace(done[0], auc=0.5, jsd=0.0)
    return summarise(done, floor, seed)


def summarise(repeats: Sequence[Repeat], floor: Repeat, seed: int) -> NeuralResult:
    """Means and errors of trainings.

    Args:
        repeats: At least one.
        floor: A training on halves of the truth, or what it is expected to give.
        seed: Seed of the bootstrap.
    """
    return NeuralResult(
        _summary([r.auc for r in repeats], _area_error(repeats[0], seed), floor.auc),
        _summary([r.jsd for r in repeats], _divergence_error(repeats[0]), floor.jsd),
        tuple(repeats),
    )


def _summary(values: list[float], error: float, floor: float) -> Metric:
    """Mean, and the larger error of that of the test split (a fifth of the data) and that of the repeats."""
    if len(values) > 1:
        spread = float(np.std(values, ddof=1))
        error = max(spread / math.sqrt(len(values)), error / math.sqrt(min(len(values), 5)))
    return Metric(float(np.mean(values)), error, floor)


def _area_error(repeat: Repeat, seed: int) -> float:
    return float(np.std(bootstrap_areas(repeat.scores_generated, repeat.scores_truth, seed), ddof=1))


def _divergence_error(repeat: Repeat) -> float:
    parts = np.log(repeat.scores_truth), np.log1p(-repeat.scores_generated)
    variance = sum(np.var(part, ddof=1) / len(part) / 4 for part in parts)
    return float(np.sqrt(variance) / math.log(2))


def split_rows(index: Index, rng: np.random.Generator) -> list[Index]:
    """Random training, validation and test rows."""
    ends = np.cumsum([int(len(index) * share) for share in SPLIT])[:-1]
    return np.split(rng.permutation(index), ends)


@dataclass(frozen=True)
class _Data:
    """Two tables, each with the rows of its three splits."""

    truth: Rows
    generated: Rows
    parts: list[list[Index]]

    def batches(
        self, split: int, training: Training, rng: np.random.Generator | None
    ) -> Iterator[tuple[Any, Any]]:
        """Input and label (1 for truth) of one split; shuffled where a generator is given."""
        one, other = (part[split] for part in self.parts)
        index = np.concatenate([one, other])
        label = np.repeat([1.0, 0.0], [len(one), len(other)])
        order = np.arange(len(index)) if rng is None else rng.permutation(len(index))
        for start in range(0, len(order), training.batch):
            chosen = order[start : start + training.batch]
            # the order within a batch does not matter
            real, fake = chosen[label[chosen] == 1], chosen[label[chosen] == 0]
            table = np.concatenate([self.truth.take(index[real]), self.generated.take(index[fake])])
            target = np.repeat([1.0, 0.0], [len(real), len(fake)])
            yield (
                torch.from_numpy(table).to(training.device, training.dtype),
                torch.from_numpy(target).to(training.device, training.dtype),
            )


def _run(
    network: nn.Module, data: _Data, training: Training, rng: np.random.Generator, meter: _Meter
) -> Repeat:
    """Train, choose the epoch by its accuracy on the second split, calibrate, test on the third."""
    network.to(training.device, training.dtype)
    optimiser = torch.optim.Adam(network.parameters(), lr=training.learning_rate, fused=True)
    best, chosen, weights = -1.0, 0, network.state_dict()
    for epoch in range(1, training.epochs + 1):
        network.train()
        for table, target in data.batches(0, training, rng):
            meter.step()
            if len(table) == 1:  # batch normalisation has no variance of one shower
                continue
            loss = nn.functional.binary_cross_entropy_with_logits(network(table), target)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        scores, label = _scores(network, data, 1, training)
        accuracy = float(np.mean((scores > 0.5) == label))
        if accuracy > best:
            best, chosen, weights = accuracy, epoch, copy.deepcopy(network.state_dict())
        if accuracy == 1 or (training.patience is not None and epoch - chosen >= training.patience):
            break
    network.load_state_dict(weights)
    choosing, testing = (_scores(network, data, split, training) for split in (1, 2))
    return judge_scores(choosing, testing, chosen)


def judge_scores(
    choosing: tuple[Array, Array], testing: tuple[Array, Array], epoch: int, *, break_ties: bool = False
) -> Repeat:
    """Calibrate scores on the second split, test them on the third.

    Isotonic calibration maps many scores to one value, which biases the area for small samples.

    Args:
        choosing: (n,) probability to be truth, and (n,) label, 1 for truth, of the second split.
        testing: The same of the third split.
        epoch: The epoch that was chosen.
        break_ties: Keep the order of scores with the same calibrated value; the challenge does not.
    """
    calibration = IsotonicRegression(out_of_bounds="clip", y_min=CLIP, y_max=1 - CLIP)
    calibration.fit(*choosing)
    scores, label = testing
    calibrated = calibration.predict(scores) + (TIE * scores if break_ties else 0)
    entropy = -np.mean(np.where(label == 1, np.log(calibrated), np.log1p(-calibrated)))
    return Repeat(
        auc=float(roc_auc_score(label, calibrated)),
        jsd=float(1 - entropy / math.log(2)),
        epoch=epoch,
        scores_truth=calibrated[label == 1],
        scores_generated=calibrated[label == 0],
    )


def _scores(network: nn.Module, data: _Data, split: int, training: Training) -> tuple[Array, Array]:
    """Probability to be truth, and label, of every shower of a split."""
    network.eval()
    scores, labels = [], []
    with torch.inference_mode():
        for table, target in data.batches(split, training, None):
            scores.append(torch.sigmoid(network(table)).double().cpu().numpy())
            labels.append(target.double().cpu().numpy())
    return np.concatenate(scores), np.concatenate(labels)


class _Meter:
    """Counts training steps over all repeats."""

    def __init__(self, report: Progress | None, training: Training, counts: list[int]) -> None:
        per_run = [
            training.epochs * math.ceil(2 * int(count * SPLIT[0]) / training.batch) for count in counts
        ]
        self._report = report
        self._ends = np.cumsum(per_run).tolist()
        self._done = 0

    def step(self) -> None:
        self._done += 1
        self._tell()

    def finish(self, run: int) -> None:
        """Count a run as finished, also where it stopped early."""
        self._done = self._ends[run]
        self._tell()

    def _tell(self) -> None:
        if self._report is not None:
            self._report(self._done, self._ends[-1])


def _network(width: int, voxels: tuple[int, int, int] | None, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Perceptron(width) if voxels is None else ResNet(voxels)


class Perceptron(nn.Module):
    """MLP of three hidden layers of 2048 units, LeakyReLU 0.01, one logit."""

    def __init__(self, width: int, hidden: int = 2048, layers: int = 3) -> None:
        super().__init__()
        sizes = [width] + [hidden] * layers
        stack: list[nn.Module] = []
        for size, following in itertools.pairwise(sizes):
            stack += [nn.Linear(size, following), nn.LeakyReLU()]
        self.layers = nn.Sequential(*stack, nn.Linear(hidden, 1))

    def forward(self, table: Tensor) -> Tensor:
        """Logits (b,) of rows (b, width)."""
        logits: Tensor = self.layers(table)[:, 0]
        return logits


class ResNet(nn.Module):
    """3D ResNet-18 of 32, 64, 64, 128 planes; the incident energy joins before the last layer."""

    def __init__(self, voxels: tuple[int, int, int]) -> None:
        super().__init__()
        self.voxels = voxels
        self.stem = nn.Sequential(
            nn.Conv3d(1, PLANES[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm3d(PLANES[0]),
            nn.ReLU(),
            nn.MaxPool3d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        before = PLANES[0]
        for stage, planes in enumerate(PLANES):
            blocks += [_Block(before, planes, 2 if stage else 1), _Block(planes, planes, 1)]
            before = planes
        self.blocks = nn.Sequential(*blocks)
        self.energy_norm = nn.BatchNorm1d(1)
        self.last = nn.Linear(before + 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, table: Tensor) -> Tensor:
        """Logits (b,) of rows (b, 1 + voxels), the first column log10 E_inc."""
        energy = self.energy_norm(table[:, :1])
        seen = self.blocks(self.stem(table[:, 1:].reshape(-1, 1, *self.voxels))).mean(dim=(2, 3, 4))
        logits: Tensor = self.last(torch.cat([seen, energy], dim=1))[:, 0]
        return logits


class _Block(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv3d(before, planes, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(planes),
            nn.ReLU(),
            nn.Conv3d(planes, planes, 3, padding=1, bias=False),
            nn.BatchNorm3d(planes),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != planes:
            self.shortcut = nn.Sequential(
                nn.Conv3d(before, planes, 1, stride=stride, bias=False), nn.BatchNorm3d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.path(x) + self.shortcut(x))

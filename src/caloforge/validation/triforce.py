"""Reconstruction test after TriForce: particle classification, and regression of energy and angle.

One network is trained on Geant4 showers and applied to other Geant4 showers and to generated ones. The result
is the difference between the two in identification, energy scale, resolution and direction: the bias of an
experiment that uses the fast simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.errors import DataError
from caloforge.geometry import Detector, RaggedMesh
from caloforge.metrics.feature_table import SparseRows
from caloforge.metrics.resampling import Array
from caloforge.showers import ShowerFile
from caloforge.validation.triforce_result import Applied, TriforceResult, compare

Floats = NDArray[np.float32]
Paths = Path | Sequence[Path]
Progress = Callable[[int, int], object]

READ = 1024
# rad; smallest standard deviation of the incident angle for an angular regression
MIN_ANGLE_SPREAD = 1e-3
# channels of the convolutions, groups of their normalisation, width of the dense layers
PLANES = (24, 32, 48)
GROUPS = 8
HIDDEN = 64
DROPOUT = 0.2
WEIGHT_DECAY = 0.1
# showers for the standardisation of the inputs of the dense layers
SCALING_SHOWERS = 2000


@dataclass(frozen=True)
class TriforceConfig:
    """Hyper-parameters of the training.

    Attributes:
        epochs: Passes over the training showers.
        batch: Showers of a step.
        learning_rate: Of AdamW; falls to zero along a cosine.
        max_showers: Larger samples are thinned to this many showers.
    """

    epochs: int = 10
    batch: int = 64
    learning_rate: float = 2e-3
    max_showers: int = 20_000


def triforce(
    truth_train: Paths,
    truth_test: Paths,
    generated: Paths,
    *,
    seed: int = 0,
    config: TriforceConfig | None = None,
    progress: Progress | None = None,
) -> TriforceResult:
    """Train on Geant4 showers, reconstruct other Geant4 and generated showers, and compare.

    Samples of several particles train the classifier; a single one leaves it out. An angle is learnt where
    the incident theta of the training showers varies.

    Args:
        truth_train: Shower files of the full simulation to train on, of one or more particles.
        truth_test: Shower files of the full simulation that were not trained on.
        generated: Shower files to judge, of the same incident energies and angles as `truth_test`.
        seed: Seed of weights, batches, thinning and uncertainties.
        config: How to train.
        progress: Called with training steps done and all.

    Raises:
        DataError: Files of different detectors or energy meanings, a mesh without images, or a particle that
            the training showers lack.
    """
    config = config or TriforceConfig()
    rng = np.random.default_rng(seed)
    train, test, judged = (
        _Showers.read(_several(paths), config.max_showers, rng)
        for paths in (truth_train, truth_test, generated)
    )
    for sample in (test, judged):
        sample.check_against(train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        network = _Network(train)
        _train(network, train, config, rng, progress)
    return compare(_apply(network, test), _apply(network, judged), classes=train.classes, seed=seed)


def _several(paths: Paths) -> list[Path]:
    return [paths] if isinstance(paths, Path) else [Path(path) for path in paths]


@dataclass(frozen=True)
class _Showers:
    """Showers of one or more files, voxels sparse.

    Attributes:
        path: The first file, for messages.
        detector: Their detector.
        meaning: What their energy means.
        rows: Voxels.
        energy: (N,) incident energy, MeV.
        theta: (N,) incident angle, rad.
        pdg_id: (N,) incident particle.
        visible: (N,) sum over the voxels, MeV; positive.
        scale: Median energy of a filled voxel, MeV.
    """

    path: Path
    detector: Detector
    meaning: str
    rows: SparseRows
    energy: Floats
    theta: Floats
    pdg_id: NDArray[np.int32]
    visible: Floats
    scale: float

    @classmethod
    def read(cls, paths: list[Path], limit: int, rng: np.random.Generator) -> _Showers:
        """Read files in blocks, each reduced to an equal part of the limit."""
        columns: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("energy", "theta", "pdg_id", "visible")
        }
        rows: SparseRows | None = None
        seen: list[ShowerFile] = []
        scales = []
        for path in paths:
            with ShowerFile(path) as file:
                seen.append(file)
                _check_same(seen[0], file)
                rows = rows or SparseRows(math.prod(file.detector.shower_shape))
                kept = np.zeros(len(file), bool)
                kept[rng.permutation(len(file))[: max(1, limit // len(paths))]] = True
                start = 0
                for batch in file.iterate(READ):
                    chosen = batch[kept[start : start + len(batch)]]
                    start += len(batch)
                    if not len(chosen):
                        continue
                    empty = np.zeros((len(chosen), 0))
                    rows.append(empty, chosen.showers.reshape(len(chosen), -1), empty)
                    # lower bound for the logarithm of empty showers
                    columns["visible"].append(np.maximum(chosen.visible_energy(), 1e-3))
                    for name in ("energy", "theta"):
                        columns[name].append(getattr(chosen, f"incident_{name}"))
                    columns["pdg_id"].append(chosen.pdg_id)
                    filled = chosen.showers[chosen.showers > 0]
                    scales.append(float(np.median(filled)) if len(filled) else 0.0)
        assert rows is not None
        arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
        first = seen[0]
        return cls(
            first.path,
            first.detector,
            first.energy_meaning,
            rows.freeze(),
            scale=max(float(np.mean(scales)), 1e-9),
            **arrays,
        )

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def classes(self) -> tuple[int, ...]:
        """PDG numbers, rising."""
        return tuple(int(number) for number in np.unique(self.pdg_id))

    def check_against(self, train: _Showers) -> None:
        """Refuse showers of another detector, energy meaning or particle than the training showers."""
        if (self.detector.geometry_digest, self.meaning) != (train.detector.geometry_digest, train.meaning):
            raise DataError(f"{self.path}: of another detector or energy meaning than {train.path}")
        unknown = sorted(set(self.classes) - set(train.classes))
        if unknown:
            raise DataError(
                f"{self.path}: holds the particles {unknown} (PDG), the training showers only "
                f"{list(train.classes)}"
            )


def _check_same(first: ShowerFile, other: ShowerFile) -> None:
    if isinstance(other.detector.mesh, RaggedMesh):
        raise DataError(
            f"{other.path}: TriForce needs images, but the layers of {other.detector.name} differ"
        )
    if (first.detector.geometry_digest, first.energy_meaning) != (
        other.detector.geometry_digest,
        other.energy_meaning,
    ):
        raise DataError(f"{other.path}: of another detector or energy meaning than {first.path}")


@dataclass
class _Scaling:
    """Mean and spread of a target of the training showers."""

    mean: float
    spread: float = field(default=1.0)

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Scaling:
        return cls(float(np.mean(values)), max(float(np.std(values)), 1e-6))


class _Network(nn.Module):
    """2D convolutions with the layers as channels, joined with energy and centre of each layer."""

    def __init__(self, train: _Showers) -> None:
        super().__init__()
        mesh, shape = train.detector.mesh, train.detector.shower_shape
        assert not isinstance(mesh, RaggedMesh)
        self.shape, self.scale, self.classes = shape, train.scale, train.classes
        self.energy = _Scaling.of(np.log(train.energy / train.visible))
        self.theta = _Scaling.of(train.theta) if np.std(train.theta) > MIN_ANGLE_SPREAD else None
        x, y = (torch.from_numpy(p.ravel() / mesh.half_extent()).float() for p in mesh.positions())
        self.position = torch.stack([x, y], dim=1)
        circular = mesh.kind == "cylindrical"
        stages: list[nn.Module] = []
        before = shape[0]
        for planes in PLANES:
            stages += [_Pad(circular), nn.Conv2d(before, planes, 3), nn.GroupNorm(GROUPS, planes), nn.ReLU()]
            stages.append(nn.MaxPool2d(2, ceil_mode=True))
            before = planes
        self.images = nn.Sequential(*stages)
        self.summary_mean, self.summary_spread = self._scale_summary(train)
        self.dense = nn.Sequential(
            nn.Linear(PLANES[-1] + 3 * shape[0] + 1, HIDDEN),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
        )
        self.heads = nn.Linear(HIDDEN, len(self.classes) + 2)

    def _scale_summary(self, train: _Showers) -> tuple[Tensor, Tensor]:
        """Mean and spread of the summary over some training showers."""
        index = np.arange(0, len(train), max(1, len(train) // SCALING_SHOWERS))
        parts = [
            self._summary(*(torch.from_numpy(a) for a in (train.rows.take(i), train.visible[i])))
            for i in _pieces(index, 256)
        ]
        table = torch.cat(parts)
        return table.mean(dim=0), table.std(dim=0).clamp_min(1e-3)

    def _summary(self, voxels: Tensor, visible: Tensor) -> Tensor:
        """Log fractions of the energy in the layers, their centres, log visible energy."""
        layers = voxels.reshape(-1, *self.shape).flatten(2)
        energy = layers.sum(dim=2) + self.scale
        centre = (layers @ self.position) / energy[:, :, None]
        shares = torch.log(energy / visible[:, None])
        return torch.cat([shares, centre.flatten(1), torch.log(visible)[:, None]], dim=1)

    def forward(self, voxels: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits (b, classes); standardised log(E_inc / E_vis) and theta, (b,)."""
        images = torch.log1p(voxels.reshape(-1, *self.shape) / self.scale)
        seen = self.images(images).mean(dim=(2, 3))
        summary = (self._summary(voxels, visible) - self.summary_mean) / self.summary_spread
        out = self.heads(self.dense(torch.cat([seen, summary], dim=1)))
        return out[:, 2:], out[:, 0], out[:, 1]

    def targets(self, sample: _Showers, index: NDArray[np.integer]) -> tuple[Tensor, Tensor, Tensor]:
        """Targets of `forward`."""
        label = np.searchsorted(self.classes, sample.pdg_id[index])
        residual = np.log(sample.energy[index] / sample.visible[index])
        angle = np.zeros(len(index)) if self.theta is None else _standard(sample.theta[index], self.theta)
        targets = label, _standard(residual, self.energy).astype(np.float32), angle.astype(np.float32)
        return tuple(map(torch.from_numpy, targets))  # type: ignore[return-value]

    def loss(self, sample: _Showers, index: NDArray[np.integer]) -> Tensor:
        """Sum of the losses of class, energy and angle."""
        (logits, energy, angle), (label, residual, theta) = (
            self.ask(sample, index),
            self.targets(sample, index),
        )
        total = nn.functional.smooth_l1_loss(energy, residual)
        if len(self.classes) > 1:
            total = total + nn.functional.cross_entropy(logits, label)
        if self.theta is not None:
            total = total + nn.functional.smooth_l1_loss(angle, theta)
        return total

    def ask(self, sample: _Showers, index: NDArray[np.integer]) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` of some showers."""
        voxels = torch.from_numpy(sample.rows.take(index))
        answer: tuple[Tensor, Tensor, Tensor] = self(voxels, torch.from_numpy(sample.visible[index]))
        return answer


def _standard(values: NDArray[Any], scaling: _Scaling) -> NDArray[Any]:
    result: NDArray[Any] = (values - scaling.mean) / scaling.spread
    return result


class _Pad(nn.Module):
    """Padding by one cell; circular in phi on a cylindrical mesh."""

    def __init__(self, circular: bool) -> None:
        super().__init__()
        self.circular = circular

    def forward(self, image: Tensor) -> Tensor:
        if not self.circular:
            return nn.functional.pad(image, (1, 1, 1, 1))
        return nn.functional.pad(nn.functional.pad(image, (0, 0, 1, 1), mode="circular"), (1, 1, 0, 0))


def _train(
    network: _Network,
    sample: _Showers,
    config: TriforceConfig,
    rng: np.random.Generator,
    progress: Progress | None,
) -> None:
    """Train with AdamW and a cosine schedule; the last weights are used, without a validation split."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY)
    per_epoch = max(1, len(sample) // config.batch)
    steps = config.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for epoch in range(config.epochs):
        for step, index in enumerate(np.array_split(rng.permutation(len(sample)), per_epoch), start=1):
            loss = network.loss(sample, index)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if progress is not None:
                progress(epoch * per_epoch + step, steps)
    network.eval()


def _pieces(index: NDArray[np.integer], size: int) -> Iterator[NDArray[np.integer]]:
    for start in range(0, len(index), size):
        yield index[start : start + size]


def _apply(network: _Network, sample: _Showers) -> Applied:
    """Reconstruct a sample."""
    scores, energies, angles = [], [], []
    with torch.inference_mode():
        for index in _pieces(np.arange(len(sample)), 256):
            logits, energy, angle = network.ask(sample, index)
            scores.append(torch.softmax(logits, dim=1).double().numpy())
            energies.append(energy.double().numpy())
            angles.append(angle.double().numpy())
    ratio: Array = np.exp(np.concatenate(energies) * network.energy.spread + network.energy.mean)
    theta = network.theta
    return Applied(
        energy=sample.energy.astype(np.float64),
        theta=sample.theta.astype(np.float64),
        label=np.searchsorted(network.classes, sample.pdg_id),
        scores=np.concatenate(scores),
        found_energy=sample.visible.astype(np.float64) * ratio,
        found_theta=None if theta is None else np.concatenate(angles) * theta.spread + theta.mean,
    )

"""Test of a single training step before a run: whether it works, its time and its memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.geometry import Detector
from caloforge.models.base import ShowerModel, TrainingBatch, parameter_count
from caloforge.models.registry import ModelConfig, build_model, create_model
from caloforge.models.training_metadata import ASSUMED_RESPONSE, facts_of_beam
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.training.config import TrainingConfig
from caloforge.training.optimizers import build_optimizers
from caloforge.training.precision import autocast, choose_precision

# fraction of voxels with energy in the synthetic showers
OCCUPANCY = 0.1
# float32 copies of the parameters in a checkpoint: weights, moving average, two moments of the optimiser
COPIES = 4


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    Attributes:
        parameters: Number of trained parameters.
        seconds: Wall time of a step of `batch_size` showers, scaled up from the showers of the trial.
        precision: "fp32" or "bf16".
        memory_bytes: Estimated memory of a step: weights, gradients, optimiser and saved activations.
        checkpoint_bytes: Size of a checkpoint.
    """

    parameters: int
    seconds: float
    precision: str
    memory_bytes: int
    checkpoint_bytes: int


def try_step(
    config: ModelConfig,
    training: TrainingConfig,
    detector: Detector,
    beam: BeamConfig,
    data: Path | None,
    *,
    seed: int,
    tried: int = 4,
) -> StepCost:
    """Build the model and run one forward and backward pass of a few showers.

    Args:
        config: The model section of a run.
        training: Its training section.
        detector: Its detector.
        beam: Its beam, for synthetic showers if there is no data.
        data: The shower file to train on.
        seed: Seed of the weights.
        tried: Number of showers in the trial.

    Raises:
        ConfigError: The model does not fit the detector.
        DataError: The file cannot be used.
    """
    if data is None:
        model = build_model(config, detector, facts_of_beam(beam, detector.mesh, training.range), seed=seed)
        showers = synthetic_showers(detector, beam, tried)
    else:
        model = create_model(config, data, seed=seed, beam=beam, claim=training.range)
        with ShowerFile(data) as file:
            showers = file.read(0, tried)
    build_optimizers(model, training.optimizer)
    batch = TrainingBatch.of(showers)
    precision = choose_precision(model, batch, training.precision) if model.optimized() else "fp32"
    kept: list[int] = []
    start = time.perf_counter()
    _run(model, batch, precision, kept)
    seconds = (time.perf_counter() - start) * training.batch_size / len(showers)
    parameters = parameter_count(model)
    activations = max(kept) * training.batch_size // len(showers)
    return StepCost(
        parameters=parameters,
        seconds=seconds,
        precision=precision,
        memory_bytes=activations + (COPIES + 1) * 4 * parameters,
        checkpoint_bytes=COPIES * 4 * parameters,
    )


def _run(model: ShowerModel, batch: TrainingBatch, precision: str, kept: list[int]) -> None:
    """Run a step without updates; appends to `kept` the bytes that each phase saves for its backward pass."""

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[-1] += tensor.numel() * tensor.element_size()
        return tensor

    phases = model.step(batch)
    while True:
        kept.append(0)
        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            autocast(batch.showers.device, precision),
        ):
            phase = next(phases, None)
        if phase is None:
            return
        phase.loss.backward()  # type: ignore[no-untyped-call]


def synthetic_showers(detector: Detector, beam: BeamConfig, count: int) -> ShowerBatch:
    """Random deposits with a realistic energy sum; only their shape matters here."""
    rng = np.random.default_rng(0)
    conditions = sample_conditions(beam, detector.mesh, 0, 0, count)
    shape = (count, *detector.shower_shape)
    showers = rng.exponential(1.0, shape) * (rng.random(shape) < OCCUPANCY)
    wanted = ASSUMED_RESPONSE * conditions.energy
    showers *= (wanted / showers.reshape(count, -1).sum(axis=1)).reshape(-1, *[1] * (len(shape) - 1))
    return conditions.with_showers(showers.astype(np.float32))

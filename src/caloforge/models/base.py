"""The interface of all model families, and the order in which training and generation call it.

The calls of a training and of a generation::

    model = create_model(config, data, seed=...)         # registry.py
    training:    model.fit(showers, rng), once, on the training split
    training:    for phase in model.step(batch): backward(phase.loss), clip, optimiser of phase.optimizer
    training:    model.refit(showers), before weights are evaluated and saved
    generation:  model.generate(condition, noise) -> showers in MeV

What is computed from the data without gradients is computed in `fit` and stored in buffers, so that it is
part of weights and checkpoints; a family that needs no gradients has an empty `optimized`. A family with one
objective defines `loss` only. One with several (a GAN) overrides `step`, a Python generator: the loop updates
the parameters of a phase before it asks for the next one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.conditions import Condition as Condition
from caloforge.config import StrictModel
from caloforge.errors import ConfigError, ModelError
from caloforge.geometry import Detector, RaggedMesh
from caloforge.models.compiled_model import CompiledModel
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerBatch
from caloforge.showers.file import EnergyMeaning


@dataclass(frozen=True)
class TrainingBatch:
    """Showers of the training data, (N, *shower_shape) in MeV, and their incident conditions."""

    showers: Tensor
    condition: Condition

    def __getitem__(self, rows: slice) -> TrainingBatch:
        """Select showers."""
        return TrainingBatch(self.showers[rows], self.condition[rows])

    @classmethod
    def of(cls, batch: ShowerBatch, device: torch.device | str = "cpu") -> TrainingBatch:
        """The tensors of a `ShowerBatch`."""
        return cls(torch.from_numpy(batch.showers).to(device), Condition.of(batch).to(device))


@dataclass(frozen=True)
class Phase:
    """One update: minimise `loss` with the optimiser of that name.

    Attributes:
        optimizer: A key of `ShowerModel.optimized`.
        loss: Scalar with a gradient.
        logs: Values for metrics.jsonl, detached.
        empty_images: Whether all generated showers are empty, a collapse at which training stops.
    """

    optimizer: str
    loss: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    empty_images: Tensor | None = None


class ShowerModel(nn.Module, ABC):
    """Base of every family.

    Attributes:
        family: Name in run.yaml.
        exportable: Whether `generate` can be exported to ONNX: no shape in it may depend on values.
        compilable: Whether the family implements `compiled`.
        takes_impact: Whether `generate` uses `impact_x` and `impact_y` of a condition. Others are trained on
            showers through the axis of the mesh alone; those with other impact points are refused.
        trains_in_bf16: Whether `training.precision` may be bf16.
        config: The family's configuration.
        detector: Detector of the showers; determines their shape.
        facts: Metadata of the training data.
    """

    family: ClassVar[str]
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = False
    takes_impact: ClassVar[bool] = False
    trains_in_bf16: ClassVar[bool] = True

    def __init__(self, config: StrictModel, detector: Detector, facts: DataFacts) -> None:
        """Store configuration, detector and metadata of the training data."""
        super().__init__()
        self.config = config
        self.detector = detector
        self.facts = facts

    @classmethod
    def count_numbers(cls, config: Any, detector: Detector, facts: DataFacts) -> int:
        """Estimate the memory of a model: numbers in weights, tables and activations of one shower.

        Called before an untrusted model is built, so it must be fast for any configuration. By default it
        counts parameters and buffers, on the meta device; a family with other tables, or with activations
        larger than its weights, overrides it.

        Args:
            config: The family's configuration.
            detector: Detector of the showers.
            facts: Metadata of the training data.

        Raises:
            ConfigError: The model does not fit the detector.
        """
        with torch.device("meta"):
            model = cls(config, detector, facts)
        return sum(part.numel() for part in (*model.parameters(), *model.buffers()))

    def check_weights(self) -> None:
        """Refuse weights that `generate` or `compiled` cannot use; called when a model is loaded.

        Types, shapes and finiteness have been checked before, except for shapes that a family sets itself. A
        family checks indices, counts, sizes and divisors here.

        Raises:
            ValueError: Names the tensor, its value and the expectation.
        """

    @classmethod
    def takes_impacts(cls, config: Any) -> bool:  # noqa: ARG003
        """Whether a model of some configuration uses impact points; by default `takes_impact` says it."""
        return cls.takes_impact

    @property
    def ranges(self) -> TrainedRange:
        """Range of the conditions in the training data."""
        return self.facts.ranges

    @property
    def claim(self) -> TrainedRange:
        """Range of the conditions that the model is made for, a part of `ranges` or all of it."""
        return self.facts.claim

    @property
    def energy_meaning(self) -> EnergyMeaning:
        """Meaning of the voxel energies of generated showers."""
        return self.facts.energy_meaning

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise of one shower."""

    @abstractmethod
    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Generate showers: (N, *shower_shape), MeV, not negative.

        A pure function of weights, conditions and noise: shower i depends only on condition i and noise i.

        Args:
            condition: N conditions on the model's device.
            noise: (N, *noise_shape) standard normal.
        """

    def compiled(self) -> CompiledModel:
        """A compiled form of `generate` for the CPU; the weights must not change afterwards.

        It gives the same showers as arrays, up to float rounding, and requests the noise of a few showers at
        a time, which stays in the cache. Several threads may call it at once. The registry names its class,
        so that a stored compiled model can be loaded without torch.
        """
        raise NotImplementedError(f"the family {self.family} has no compiled form")

    def fit(self, batches: Iterable[ShowerBatch], rng: np.random.Generator) -> None:
        """Compute buffers from the training data, without gradients; by default nothing.

        Called once before the first step of a training, not when one is resumed, and on every process with
        the same showers and generator state.

        Args:
            batches: The training split in the order of the file; can be iterated several times.
            rng: Random generator.
        """

    def refit(self, batches: Iterable[ShowerBatch]) -> None:
        """Fit buffers of the sampler to what the trained weights generate; by default nothing.

        Called before weights, averaged ones if there are any, are evaluated and saved. The training goes on
        with the buffers of before.

        Args:
            batches: As in `fit`.
        """

    def transfer_from(self, donor: ShowerModel) -> list[str]:  # noqa: ARG002
        """Start the learned parts from a trained model of another detector; called before `fit`.

        Args:
            donor: The trained model.

        Returns:
            Notes for the user: what could not be taken over.

        Raises:
            ModelError: Nothing can be taken over from such a model.
        """
        raise ModelError(
            f"a model of the family {self.family} cannot start from one of another detector; --start takes "
            "the weights of a model of the same network"
        )

    def start_from_library(self, folder: Path) -> tuple[dict[str, str], list[str]]:  # noqa: ARG002
        """Let `fit` use the showers of a library of other detectors as well; called before it.

        Args:
            folder: Of the library.

        Returns:
            What it is, for the card: name, detectors, SHA-256; and notes for the user.

        Raises:
            ModelError: It is damaged, or of no use for this detector.
        """
        raise ModelError(
            f"a model of the family {self.family} cannot start from showers of other detectors; take the "
            "family layered"
        )

    def loss(self, batch: TrainingBatch) -> Tensor:
        """The loss of a family with one objective, a scalar."""
        raise NotImplementedError(f"the family {self.family} has no single loss; its step() is overridden")

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:
        """The updates for one batch, in order; torch's random generator is seeded by the loop."""
        loss = self.loss(batch)
        yield Phase("model", loss, {"loss": loss.detach()})

    def optimized(self) -> dict[str, nn.Module]:
        """The parts with an optimiser of their own, by name; by default the whole model."""
        return {"model": self}

    def rate(self, part: str) -> float:  # noqa: ARG002
        """Factor of the learning rate of a part at the next step; by default 1."""
        return 1.0

    def sampler(self) -> nn.Module:
        """The part that `generate` uses, of which the moving average of the weights (EMA) is kept."""
        return self

    def example_noise(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Noise for `count` showers, from torch's random generator."""
        return torch.randn((count, *self.noise_shape), device=device)


def require_regular_mesh(detector: Detector, family: str) -> tuple[int, int, int]:
    """Shape (nz, ny, nx) or (nz, nphi, nr) of a shower, for families that need a regular grid.

    Raises:
        ConfigError: The mesh is ragged.
    """
    from caloforge.models.registry import families_for

    if isinstance(detector.mesh, RaggedMesh):
        cells = [layer.n_voxels for layer in detector.mesh.layers]
        raise ConfigError(
            f"model {family}: the mesh of {detector.name} is ragged, its layers have {min(cells)} to "
            f"{max(cells)} cells; this family needs a cartesian or cylindrical mesh, the same cells in every "
            f"layer. Families that take a ragged one: {', '.join(families_for(detector))}"
        )
    nz, first, second = detector.shower_shape
    return nz, first, second


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def card_facts(model: ShowerModel) -> dict[str, Any]:
    """The JSON document from which, with the weights, a model can be rebuilt."""
    return {
        "family": model.family,
        "config": model.config.model_dump(mode="json"),
        "detector": model.detector.model_dump(mode="json"),
        "facts": model.facts.model_dump(mode="json"),
    }

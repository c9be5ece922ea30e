"""The protocol of every model family: what the training loop and the generation call, in which order.

The calls of a training and of a generation::

    model = create_model(config, data, seed=...)         # registry.py
    loop:      model.fit(showers, rng), once, on the training split
    loop:      for phase in model.step(batch): backward(phase.loss), clip, optimiser of phase.optimizer
    generate:  model.generate(condition, noise) -> showers in MeV

What can be computed from the data without gradients is computed in `fit` and kept in buffers, so that it is
part of weights and checkpoints; a family that is then ready has an empty `optimized`. A family with a single
objective writes `loss` only. One with several (a GAN) overrides `step`, a Python
generator: between two phases the loop has updated the parameters of the earlier one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.config import StrictModel
from caloforge.geometry import Detector, RaggedMesh
from caloforge.models.columns import Columns, CompiledForm
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerBatch
from caloforge.showers.file import EnergyMeaning


@dataclass(frozen=True)
class Condition:
    """What is asked of a model for N showers; tensors of shape (N,).

    Attributes:
        energy: Incident kinetic energy, MeV, float32.
        theta: Polar angle, rad, float32.
        phi: Azimuth, rad, float32.
        pdg_id: Particle, int32.
    """

    energy: Tensor
    theta: Tensor
    phi: Tensor
    pdg_id: Tensor

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Some of the conditions."""
        return Condition(self.energy[rows], self.theta[rows], self.phi[rows], self.pdg_id[rows])

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return Condition(
            self.energy.to(device), self.theta.to(device), self.phi.to(device), self.pdg_id.to(device)
        )

    def columns(self) -> Columns:
        """The same as arrays."""
        return Columns(*(part.numpy() for part in (self.energy, self.theta, self.phi, self.pdg_id)))

    @classmethod
    def of(cls, batch: ShowerBatch) -> Condition:
        """The conditions of some showers."""
        return cls(
            energy=torch.from_numpy(batch.incident_energy),
            theta=torch.from_numpy(batch.incident_theta),
            phi=torch.from_numpy(batch.incident_phi),
            pdg_id=torch.from_numpy(batch.pdg_id),
        )


@dataclass(frozen=True)
class TrainingBatch:
    """Real showers, (N, *shower_shape) in MeV, and what made them."""

    showers: Tensor
    condition: Condition

    def __getitem__(self, rows: slice) -> TrainingBatch:
        """Some of the showers."""
        return TrainingBatch(self.showers[rows], self.condition[rows])

    @classmethod
    def of(cls, batch: ShowerBatch, device: torch.device | str = "cpu") -> TrainingBatch:
        """From a batch in memory."""
        return cls(torch.from_numpy(batch.showers).to(device), Condition.of(batch).to(device))


@dataclass(frozen=True)
class Phase:
    """One update: minimise `loss` with the optimiser of that name.

    Attributes:
        optimizer: A key of `ShowerModel.optimized`.
        loss: Scalar with a graph.
        logs: Numbers for metrics.jsonl, detached.
        empty_images: Whether the generated showers hold no energy at all (a collapse the loop stops at).
    """

    optimizer: str
    loss: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    empty_images: Tensor | None = None


class ShowerModel(nn.Module, ABC):
    """Base of every family.

    Attributes:
        family: Name in run.yaml.
        exportable: Whether `generate` can be a graph for other runtimes: no shape in it depends on values.
        compilable: Whether the family has `compiled`.
        config: The family's configuration.
        detector: What the showers are made in; fixes their shape.
        facts: What is known of the training data.
    """

    family: ClassVar[str]
    exportable: ClassVar[bool] = True
    compilable: ClassVar[bool] = False

    def __init__(self, config: StrictModel, detector: Detector, facts: DataFacts) -> None:
        """Keep what the model is for."""
        super().__init__()
        self.config = config
        self.detector = detector
        self.facts = facts

    @classmethod
    def count_numbers(cls, config: Any, detector: Detector, facts: DataFacts) -> int:
        """How many numbers a model would hold at once: weights, tables, and what a shower takes on its way.

        It is asked before a stranger's model is built, so it must be cheap for any configuration. By default
        the parameters and buffers, counted without memory; a family whose tables are made of arrays, or whose
        layers are larger than its weights, counts itself.

        Args:
            config: The family's configuration.
            detector: What the showers are made in.
            facts: What is known of the training data.

        Raises:
            ConfigError: The model does not fit the detector.
        """
        with torch.device("meta"):
            model = cls(config, detector, facts)
        return sum(part.numel() for part in (*model.parameters(), *model.buffers()))

    def check_weights(self) -> None:
        """Refuse weights that `generate` or `compiled` cannot use; called when a model is loaded.

        That they are finite, of the types and, but for sizes of its own, of the shapes of this model has been
        checked. A family checks here what is an index, a count, a size or a divisor.

        Raises:
            ValueError: With the name, what it holds and what was expected.
        """

    @property
    def ranges(self) -> TrainedRange:
        """Conditions of the training data."""
        return self.facts.ranges

    @property
    def energy_meaning(self) -> EnergyMeaning:
        """What a voxel's energy means in the showers it makes."""
        return self.facts.energy_meaning

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise of one shower."""

    @abstractmethod
    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        """Showers for conditions: (N, *shower_shape), MeV, not negative.

        A pure function of weights, conditions and noise: shower i depends only on condition i and noise i.

        Args:
            condition: N conditions on the model's device.
            noise: (N, *noise_shape) standard normal.
        """

    def compiled(self) -> CompiledForm:
        """`generate` as machine code for one thread of a CPU; the weights must not change afterwards.

        The same showers up to float rounding, over arrays. It asks for the noise of a few showers at a time,
        so that it is used while it is in the cache. May be called by several threads at once. The registry
        names its class, so that it can be had again without torch.
        """
        raise NotImplementedError(f"the family {self.family} has no compiled form")

    def fit(self, batches: Iterable[ShowerBatch], rng: np.random.Generator) -> None:
        """Compute what is not learned by gradients, and keep it in buffers; by default nothing.

        Called once before the first step of a training, never when one is resumed, and on every process with
        the same showers and generator state.

        Args:
            batches: The training split in the order of the file, read anew by every iteration.
            rng: For whatever is random in the fit.
        """

    def loss(self, batch: TrainingBatch) -> Tensor:
        """The objective of a family that has one; scalar."""
        raise NotImplementedError(f"the family {self.family} has no single loss; its step() is overridden")

    def step(self, batch: TrainingBatch) -> Iterator[Phase]:
        """The updates of one batch, in order; torch's generator is seeded by the loop."""
        loss = self.loss(batch)
        yield Phase("model", loss, {"loss": loss.detach()})

    def optimized(self) -> dict[str, nn.Module]:
        """The parts that have an optimiser each, by name; by default the whole model."""
        return {"model": self}

    def rate(self, part: str) -> float:  # noqa: ARG002
        """Factor on the learning rate of a part at the next step; by default 1."""
        return 1.0

    def sampler(self) -> nn.Module:
        """The part that `generate` uses; the average of the weights is kept for it."""
        return self

    def example_noise(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Noise for `count` showers from torch's generator."""
        return torch.randn((count, *self.noise_shape), device=device)


def require_regular_mesh(detector: Detector, family: str) -> tuple[int, int, int]:
    """Shape (nz, ny, nx) or (nz, nphi, nr) of a shower, for families that need a regular grid.

    Raises:
        ConfigError: The mesh is ragged.
    """
    from caloforge.errors import ConfigError
    from caloforge.models.registry import families_for

    if isinstance(detector.mesh, RaggedMesh):
        raise ConfigError(
            f"model {family}: the mesh of {detector.name} is ragged; this family needs a cartesian or "
            f"cylindrical mesh. Families that take a ragged one: {', '.join(families_for(detector))}"
        )
    nz, first, second = detector.shower_shape
    return nz, first, second


def parameter_count(module: nn.Module) -> int:
    """Numbers a module learns."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def card_facts(model: ShowerModel) -> dict[str, Any]:
    """The JSON document that, with the weights, makes the model again."""
    return {
        "family": model.family,
        "config": model.config.model_dump(mode="json"),
        "detector": model.detector.model_dump(mode="json"),
        "facts": model.facts.model_dump(mode="json"),
    }

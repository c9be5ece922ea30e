"""The training section of a run; importing it does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from caloforge.beam import ClaimedRange
from caloforge.config import StrictModel

Precision = Literal["auto", "fp32", "bf16"]
Tracker = Literal["tensorboard", "mlflow"]
MOST_FOLDS = 1000


class OptimizerConfig(StrictModel):
    """Optimiser and learning rates, the same for each trained part of the model.

    `rates` sets the learning rate of single parts ("generator": 2e-4). `schedule` "cosine" decays to
    `final_share` of the learning rate at the last step. `decay` is rho of RMSprop or beta2 of Adam.
    """

    kind: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    learning_rate: float = Field(default=1e-3, gt=0)
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    decay: float = Field(default=0.9, gt=0, lt=1)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    epsilon: float = Field(default=1e-7, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    final_share: float = Field(default=0.01, ge=0, le=1)
    gradient_clip: float | None = Field(default=None, gt=0)


class EvaluationConfig(StrictModel):
    """Held-out showers, and how often the model is evaluated on them.

    A random fraction `share` of the file, drawn with `seed`, is held out from the training. Every
    `every_epochs` the model generates up to `showers` showers under the conditions of held-out ones and is
    compared with them by the figure of merit P + E. Which showers are held out does not depend on the seed of
    the training, so that trainings with different seeds are comparable. `fold` [f, k] holds out part f, from
    0, of k equal parts instead of `share`. `patience` stops the training after that many evaluations without
    improvement. The run directory keeps the `best` model or the `last` one.
    """

    keep: Literal["best", "last"] = "best"
    share: float = Field(default=0.1, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    fold: tuple[int, int] | None = None
    showers: int = Field(default=1000, ge=20)
    every_epochs: float = Field(default=1.0, gt=0)
    patience: int | None = Field(default=None, ge=1)

    @field_validator("fold")
    @classmethod
    def _one_of(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not (0 <= value[0] < value[1] and 2 <= value[1] <= MOST_FOLDS):
            raise ValueError(
                f"got {list(value)}, expected [f, k] with 0 <= f < k and k from 2 to {MOST_FOLDS}"
            )
        return value


class DistributionConfig(StrictModel):
    """Data-parallel training by several processes; no effect for a single one, except `timeout_seconds`.

    `allreduce` averages the gradients of all processes, in buckets of `bucket_megabytes`. `local-sgd`
    averages the weights every `every` steps. `elastic` pulls the weights of each process towards a centre,
    and the centre towards them, every `every` steps with `force`, between 0 and 1. `hierarchical` averages
    the weights in groups of `group_size` processes every `every` steps and over all every `across_every`. If
    a process does not answer within `timeout_seconds`, the job ends.
    """

    kind: Literal["allreduce", "local-sgd", "elastic", "hierarchical"] = "allreduce"
    bucket_megabytes: float = Field(default=4.0, gt=0, le=1024)
    every: int = Field(default=4, ge=1)
    force: float = Field(default=0.9, gt=0, le=1)
    group_size: int = Field(default=4, ge=1)
    across_every: int = Field(default=16, ge=1)
    timeout_seconds: float = Field(default=600.0, ge=1)

    @model_validator(mode="after")
    def _multiple_of_every(self) -> Self:
        if self.kind == "hierarchical" and self.across_every % self.every:
            raise ValueError(
                f"across_every: got {self.across_every}, expected a multiple of every ({self.every}): the "
                "mean over all processes replaces one within the groups"
            )
        return self


class TrainingConfig(StrictModel):
    """How a model is trained.

    A batch has `batch_size` showers on each process, or fewer if the file has fewer. The training ends after
    `epochs`, `max_steps` or `max_minutes`, whichever comes first. `precision` "auto" times fp32 and bf16 on a
    small batch and takes the faster. `ema` is the decay per step of the moving average of the weights that
    generate. `augment` replaces each shower by a random one of its mirror images and rotations under the
    symmetries of the detector. `range` narrows the energies and angles that the model is made
    for: the showers may be simulated a little beyond them. A checkpoint is written every
    `checkpoint_minutes`, every `checkpoint_steps` if given, and at the end of each epoch. `cache` is a folder
    on a local disk of each machine to which the shower file is copied first.
    """

    batch_size: int = Field(default=64, ge=2, le=65536)
    epochs: int = Field(default=30, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    precision: Precision = "auto"
    ema: float | None = Field(default=0.999, gt=0, lt=1)
    augment: bool = True
    range: ClaimedRange | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    loader_workers: int = Field(default=0, ge=0, le=64)
    threads: int | None = Field(default=None, ge=1)
    cache: str | None = Field(default=None, min_length=1)
    distribution: DistributionConfig = DistributionConfig()
    trackers: tuple[Tracker, ...] = ()

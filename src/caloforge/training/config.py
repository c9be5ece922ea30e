"""Configuration of the training; importing it does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caloforge.config import StrictModel

Precision = Literal["auto", "fp32", "bf16"]
Tracker = Literal["tensorboard", "mlflow"]


class OptimizerConfig(StrictModel):
    """One optimiser for each part of the model that has one.

    `rates` gives single parts another learning rate ("generator": 2e-4). `schedule` "cosine" falls to
    `final_share` of the rate at the last step. `decay` is rho of RMSprop or beta2 of Adam.
    """

    kind: Literal["rmsprop", "adam", "adamw"] = "rmsprop"
    learning_rate: float = Field(default=1e-3, gt=0)
    rates: dict[str, float] = Field(default_factory=dict)
    decay: float = Field(default=0.9, gt=0, lt=1)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    epsilon: float = Field(default=1e-7, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    final_share: float = Field(default=0.01, ge=0, le=1)
    gradient_clip: float | None = Field(default=None, gt=0)


class EvaluationConfig(StrictModel):
    """Held-out showers, and how often the model is judged on them.

    `share` of the file, at its end, is never trained on; up to `showers` of it are generated again every
    `every_epochs` and compared by the figure of merit P + E. `patience` stops the training after that many
    evaluations without a better one. The run directory keeps the `best` model or the `last` one.
    """

    keep: Literal["best", "last"] = "best"
    share: float = Field(default=0.1, gt=0, lt=1)
    showers: int = Field(default=1000, ge=20)
    every_epochs: float = Field(default=1.0, gt=0)
    patience: int | None = Field(default=None, ge=1)


class TrainingConfig(StrictModel):
    """How a model is trained.

    The training ends after `epochs`, `max_steps` or `max_minutes`, whichever comes first. `precision` "auto"
    times both arithmetics on a small batch and takes the faster. `ema` averages the weights that generate
    with this decay a step. `augment` shows each shower in a random one of the mirror images and turns that
    the detector has. A checkpoint is written every `checkpoint_minutes` and at the end of each epoch.
    """

    batch_size: int = Field(default=64, ge=2, le=65536)
    epochs: int = Field(default=30, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    precision: Precision = "auto"
    ema: float | None = Field(default=0.999, gt=0, lt=1)
    augment: bool = True
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    loader_workers: int = Field(default=0, ge=0, le=64)
    threads: int | None = Field(default=None, ge=1)
    trackers: tuple[Tracker, ...] = ()

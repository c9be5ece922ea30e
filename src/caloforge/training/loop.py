"""The training loop: batch, phases of the model, backward, average over processes, clip, check, update.

Everything random in step n (noise, dropout, label flips, augmentation) comes from generators seeded with
(seed, n, rank): a checkpoint needs to hold no generator, and a resumed training is the same, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from caloforge.errors import Interrupted, TrainingError
from caloforge.models.base import Phase, ShowerModel, TrainingBatch
from caloforge.models.facts import data_record
from caloforge.models.store import save_model
from caloforge.models.symmetries import symmetries
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.showers.dataset import ShowerBatches
from caloforge.signals import StopRequest
from caloforge.training.arithmetic import autocast, choose_precision
from caloforge.training.augment import augment
from caloforge.training.average import average_of, swapped, update_average
from caloforge.training.checkpoint import (
    Progress,
    check_identity,
    checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from caloforge.training.config import TrainingConfig
from caloforge.training.data import TrainingShowers, split_showers
from caloforge.training.evaluation import Evaluation
from caloforge.training.identity import identity_of
from caloforge.training.log import MetricsLog
from caloforge.training.optimizers import build_optimizers, learning_rate
from caloforge.training.processes import any_process, average_gradients, shared

# a generator may make empty images for its first steps; later it has collapsed
COLLAPSE_STEP = 10
# tells the generator of the fit from those of the steps, which have three numbers
FIT_STREAM = 2**32 - 1
ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainingResult:
    """What came out of a training.

    Attributes:
        steps: Batches trained on in all.
        best: Best figure of merit.
        reason: Why it ended: "epochs", "steps", "minutes", "patience" or "fitted".
    """

    steps: int
    best: float
    reason: str


def train_model(
    model: ShowerModel,
    data: Path,
    config: TrainingConfig,
    out: Path,
    *,
    seed: int,
    resume: bool = False,
    progress: ProgressCallback | None = None,
) -> TrainingResult:
    """Train a model; the run directory gets checkpoints/, metrics.jsonl and model/, the best one so far.

    Args:
        model: With its first weights.
        data: The shower file.
        config: How to train.
        out: The run directory.
        seed: Seed of everything random; with one device the same seed gives the same weights.
        resume: Continue from the newest checkpoint of the run directory.
        progress: Called with (step, total steps, note).

    Raises:
        ConfigError: Too few showers for a batch.
        TrainingError: A loss is not finite, the generator collapsed, or there is nothing to resume.
        ModelError: The checkpoint is damaged or of another version.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    return Trainer(model, data, config, out, seed=seed, resume=resume).run(progress)


class Trainer:
    """One training of one model on one shower file."""

    def __init__(
        self, model: ShowerModel, data: Path, config: TrainingConfig, out: Path, *, seed: int, resume: bool
    ) -> None:
        """Prepare data, optimisers and, to resume, the newest checkpoint; see `train_model`."""
        self.config, self.out, self.data, self.seed = config, out, data, seed
        # Accelerate sees several processes without a GPU only where it is told so
        self.accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        self.device = self.accelerator.device
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        self.model = model.to(self.device).train()
        self.detector = model.detector
        self.symmetries = symmetries(model.detector, model.ranges)[: None if config.augment else 1]
        self.optimizers = build_optimizers(model, config.optimizer)
        split, count = split_showers(data, config, self.ranks)
        self.record = data_record(data, split)
        if not resume:
            model.fit(TrainingShowers(data, split), np.random.default_rng([seed, FIT_STREAM]))
        self.average = average_of(model.sampler()) if config.ema is not None else None
        self.batches = ShowerBatches(
            data,
            config.batch_size,
            indices_range=(0, split),
            seed=seed,
            rank=self.rank,
            world_size=self.ranks,
        )
        self.total = config.epochs * len(self.batches)
        if config.max_steps is not None:
            self.total = min(self.total, config.max_steps)
        if not self.optimizers:
            self.total = 0
        self.evaluate_every = max(1, round(config.evaluation.every_epochs * len(self.batches)))
        self.evaluation = Evaluation(data, split, min(count, split + config.evaluation.showers))
        self.progress = Progress(identity=identity_of(model, data, config, seed, self.ranks))
        if resume:
            self._resume()
        else:
            self.progress.precision = shared(
                self.accelerator,
                choose_precision(model, self._first_batch(), config.precision) if self.total else "fp32",
            )
        self.log = MetricsLog(self.accelerator, out, config, self.progress)
        self.seconds_before = self.progress.seconds

    def _first_batch(self) -> TrainingBatch:
        with ShowerFile(self.data) as file:
            return TrainingBatch.of(file.read(0, 2), self.device)

    def _resume(self) -> None:
        found = checkpoints(self.out / "checkpoints")
        if not found:
            raise TrainingError(f"{self.out}: no checkpoint to resume from; train without --resume")
        check_identity(found[-1], read_state(found[-1])["progress"]["identity"], self.progress.identity)
        self.progress = load_checkpoint(found[-1], self.model, self.average, self.optimizers)

    # ---- the loop

    def run(self, report: ProgressCallback | None = None) -> TrainingResult:
        """Train until an end is reached.

        Raises:
            TrainingError: A loss or gradient is not finite, or the generator makes empty images.
            Interrupted: SIGINT or SIGTERM came; everything is saved.
        """
        if not self.total:
            return self._fitted()
        start = self.saved = time.monotonic()
        with StopRequest() as stop, torch.random.fork_rng():
            for batch in self._showers():
                logs = self._step(batch)
                self.progress.seconds = self.seconds_before + time.monotonic() - start
                self.log.add(self.progress, logs, self._rate("generator"))
                if report is not None:
                    report(self.progress.step, self.total, self.log.note)
                reason = self._after_step(stop)
                if reason:
                    break
        self.log.close()
        assert self.progress.best is not None
        return TrainingResult(self.progress.step, self.progress.best, reason or "epochs")

    def _fitted(self) -> TrainingResult:
        """A family without gradient steps is ready once it is fitted."""
        self._evaluate()
        self._save()
        self.log.close()
        assert self.progress.best is not None
        return TrainingResult(0, self.progress.best, "fitted")

    def _showers(self) -> Iterator[ShowerBatch]:
        """Batches of all epochs, from where the training stands; counts epochs and batches."""
        p = self.progress
        while p.epoch < self.config.epochs:
            self.batches.set_epoch(p.epoch)
            self.batches.skip(p.batch)
            for batch in DataLoader(self.batches, batch_size=None, num_workers=self.config.loader_workers):
                p.batch += 1
                if p.batch == len(self.batches):
                    p.epoch, p.batch = p.epoch + 1, 0
                yield batch

    def _step(self, showers: ShowerBatch) -> dict[str, Tensor]:
        """All updates of one batch."""
        key = [self.seed, self.progress.step, self.rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1)
        showers = augment(showers, self.detector, self.symmetries, np.random.default_rng([*key, 1]))
        batch = TrainingBatch.of(showers, self.device)
        logs: dict[str, Tensor] = {}
        phases = self.model.step(batch)
        while True:
            with autocast(self.device, self.progress.precision):
                phase = next(phases, None)
            if phase is None:
                break
            self._update(phase)
            logs |= phase.logs
        if self.average is not None and self.config.ema is not None:
            update_average(self.average, self.model.sampler(), self.config.ema, self.progress.step)
        self.progress.step += 1
        return logs

    def _update(self, phase: Phase) -> None:
        optimizer = self.optimizers[phase.optimizer]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(phase.loss)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        average_gradients(self.accelerator, parameters)
        limit = self.config.optimizer.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit if limit is not None else float("inf"))
        if not (torch.isfinite(norm) and torch.isfinite(phase.loss)):
            raise TrainingError(self._not_finite(phase))
        if (
            self.progress.step >= COLLAPSE_STEP
            and phase.empty_images is not None
            and bool(phase.empty_images)
        ):
            raise TrainingError(
                f"step {self.progress.step}: the generator makes empty images only; it has collapsed. "
                "Train anew with another --seed, or a smaller training.optimizer.learning_rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = self._rate(phase.optimizer)
        optimizer.step()

    def _rate(self, name: str) -> float:
        rate = learning_rate(self.config.optimizer, name, self.progress.step, self.total)
        return rate * self.model.rate(name)

    def _not_finite(self, phase: Phase) -> str:
        values = ", ".join(f"{name} {float(value):.4g}" for name, value in phase.logs.items())
        return (
            f"step {self.progress.step}: the {phase.optimizer} loss or gradient is not finite ({values}); "
            "stopped before the update. Lower training.optimizer.learning_rate, set "
            "training.optimizer.gradient_clip, or check the data with: caloforge inspect"
        )

    # ---- between steps

    def _after_step(self, stop: StopRequest) -> str | None:
        """Evaluate, save, and say why the training ends here, if it does."""
        p, limits = self.progress, self.config
        reason = None
        if p.step >= self.total:
            reason = "steps" if p.epoch < limits.epochs else "epochs"
        elif any_process(
            self.accelerator, limits.max_minutes is not None and p.seconds > 60 * limits.max_minutes
        ):
            reason = "minutes"
        if reason or p.step % self.evaluate_every == 0:
            self._evaluate()
            if limits.evaluation.patience is not None and p.waited >= limits.evaluation.patience:
                reason = reason or "patience"
        due = time.monotonic() - self.saved > 60 * limits.checkpoint_minutes
        interrupted = any_process(self.accelerator, stop.requested)
        if reason or interrupted or p.batch == 0 or any_process(self.accelerator, due):
            self._save()
        if interrupted and not reason:
            self.log.close()
            raise Interrupted(
                f"stopped after step {p.step}; everything is saved. Continue: the same caloforge train "
                "command with --resume"
            )
        return reason

    def _evaluate(self) -> None:
        """Judge the averaged weights; keep the model if it is the best so far."""
        p = self.progress
        if self.accelerator.is_main_process:
            with swapped(self.model.sampler(), self.average):
                found = self.evaluation(self.model, self.device, p.precision)
                better = p.best is None or found["merit"] < p.best
                if better:
                    p.best, p.waited = found["merit"], -1
                if better or self.config.evaluation.keep == "last":
                    facts = {"merit": found["merit"], "step": p.step, "epoch": p.epoch, "seed": self.seed}
                    state = dict(self.model.state_dict())
                    save_model(self.model, self.out / "model", state, **facts, data=[self.record])
            p.waited += 1
            self.log.evaluated(p, found)
        p.best, p.waited = shared(self.accelerator, (p.best, p.waited))

    def _save(self) -> None:
        self.log.note_unlogged(self.progress)
        if self.accelerator.is_main_process:
            folder = self.out / "checkpoints"
            save_checkpoint(
                folder,
                self.progress,
                self.model,
                self.average,
                self.optimizers,
                keep=self.config.keep_checkpoints,
            )
        self.saved = time.monotonic()
        self.accelerator.wait_for_everyone()

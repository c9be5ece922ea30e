"""The course of a training: which batch of which epoch comes next, when to evaluate, when it is over."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader

from caloforge.showers import ShowerBatch
from caloforge.showers.dataset import ShowerBatches
from caloforge.training.checkpoint import Progress
from caloforge.training.config import TrainingConfig
from caloforge.training.timers import Clock


class Course:
    """Batches of all epochs, from where a training stands.

    Attributes:
        total: Steps of the whole training.
    """

    def __init__(self, batches: ShowerBatches, config: TrainingConfig, progress: Progress) -> None:
        """Take up a training at its progress; an epoch begun by other processes is shared out anew."""
        self.batches, self.config, self.progress = batches, config, progress
        self._epoch_steps = len(batches)
        if progress.processes != batches.world_size:
            if progress.batch:
                progress.parts.append([progress.processes, progress.batch])
            progress.processes, progress.batch = batches.world_size, 0
        self._enter()
        left = len(batches) - progress.batch + (config.epochs - progress.epoch - 1) * self._epoch_steps
        self.total = progress.step + max(0, left)
        if config.max_steps is not None:
            self.total = min(self.total, config.max_steps)
        self._evaluate_every = max(1, round(config.evaluation.every_epochs * self._epoch_steps))

    def _enter(self) -> None:
        """Set the batches to the epoch; one whose rest is too small for all processes is over."""
        p = self.progress
        self.batches.set_epoch(p.epoch, p.parts)
        if not len(self.batches):
            p.epoch, p.batch, p.parts = p.epoch + 1, 0, []
            self.batches.set_epoch(p.epoch)
        self.batches.skip(p.batch)

    def showers(self, clock: Clock) -> Iterator[tuple[ShowerBatch, float]]:
        """Batches and their weights in the mean over processes; counts epochs and batches."""
        p = self.progress
        while p.epoch < self.config.epochs:
            self._enter()
            loader = iter(DataLoader(self.batches, batch_size=None, num_workers=self.config.loader_workers))
            for number in range(p.batch, len(self.batches)):
                with clock.count("input"):
                    batch = next(loader)
                p.batch += 1
                if p.batch == len(self.batches):
                    p.epoch, p.batch, p.parts = p.epoch + 1, 0, []
                yield batch, self.batches.weight(number)

    def evaluation_due(self) -> bool:
        """Whether the model is to be judged after this batch; counted from the ends of the epochs."""
        p = self.progress
        done = p.epoch * self._epoch_steps
        if p.batch:
            done += self._epoch_steps - len(self.batches) + p.batch
        return done % self._evaluate_every == 0

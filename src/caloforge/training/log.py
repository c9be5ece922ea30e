"""Log of a training: metrics.jsonl, with a line per interval and per evaluation, and experiment trackers."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from caloforge.errors import MissingDependencyError
from caloforge.files import write_text, writing
from caloforge.run_directory import METRICS, TRACKERS
from caloforge.training.checkpoint import Progress
from caloforge.training.config import TrainingConfig
from caloforge.training.logged_values import COMMON, progress_text
from caloforge.training.timers import TimeSplit

# steps averaged in one line
INTERVAL = 10


class MetricsLog:
    """Writes means of the values that the phases of a model report; only rank 0 writes.

    Attributes:
        note: Short text with the last values, for a progress bar.
    """

    def __init__(
        self, accelerator: Accelerator, out: Path, config: TrainingConfig, progress: Progress
    ) -> None:
        """Prepare the log; lines are buffered until `open`.

        Raises:
            MissingDependencyError: A tracker is not installed.
        """
        self.accelerator, self.config, self.note = accelerator, config, ""
        self.out, self.path = out, out / METRICS
        self._start_step = progress.step
        self._buffered: list[dict[str, float]] | None = []
        self._sums = {name: torch.tensor(value) for name, value in progress.unlogged.items()}
        self._count = progress.unlogged_steps
        self._merit = ""
        self._trackers = bool(config.trackers)
        for name in config.trackers:
            if importlib.util.find_spec(name) is None:
                raise MissingDependencyError(
                    f"the tracker {name} is not installed; run: pip install 'caloforge[track]'"
                )

    def open(self) -> None:
        """Begin to write; drops lines of an interrupted run that are later than the resumed checkpoint."""
        if self._buffered is None:
            return
        buffered, self._buffered = self._buffered, None
        if not self.accelerator.is_main_process:
            return
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        first = self._start_step
        lines = self.path.read_text(encoding="utf-8").splitlines() if first and self.path.exists() else []
        kept = [line for line in lines if _step_of(line) <= first]
        write_text(self.path, "".join(f"{line}\n" for line in kept))
        if self._trackers:
            folder = self.out / TRACKERS
            folder.mkdir(exist_ok=True)
            # without a server MLflow would create its database in the working directory
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').absolute()}")
            self.accelerator.log_with = _tracker_types(self.config.trackers)
            self.accelerator.project_configuration.logging_dir = str(folder)
            settings = _flat(self.config.model_dump(mode="json"))
            self.accelerator.init_trackers("caloforge", config=settings)
        for row in buffered:
            self._append(row)

    def add(self, progress: Progress, logs: dict[str, Tensor], rate: float) -> None:
        """Add the values of one step; every `INTERVAL` steps a line with their means is written."""
        for name, value in logs.items():
            self._sums[name] = self._sums[name].to(value.device) + value if name in self._sums else value
        self._count += 1
        # at fixed steps, so that a resumed training writes the same lines
        if progress.step % INTERVAL == 0:
            self._write_means(progress, rate)

    def note_unlogged(self, progress: Progress) -> None:
        """Store the values not yet written in the progress, for a checkpoint."""
        progress.unlogged = {name: float(value) for name, value in self._sums.items()}
        progress.unlogged_steps = self._count

    def _write_means(self, progress: Progress, rate: float) -> None:
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        self.note = f"{progress_text(means)} {self._merit}".strip()
        self._write(progress, means | {"learning_rate": rate})

    def add_evaluation(self, progress: Progress, found: dict[str, float], seconds: TimeSplit) -> None:
        """Write the result of an evaluation and the wall time by activity."""
        self._merit = f"merit {found['merit']:.3g}"
        if progress.waited and progress.best is not None and progress.best_step is not None:
            self._merit += f", best {progress.best:.3g} at step {progress.best_step}"
        spent = {f"seconds_{name}": round(value, 3) for name, value in asdict(seconds).items()}
        self._write(progress, {f"eval_{name}": value for name, value in found.items()} | spent)

    def _write(self, progress: Progress, values: dict[str, float]) -> None:
        if not self.accelerator.is_main_process:
            return
        row = {
            "step": progress.step,
            "epoch": progress.epoch,
            "seconds": round(progress.seconds, 3),
            **values,
        }
        if self._buffered is None:
            self._append(row)
        else:
            self._buffered.append(row)

    def _append(self, row: dict[str, float]) -> None:
        with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if self._trackers:
            values = {name: value for name, value in row.items() if name not in COMMON}
            self.accelerator.log(values, step=int(row["step"]))

    def close(self) -> None:
        """Close the trackers."""
        if self._trackers and self._buffered is None:
            self.accelerator.end_training()


def _step_of(line: str) -> float:
    """Step of a line; infinity for a truncated line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _tracker_types(names: tuple[str, ...]) -> list[Any]:
    from accelerate.utils import LoggerType

    return [LoggerType(name) for name in names]


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to "a.b": value, as trackers expect."""
    result: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return result

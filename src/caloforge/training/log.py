"""metrics.jsonl, one line an interval and one an evaluation, and the trackers that follow it."""

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
from caloforge.training.checkpoint import Progress
from caloforge.training.config import TrainingConfig
from caloforge.training.curves import COMMON, shown
from caloforge.training.timers import TimeSplit

METRICS = "metrics.jsonl"
# steps averaged in one line
INTERVAL = 10


class MetricsLog:
    """Means of what the phases report; written by the main process only.

    Attributes:
        note: The last values, short, for a progress bar.
    """

    def __init__(
        self, accelerator: Accelerator, out: Path, config: TrainingConfig, progress: Progress
    ) -> None:
        """Nothing is written before `open`; lines until then are kept.

        Raises:
            MissingDependencyError: A tracker that is not installed.
        """
        self.accelerator, self.config, self.note = accelerator, config, ""
        self.out, self.path = out, out / METRICS
        self._first = progress.step
        self._waiting: list[dict[str, float]] | None = []
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
        """Begin to write; lines beyond the first step, of a run that was cut off, are dropped."""
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        if not self.accelerator.is_main_process:
            return
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        first = self._first
        lines = self.path.read_text(encoding="utf-8").splitlines() if first and self.path.exists() else []
        kept = [line for line in lines if _step_of(line) <= first]
        write_text(self.path, "".join(f"{line}\n" for line in kept))
        if self._trackers:
            folder = self.out / "trackers"
            folder.mkdir(exist_ok=True)
            # with no server named by the user, MLflow would put its data base into the working directory
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').absolute()}")
            self.accelerator.log_with = _tracker_types(self.config.trackers)
            self.accelerator.project_configuration.logging_dir = str(folder)
            settings = _flat(self.config.model_dump(mode="json"))
            self.accelerator.init_trackers("caloforge", config=settings)
        for row in waiting:
            self._append(row)

    def add(self, progress: Progress, logs: dict[str, Tensor], rate: float) -> None:
        """Take the values of one step; writes a line when an interval is full."""
        for name, value in logs.items():
            self._sums[name] = self._sums[name].to(value.device) + value if name in self._sums else value
        self._count += 1
        # at fixed steps, so that a resumed training writes the same lines
        if progress.step % INTERVAL == 0:
            self._write_means(progress, rate)

    def note_unlogged(self, progress: Progress) -> None:
        """Put what no line holds yet into the progress, for a checkpoint."""
        progress.unlogged = {name: float(value) for name, value in self._sums.items()}
        progress.unlogged_steps = self._count

    def _write_means(self, progress: Progress, rate: float) -> None:
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        self.note = f"{shown(means)} {self._merit}".strip()
        self._write(progress, means | {"learning_rate": rate})

    def evaluated(self, progress: Progress, found: dict[str, float], seconds: TimeSplit) -> None:
        """Write the result of an evaluation, and where the time of this run went so far."""
        self._merit = f"merit {found['merit']:.3g}"
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
        if self._waiting is None:
            self._append(row)
        else:
            self._waiting.append(row)

    def _append(self, row: dict[str, float]) -> None:
        with writing(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if self._trackers:
            values = {name: value for name, value in row.items() if name not in COMMON}
            self.accelerator.log(values, step=int(row["step"]))

    def close(self) -> None:
        """End the trackers."""
        if self._trackers and self._waiting is None:
            self.accelerator.end_training()


def _step_of(line: str) -> float:
    """Step of a line; a line that a kill cut short belongs to no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _tracker_types(names: tuple[str, ...]) -> list[Any]:
    from accelerate.utils import LoggerType

    return [LoggerType(name) for name in names]


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as "a.b": value, which is what trackers take."""
    result: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return result

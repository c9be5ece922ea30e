"""Checkpoints, from which a training continues bitwise identically; written atomically."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from caloforge.errors import ModelError
from caloforge.files import write_text, writing
from caloforge.models.base import ShowerModel
from caloforge.models.store import load_state, read_tensors, write_tensors

FORMAT_VERSION = 2
STATE = "state.json"


@dataclass
class Progress:
    """State of a training that is not a tensor.

    Attributes:
        step: Steps done.
        epoch: Current epoch, from 0.
        batch: Batches of the epoch done by the current number of processes.
        processes: Number of processes.
        parts: Earlier parts of the epoch, done by other numbers of processes: [processes, batches] each.
        seconds: Wall time of all runs so far.
        best: Best figure of merit, None before the first evaluation.
        best_step: Its step; None in checkpoints of earlier versions until there is a better one.
        waited: Evaluations since the best one.
        evaluated: Step of the last evaluation, -1 before the first.
        precision: "fp32" or "bf16", chosen once for the whole training.
        unlogged: Sums, by name, of the values since the last line of the log.
        unlogged_steps: Number of steps in these sums.
        identity: Configuration, data and seed of the training, see `fingerprint.py`.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    processes: int = 1
    parts: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    evaluated: int = -1
    precision: str = "fp32"
    unlogged: dict[str, float] = field(default_factory=dict)
    unlogged_steps: int = 0
    identity: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    model: ShowerModel,
    ema: nn.Module | None,
    optimizers: dict[str, Optimizer],
    *,
    keep: int,
) -> Path:
    """Write `folder`/step-N and remove all but the newest `keep`."""
    target = folder / f"step-{progress.step:08d}"
    partial = folder / f".{target.name}.partial"
    parts = {"model": dict(model.state_dict())}
    if ema is not None:
        parts["average"] = dict(ema.state_dict())
    groups = {}
    for name, optimizer in optimizers.items():
        parts[f"optimizer-{name}"], groups[name] = _flatten(optimizer)
    document = {"format_version": FORMAT_VERSION, "progress": asdict(progress), "optimizers": groups}
    try:
        with writing(target):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        document["sha256"] = {
            name: write_tensors(partial / f"{name}.safetensors", tensors) for name, tensors in parts.items()
        }
        write_text(partial / STATE, json.dumps(document, indent=1))
        with writing(target):
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
    finally:
        # frees the space if the disk was full
        shutil.rmtree(partial, ignore_errors=True)
    prune_checkpoints(folder, keep)
    return target


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and incomplete ones left by a killed process."""
    kept = checkpoints(folder)[-keep:]
    for path in [*folder.glob("step-*"), *folder.glob(".step-*.partial")]:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Folders of the complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).is_file())


def load_checkpoint(
    path: Path, model: ShowerModel, ema: nn.Module | None, optimizers: dict[str, Optimizer]
) -> Progress:
    """Load a checkpoint into model, moving average and optimisers.

    Raises:
        ModelError: The checkpoint is damaged, changed, of another version or of another model.
    """
    document = read_state(path)
    try:
        progress = Progress(**document["progress"])
        digests, groups = document["sha256"], document["optimizers"]
        load_state(model, read_tensors(path / "model.safetensors", digests["model"]), path)
        if ema is not None:
            ema.load_state_dict(read_tensors(path / "average.safetensors", digests["average"]))
        for name, optimizer in optimizers.items():
            part = f"optimizer-{name}"
            tensors = read_tensors(path / f"{part}.safetensors", digests[part])
            optimizer.load_state_dict(_unflatten(tensors, groups[name]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path}: not a checkpoint of this model ({error}); train anew with --force"
        ) from error
    return progress


def read_state(path: Path) -> dict[str, Any]:
    """Read the JSON part of a checkpoint.

    Raises:
        ModelError: It is damaged or of another version.
    """
    try:
        document = json.loads((path / STATE).read_text(encoding="utf-8"))
        version = document["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path / STATE}: cannot be read; remove {path} and resume from an older one"
        ) from error
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: checkpoint version {version}, this caloforge reads {FORMAT_VERSION}; continue with the "
            "caloforge that wrote it, or train anew with --force"
        )
    return document  # type: ignore[no-any-return]


def _flatten(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Split the state of an optimiser into tensors, keyed "parameter.name", and JSON for the groups."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entry in state["state"].items()
        for name, value in entry.items()
    }
    return tensors, state["param_groups"]


def _unflatten(tensors: dict[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    restored = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in groups]
    return {"state": state, "param_groups": restored}

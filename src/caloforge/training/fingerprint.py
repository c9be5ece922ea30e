"""What a training is: configuration, data and seed. A checkpoint continues exactly one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from caloforge.errors import TrainingError
from caloforge.models.base import ShowerModel
from caloforge.provenance import differences
from caloforge.showers import ShowerFile
from caloforge.training.config import TrainingConfig
from caloforge.training.data_split import Split

# may change from one run to the next: how long, how often it is saved or judged, where it is told
FREE = {
    "epochs": True,
    "max_steps": True,
    "max_minutes": True,
    "checkpoint_minutes": True,
    "checkpoint_steps": True,
    "keep_checkpoints": True,
    "loader_workers": True,
    "threads": True,
    "trackers": True,
    "cache": True,
    "evaluation": {"every_epochs", "patience", "keep"},
    # how many processes there are may change, so may how they work together
    "distribution": True,
    # chosen once and kept in the checkpoint
    "precision": True,
}
# changes that a message names
NAMED = 4


def identity_of(
    model: ShowerModel, data: Path, split: Split, config: TrainingConfig, seed: int
) -> dict[str, Any]:
    """What must be the same in every run of a training; JSON-compatible."""
    with ShowerFile(data) as file:
        digest = hashlib.sha256(file.column("incident_energy").tobytes())
        digest.update(f"{len(file)} {file.detector.geometry_digest}".encode())
    # NumPy may draw other numbers from the same seed one day
    digest.update(split.trained.astype("<i8").tobytes())
    return {
        "model": model.config.model_dump(mode="json"),
        "training": config.model_dump(mode="json", exclude=FREE),  # type: ignore[arg-type]
        "trained range": model.ranges.model_dump(mode="json"),
        "data": digest.hexdigest()[:12],
        "seed": seed,
    }


def check_identity(
    path: Path, found: dict[str, Any], expected: dict[str, Any], precision: tuple[str, str]
) -> None:
    """Refuse to continue another training.

    Args:
        path: The checkpoint.
        found: Its identity.
        expected: The identity of the training that is to go on.
        precision: Arithmetic of the checkpoint, and the one that is asked for.

    Raises:
        TrainingError: With the settings that differ.
    """
    changes = list(differences(found, expected))
    if precision[1] not in ("auto", precision[0]):
        changes.append(f'training.precision: "{precision[0]}" then, "{precision[1]}" now')
    if changes:
        more = f"; and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
        raise TrainingError(
            f"{path}: this checkpoint is of another training: {'; '.join(changes[:NAMED])}{more}. Resume it "
            "with its own settings, data and seed, or train anew with --force"
        )

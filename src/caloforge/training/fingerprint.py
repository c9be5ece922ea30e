"""Fingerprint of a training: configuration, data and seed, which must not change when it is resumed."""

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

# settings that may change when a training is resumed
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
    # the number of processes may change, and with it the strategy
    "distribution": True,
    # does not change the training
    "range": True,
    # checked separately: the checkpoint holds the choice
    "precision": True,
}
# differences listed in an error message
NAMED = 4


def training_fingerprint(
    model: ShowerModel, data: Path, split: Split, config: TrainingConfig, seed: int
) -> dict[str, Any]:
    """Collect what must be the same in every run of a training, as JSON-compatible values."""
    with ShowerFile(data) as file:
        digest = hashlib.sha256(file.column("incident_energy").tobytes())
        digest.update(f"{len(file)} {file.detector.geometry_digest}".encode())
    # explicitly, since a later NumPy may draw other numbers from the same seed
    digest.update(split.train.astype("<i8").tobytes())
    return {
        "model": model.config.model_dump(mode="json"),
        "training": config.model_dump(mode="json", exclude=FREE),  # type: ignore[arg-type]
        "trained range": model.ranges.model_dump(mode="json"),
        "data": digest.hexdigest()[:12],
        "seed": seed,
    }


def check_fingerprint(
    path: Path, found: dict[str, Any], expected: dict[str, Any], precision: tuple[str, str]
) -> None:
    """Check that a checkpoint belongs to the training that is to be resumed.

    Args:
        path: The checkpoint.
        found: Fingerprint stored in it.
        expected: Fingerprint of the training to resume.
        precision: Precision of the checkpoint, and the configured one.

    Raises:
        TrainingError: The fingerprints differ; the message lists the settings.
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

"""What a training is: configuration, data and seed. A checkpoint continues exactly one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from caloforge.models.base import ShowerModel
from caloforge.provenance import digest_json
from caloforge.showers import ShowerFile
from caloforge.training.config import TrainingConfig

# may change from one run to the next: how long, how often it is saved, where it is told
FREE = {
    "epochs",
    "max_steps",
    "max_minutes",
    "checkpoint_minutes",
    "checkpoint_steps",
    "keep_checkpoints",
    "loader_workers",
    "threads",
    "trackers",
    "cache",
    # how many processes there are may change, so may how they work together
    "distribution",
    # chosen once and kept in the checkpoint
    "precision",
}


def identity_of(model: ShowerModel, data: Path, config: TrainingConfig, seed: int) -> dict[str, str]:
    """Digests by what they stand for."""
    with ShowerFile(data) as file:
        facts = hashlib.sha256(file.column("incident_energy").tobytes())
        facts.update(f"{len(file)} {file.detector.geometry_digest}".encode())
    return {
        "model configuration": digest_json(model.config.model_dump(mode="json")),
        "training configuration": digest_json(config.model_dump(mode="json", exclude=FREE)),
        "data": facts.hexdigest(),
        "seed": str(seed),
    }

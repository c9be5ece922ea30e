"""What a file of generated showers says of its origin. Importing this does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caloforge.generation.plan import Plan, packages_of
from caloforge.models.store import StoredModel
from caloforge.provenance import collect, digest_file


def provenance_of(model: StoredModel, plan: Plan, seed: int, asked: dict[str, Any]) -> dict[str, Any]:
    """The provenance of the showers of a model.

    Args:
        model: The model.
        plan: How it runs.
        seed: Seed of the noise and of sampled conditions.
        asked: Where the conditions are from: `like` a file, or a `beam`.
    """
    return collect(
        packages=("numba",) if plan.backend == "numba" else ("torch", *packages_of(plan)),
        seed=seed,
        engine="caloforge generate",
        family=model.family,
        model_digest=model.weights_sha256,
        **asked,
        backend=plan.backend,
        precision=plan.precision,
    )


def like(path: Path) -> dict[str, Any]:
    """The entry of a file that conditions are taken from."""
    return {"like": {"name": path.name, "sha256": digest_file(path)}}

"""The simulator of campaigns in which a model makes the showers that it can."""

from __future__ import annotations

from typing import Any

from caloforge.fastsim import ledger
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.model import FastModel, plan_of
from caloforge.fullsim.campaign import Simulator
from caloforge.geometry import Detector
from caloforge.models.store import StoredModel

# version of gate and placement; increase it whenever a change gives other showers for the same seed
ALGORITHM = 1


def simulator_of(stored: StoredModel, detector: Detector, config: FastSimConfig) -> Simulator:
    """The simulator with a model at the gate of Geant4.

    The model is loaded once, so that what is wrong is known before any worker starts, and compiled code is
    in the cache.

    Args:
        stored: The model.
        detector: The simulated detector.
        config: Which particles the model takes.

    Raises:
        ConfigError: The model does not fit the detector.
        ModelError: It is damaged.
    """
    FastModel(stored, detector, config)
    settings = {
        "fast": {
            "model_digest": stored.digest,
            "config": config.model_dump(mode="json"),
            "backend": plan_of(stored).backend,
            "algorithm": ALGORITHM,
        }
    }
    return Simulator(
        module="caloforge.fastsim.worker",
        settings=settings,
        job={**settings, "model": str(stored.folder.absolute()), "allow_large": stored.allow_large},
        packages=("numba",) if plan_of(stored).backend == "numba" else ("torch",),
        summary=lambda rows: {"fast_simulation": {"model": stored.folder.name, **_summary(rows)}},
    )


def _summary(rows: Any) -> dict[str, Any]:
    return ledger.summary(rows)

"""The worker process of a fast simulation, `python -m caloforge.fastsim.worker`.

It answers as `caloforge.campaign.worker` says.
"""

from __future__ import annotations

from typing import Any

from caloforge.beam import BeamConfig
from caloforge.campaign.worker import Simulates, main
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.model import FastModel
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector
from caloforge.models.store import read_model


def _open(job: dict[str, Any]) -> Simulates:
    detector = Detector.model_validate(job["detector"])
    stored = read_model(job["model"], allow_large=job["allow_large"])
    model = FastModel(stored, detector, FastSimConfig.model_validate(job["fast"]["config"]))
    # loads Geant4
    from caloforge.fastsim.application import GatedApplication

    return GatedApplication(
        detector,
        BeamConfig.model_validate(job["beam"]),
        FullSimConfig.model_validate(job["fullsim"]),
        model,
    )


if __name__ == "__main__":
    main(_open)

"""The worker process of simulated events, `python -m caloforge.fastsim.events.worker`.

It answers as `caloforge.campaign.worker` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caloforge.campaign.worker import Simulates, main
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.events.reading import EventReader
from caloforge.fastsim.events.transport import Face
from caloforge.fastsim.model import FastModel
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector
from caloforge.models.store import read_model


def _open(job: dict[str, Any]) -> Simulates:
    detector, model = Detector.model_validate(job["detector"]), None
    if job["model"] is not None:
        config = FastSimConfig.model_validate(job["fast"]["config"])
        model = FastModel(read_model(job["model"]), detector, config)
    # loads Geant4
    from caloforge.fastsim.events.application import EventApplication

    return EventApplication(
        EventReader(Path(job["events"])),
        detector,
        Face(**job["face"]),
        FullSimConfig.model_validate(job["fullsim"]),
        model,
        steps=job["steps"],
    )


if __name__ == "__main__":
    main(_open)

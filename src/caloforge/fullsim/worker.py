"""The worker process of simulated showers, `python -m caloforge.fullsim.worker`.

It answers as `caloforge.campaign.worker` says.
"""

from __future__ import annotations

from typing import Any

from caloforge.beam import BeamConfig
from caloforge.campaign.worker import Simulates, main
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector


def _open(job: dict[str, Any]) -> Simulates:
    from caloforge.fullsim.application import Application

    return Application(
        Detector.model_validate(job["detector"]),
        BeamConfig.model_validate(job["beam"]),
        FullSimConfig.model_validate(job["fullsim"]),
    )


if __name__ == "__main__":
    main(_open)

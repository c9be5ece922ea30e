"""Named settings of the layered family; importing it does not import torch."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "base": {"likelihood_steps": 900, "matching_steps": 400},
    # seconds of training; for tests and the demo
    "debug": {
        "stored_showers": 256,
        "likelihood_steps": 40,
        "matching_steps": 20,
    },
}

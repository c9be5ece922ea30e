"""Named settings of the layered family; importing it does not import torch."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "base": {"channels": 3, "condition_width": 64, "likelihood_steps": 3000, "lesson_steps": 1000},
    # seconds of training; for tests and the demo
    "debug": {
        "channels": 1,
        "condition_width": 8,
        "likelihood_steps": 40,
        "lesson_steps": 20,
        "critic": {"width": 8},
    },
}

"""Named settings of the layered family; importing it does not import torch."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "base": {"likelihood_steps": 3000, "lesson_steps": 1000},
    # seconds of training; for tests and the demo
    "debug": {
        "donors": 256,
        "likelihood_steps": 40,
        "lesson_steps": 20,
        "critic": {"width": 8},
    },
}

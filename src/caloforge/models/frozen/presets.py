"""Presets by size of the library; an electron of 10 to 500 GeV in the CLIC calorimeter takes about 10 kB."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "base": {"showers": 20_000},
    "small": {"showers": 2_000},
    "debug": {"showers": 100, "neighbours": 3},
}

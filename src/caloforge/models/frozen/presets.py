"""Sizes of the library: 20 000 CLIC showers fill 60 MB, 2 000 fit into a package."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "base": {"showers": 20_000},
    "small": {"showers": 2_000},
    "debug": {"showers": 100, "neighbours": 3},
}

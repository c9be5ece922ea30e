"""The ledger of simulated events: that of the gate, and what was not simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge import number_format
from caloforge.fastsim import ledger
from caloforge.fastsim.events.transport import NOT_SIMULATED
from caloforge.units import format_energy

# columns after those of the gate: kinetic energy and number of what was not simulated, by reason, and the
# visible energy of cells below the threshold
_NAMES = (*NOT_SIMULATED, *(f"n_{reason}" for reason in NOT_SIMULATED), "below_threshold")
EXTRA = {name: place for place, name in enumerate(_NAMES)}


def summary(rows: NDArray[np.float64]) -> dict[str, Any]:
    """Sums over events, JSON-compatible; see `caloforge.fastsim.ledger.summary`.

    Args:
        rows: Shape (N, columns).
    """
    gate, extra = rows[:, : len(ledger.COLUMNS)], rows[:, len(ledger.COLUMNS) :].sum(axis=0)
    return {
        **ledger.summary(gate),
        "not_simulated": {
            reason: {"particles": int(extra[EXTRA[f"n_{reason}"]]), "energy": float(extra[EXTRA[reason]])}
            for reason in NOT_SIMULATED
        },
        "below_threshold": float(extra[EXTRA["below_threshold"]]),
    }


def lines(totals: Mapping[str, Any]) -> list[str]:
    """The summary in words."""
    text = []
    for reason, words in NOT_SIMULATED.items():
        count, energy = (totals["not_simulated"][reason][key] for key in ("particles", "energy"))
        if count:
            shown = format_energy(float(f"{energy:.4g}"))
            text.append(f"  not simulated, {words}: {count} particles, {shown}")
    started = ledger.lines(totals)
    lost = totals["below_threshold"]
    below = [f"  below the threshold of a cell: {number_format.plain(lost)} MeV visible"] if lost else []
    return [*text, *started[:-1], *below, started[-1]]

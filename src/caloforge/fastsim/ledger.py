"""The ledger of fast simulation: where the particles and the energy of each event went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge import number_format
from caloforge.units import format_energy

# where the energy of the incident particles of an event goes: the first three are the electrons, positrons
# and photons at the gate that stay with Geant4, and why
GIVEN_BACK = ("kind", "energy", "direction")
ROUTES = ("taken", *GIVEN_BACK, "tracked", "left")
# what takes wall time
STAGES = ("geant4", "gate", "model", "placement")
# columns: incident energy, energy and particles of each route, visible energies, and wall times in s
COLUMNS = (
    "primary",
    *ROUTES,
    *(f"n_{route}" for route in ROUTES),
    "n_off_centre",
    "generated",
    "leaked",
    *(f"{stage}_s" for stage in STAGES),
)
COLUMN = {name: place for place, name in enumerate(COLUMNS)}

MEANINGS = {
    "taken": "simulated by the model",
    "kind": "given back to Geant4: the model was not trained on these particles",
    "energy": "given back to Geant4: energy below the threshold or outside of the trained range",
    "direction": "given back to Geant4: direction outside of the acceptance",
    "tracked": "tracked by Geant4",
    "left": "did not enter through the front face",
}


def summary(ledger: NDArray[np.float64]) -> dict[str, Any]:
    """Sums over events, JSON-compatible: particles and energy (MeV) by route, visible energies, times (s).

    Args:
        ledger: Shape (N, columns).
    """
    total = {name: float(value) for name, value in zip(COLUMNS, ledger.sum(axis=0), strict=True)}
    return {
        "energy": {name: total[name] for name in ("primary", *ROUTES)},
        "particles": {name: int(total[f"n_{name}"]) for name in ROUTES},
        "off_centre": int(total["n_off_centre"]),
        "visible": {name: total[name] for name in ("generated", "leaked")},
        "seconds": {name: total[f"{name}_s"] for name in STAGES},
    }


def seconds_of(ledger: NDArray[np.float64]) -> NDArray[np.float32]:
    """Wall time of each event, s, shape (N,)."""
    seconds: NDArray[np.float64] = ledger[:, [COLUMN[f"{name}_s"] for name in STAGES]].sum(axis=1)
    return seconds.astype(np.float32)


def lines(totals: Mapping[str, Any]) -> list[str]:
    """The summary in words, a line for each route that was used."""
    energy, particles, visible = totals["energy"], totals["particles"], totals["visible"]
    whole = energy["primary"] or 1.0
    text = [
        f"  {MEANINGS[name]}: {particles[name]} particles, {format_energy(float(f'{energy[name]:.4g}'))} "
        f"({number_format.percent(energy[name] / whole)})"
        for name in ROUTES
        if particles[name]
    ]
    if totals["off_centre"]:
        text.append(
            f"  {totals['off_centre']} of those of the model entered a cell off its centre, which the model "
            "does not know: their showers are those of the centre"
        )
    if visible["leaked"]:
        share = number_format.percent(visible["leaked"] / visible["generated"])
        text.append(f"  of the generated visible energy, {share} lies outside of the plates: leakage")
    seconds = totals["seconds"]
    used = ", ".join(f"{name} {number_format.duration(value)}" for name, value in seconds.items())
    return [*text, f"  time of all workers: {used}"]

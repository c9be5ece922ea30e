"""Summaries of a model for `caloforge list` and `caloforge inspect`."""

from __future__ import annotations

import math
from typing import Any

from caloforge.amounts import size
from caloforge.beam import PARTICLES
from caloforge.cards.figures import EVERYWHERE, write_floor, write_number, write_time
from caloforge.units import format_energy

Json = dict[str, Any]


def conditions(card: Json) -> dict[str, str]:
    """The trained range as text: particles, energy, angles.

    Args:
        card: A model.json.
    """
    ranges = card["facts"]["ranges"]
    names = {number: name for name, number in PARTICLES.items()}
    particles = ", ".join(names.get(number, f"PDG {number}") for number in ranges["pdg_ids"])
    # rounded: the extremes of a sample lie slightly inside the limits of its beam
    energy = _span([format_energy(float(f"{value:.3g}")) for value in ranges["energy"]])
    angles = {key: _span([f"{math.degrees(v):.4g} deg" for v in ranges[key]]) for key in ("theta", "phi")}
    return {"particles": particles, "energy": energy, **angles}


def _span(limits: list[str]) -> str:
    return " to ".join(dict.fromkeys(limits))


def one_line(card: Json) -> str:
    """Family, detector, particles and energies of a model in one line."""
    found = conditions(card)
    return f"{card['family']}, {card['detector']['name']}, {found['particles']}, {found['energy']}"


def describe_model(card: Json) -> Json:
    """The main facts of a model, for `caloforge inspect`.

    Args:
        card: A model.json.
    """
    facts: Json = {
        "family": card["family"],
        "detector": card["detector"]["name"],
        **conditions(card),
        "voxels": f"{card['facts']['energy_meaning']} energy, MeV",
        "parameters": card["parameters"],
    }
    if "weights_bytes" in card:
        facts["weights"] = f"{size(card['weights_bytes'])}, SHA-256 {card['weights_sha256'][:12]}"
    for key in ("merit", "step", "epoch", "seed"):
        if card.get(key) is not None:
            facts[key] = card[key]
    facts["precisions"] = ", ".join(card["facts"].get("precisions", ["fp32"]))
    written = card.get("card")
    if not written:
        return facts
    for report in written["validations"]:
        facts[f"against {report['showers']} Geant4 showers, {report['precision']}"] = {
            figure["label"]: {
                "value": write_number(figure["value"], figure["unit"], figure["uncertainty"]),
                "Geant4 against Geant4": write_floor(figure),
            }
            for figure in report["figures"]
            if figure["where"] == EVERYWHERE
        }
        facts[f"verdict, {report['precision']}"] = report["verdict"]
    if written["timing"]:
        fastest = min(written["timing"]["rows"], key=lambda row: float(row["ms"]))
        facts["fastest"] = (
            f"{write_time(fastest['ms'])} ms a shower, {fastest['backend']} {fastest['precision']}"
        )
    return facts

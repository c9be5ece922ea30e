"""Summary of a model for `caloforge inspect`."""

from __future__ import annotations

from typing import Any

from caloforge.cards.figures import EVERYWHERE, write_floor, write_number, write_time
from caloforge.models.released import trained_conditions
from caloforge.number_format import size

Json = dict[str, Any]


def describe_model(card: Json) -> Json:
    """The main facts of a model, for `caloforge inspect`.

    Args:
        card: A model.json.
    """
    facts: Json = {
        "family": card["family"],
        "detector": card["detector"]["name"],
        **trained_conditions(card),
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

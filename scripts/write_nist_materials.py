"""Write geometry/nist_materials.json from the material data base of the installed Geant4.

    python scripts/write_nist_materials.py

The table lets caloforge know every G4_* material, its radiation length and its misspellings without loading
Geant4. A test compares it with the live Geant4.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from caloforge.fullsim.geant4_import import load_geant4

TARGET = Path(__file__).parents[1] / "src/caloforge/geometry/nist_materials.json"


def read_table() -> dict[str, Any]:
    """What the installed Geant4 knows, in the layout of the JSON file."""
    g4 = load_geant4()
    manager = g4.G4NistManager.Instance()
    unit = g4.g / g4.cm3
    materials, elements, excitation = {}, {}, {}
    for name in map(str, manager.GetNistMaterialNames()):
        material = manager.FindOrBuildMaterial(name, False)
        parts = [material.GetElement(i) for i in range(material.GetNumberOfElements())]
        for part in parts:
            elements[str(part.GetName())] = [round(part.GetZ()), _rounded(part.GetN())]
        materials[name] = {
            "density": _rounded(material.GetDensity() / unit),
            "gas": str(material.GetState()).endswith("Gas"),
            "fractions": {
                str(part.GetName()): _rounded(fraction)
                for part, fraction in zip(parts, material.GetFractionVector(), strict=True)
            },
        }
    for symbol in sorted(elements):
        ionisation = manager.FindOrBuildMaterial(f"G4_{symbol}", False).GetIonisation()
        excitation[symbol] = _rounded(ionisation.GetMeanExcitationEnergy() / g4.eV)
    return {
        "source": "G4NistManager of Geant4 11.4; density in g/cm3, fractions by mass, elements as [Z, A], "
        "mean excitation energy in eV",
        "elements": dict(sorted(elements.items())),
        "excitation": excitation,
        "materials": materials,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.8g}")


if __name__ == "__main__":
    TARGET.write_text(json.dumps(read_table(), separators=(",", ":")) + "\n")

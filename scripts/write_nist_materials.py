"""Write geometry/nist_materials.json from the material data base of the installed Geant4.

    python scripts/write_nist_materials.py

The table lets caloforge know every G4_* material, its radiation length and its misspellings without loading
Geant4. A test compares it with the live Geant4.
"""

from __future__ import annotations

import json
from pathlib import Path

from caloforge.fullsim.environment import load_geant4

TARGET = Path(__file__).parents[1] / "src/caloforge/geometry/nist_materials.json"


def main() -> None:
    g4 = load_geant4()
    manager = g4.G4NistManager.Instance()
    unit = manager.FindOrBuildMaterial("G4_W").GetDensity() / 19.3
    materials, elements = {}, {}
    for name in map(str, manager.GetNistMaterialNames()):
        material = manager.FindOrBuildMaterial(name, False)
        parts = [material.GetElement(i) for i in range(material.GetNumberOfElements())]
        for part in parts:
            elements[str(part.GetName())] = [round(part.GetZ()), float(f"{part.GetN():.8g}")]
        materials[name] = {
            "density": float(f"{material.GetDensity() / unit:.8g}"),
            "gas": str(material.GetState()).endswith("Gas"),
            "fractions": {
                str(part.GetName()): float(f"{fraction:.8g}")
                for part, fraction in zip(parts, material.GetFractionVector(), strict=True)
            },
        }
    source = "G4NistManager of Geant4 11.4; density in g/cm3, fractions by mass, elements as [Z, A]"
    table = {"source": source, "elements": dict(sorted(elements.items())), "materials": materials}
    TARGET.write_text(json.dumps(table, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

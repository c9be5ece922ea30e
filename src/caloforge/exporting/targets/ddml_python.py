"""Target `ddml-python`: the embedded Python of DDML, with the layout of its model CaloClouds.

DDML imports a module and calls a function of it for each particle; see `caloforge_ddml.py`, which is copied
into the folder. Any cartesian mesh, odd numbers of cells and angles are possible here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from caloforge.errors import ModelError
from caloforge.exporting.contract import Contract, plain_contract, require_visible, the_only_particle
from caloforge.exporting.targets.ddml import require_cartesian, steering_text
from caloforge.models.base import ShowerModel

CONSUMER = "DDML"
# of the CaloClouds model
LAYERS = 30
MODULE = "caloforge_ddml"
ENTRY_POINTS = {"2025-06": "run_inference_2025_06", "2026": "run_inference_2026"}


def contract(model: ShowerModel) -> Contract:
    """The plain contract, with the module that serves it.

    Raises:
        ModelError: The model has another mesh, more layers than DDML's CaloClouds, particles, or another
            meaning of energy.
    """
    detector = model.detector
    require_cartesian(detector)
    if detector.n_layers > LAYERS:
        raise ModelError(
            f"DDML's CaloClouds has {LAYERS} layers, {detector.name} {detector.n_layers}; take --target onnx"
        )
    require_visible(model, CONSUMER)
    particle = the_only_particle(model, CONSUMER)
    facts = {
        "ddml": {"model": "CaloCloudsTwoAngleModel", "particle": particle, "entry_points": dict(ENTRY_POINTS)}
    }
    return replace(plain_contract(model), facts=facts, texts=_texts)


def _texts(document: Mapping[str, Any]) -> dict[str, str]:
    values = {
        "PythonPath": ".",
        "PythonModule": MODULE,
        "EntryPoint": ENTRY_POINTS["2026"],
        "ModelPath": document["graph"]["file"],
        "IntraOpNumThreads": 1,
    }
    plugin = "CaloCloudsTwoAngleModelPolyhedraBarrelPyEmbeddedModel/BarrelModelPython"
    module = resources.files("caloforge.exporting.embedded") / f"{MODULE}.py"
    return {
        f"{MODULE}.py": module.read_text(encoding="utf-8"),
        "ddsim_steer.py": steering_text(document, plugin, values),
    }

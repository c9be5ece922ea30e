"""Creation of a run.yaml for a shower file: `caloforge init --from`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from caloforge.beam import PARTICLES, BeamConfig
from caloforge.config import build, parse_yaml
from caloforge.errors import ConfigError, DataError
from caloforge.geometry import Detector, load_detector, preset_names
from caloforge.models.registry import families_for
from caloforge.run import recipe_text
from caloforge.showers import ShowerFile
from caloforge.showers.joined_provenance import engine_of
from caloforge.showers.summary import LISTED_ENERGIES, needs_log_axis, particle_name
from caloforge.units import format_angle, format_energy

# significant digits of the limits of energies and angles, rounded outwards
DIGITS = 4
# recipe whose model and training settings suit any regular mesh
RECIPE = "clic-electron-layered"
WIDTH = 110


def run_from_showers(path: Path) -> str:
    """The YAML of a run that trains on a shower file.

    A shipped detector is written as its name, any other in full. The beam is the one in the provenance of the
    file, or has the range of its showers. Model and training are those of the layered recipe,
    or of the first family that takes the mesh.

    Args:
        path: A shower file.

    Raises:
        DataError: The file cannot be used, has several particles, or one that no beam has.
    """
    with ShowerFile(path) as file:
        detector, provenance = file.detector, file.provenance
        columns = {name: file.column(name) for name in ("incident_energy", "incident_theta", "incident_phi")}
        pdg_ids = np.unique(file.column("pdg_id"))
        count, meaning = len(file), file.energy_meaning
    beam = {
        "particle": _particle(path, pdg_ids),
        "energy": _energies(columns["incident_energy"].astype(np.float64)),
        "theta": _angles(columns["incident_theta"].astype(np.float64)),
        "phi": _angles(columns["incident_phi"].astype(np.float64)),
    }
    document = {
        "name": detector.name,
        "description": f"Made for {count} showers of {path.name}, {meaning} energy",
        "seed": 0,
        "detector": _detector(detector),
        "beam": _simulated_beam(provenance) or beam,
        **_model(detector),
    }
    simulated = (
        not detector.layers and "# The detector has no layers: it cannot be simulated, only trained on.\n"
    )
    settings = yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, width=WIDTH, default_flow_style=None
    )
    return (
        f"# A run for the showers of {path.name} (engine: {engine_of(provenance)}). Train on it:\n"
        f"#   caloforge train RUN.yaml --data {path.name} -o runs/first\n"
        f"{simulated or ''}{settings}"
    )


def _detector(detector: Detector) -> str | dict[str, Any]:
    for name in preset_names():
        if load_detector(name).geometry_digest == detector.geometry_digest:
            return name
    document: dict[str, Any] = detector.model_dump(mode="json", exclude_defaults=True)
    # exclude_defaults may drop the kind, which the union of meshes needs
    document["mesh"]["kind"] = detector.mesh.kind
    return document


def _simulated_beam(provenance: dict[str, Any]) -> dict[str, Any] | None:
    """The beam in the provenance of a simulation, or None."""
    with contextlib.suppress(ConfigError):
        return build(BeamConfig, provenance.get("beam", {}), "beam").model_dump(mode="json")
    return None


def _particle(path: Path, pdg_ids: NDArray[Any]) -> str:
    names = {number: name for name, number in PARTICLES.items()}
    if len(pdg_ids) != 1 or int(pdg_ids[0]) not in names:
        got = ", ".join(particle_name(int(code)) for code in pdg_ids[:8])
        raise DataError(
            f"{path}: its showers are of {got}; the beam of a run has one particle, of {', '.join(PARTICLES)}"
        )
    return names[int(pdg_ids[0])]


def _energies(energy: NDArray[np.float64]) -> dict[str, Any]:
    values = np.unique(energy)
    if len(values) == 1:
        return {"kind": "fixed", "value": format_energy(_shortest_decimal(values[0]))}
    if len(values) <= max(LISTED_ENERGIES, 15) and len(energy) > 3 * len(values):
        return {"kind": "list", "values": [format_energy(_shortest_decimal(value)) for value in values]}
    low, high = _round_outwards(values[0], values[-1])
    kind = "log-flat" if needs_log_axis(energy) else "flat"
    return {"kind": kind, "min": format_energy(low), "max": format_energy(high)}


def _angles(angle: NDArray[np.float64]) -> dict[str, Any]:
    low, high = float(angle.min()), float(angle.max())
    if low == high:
        return {"kind": "fixed", "value": format_angle(np.radians(_shortest_decimal(np.degrees(low))))}
    first, last = (np.radians(value) for value in _round_outwards(np.degrees(low), np.degrees(high)))
    return {"kind": "flat", "min": format_angle(first), "max": format_angle(last)}


def _shortest_decimal(value: float) -> float:
    """The shortest decimal number that rounds to this float32."""
    return float(str(np.float32(value)))


def _round_outwards(low: float, high: float) -> tuple[float, float]:
    """Limits rounded outwards to `DIGITS` significant digits of the larger."""
    step = 10.0 ** (np.floor(np.log10(max(abs(low), abs(high)))) + 1 - DIGITS)
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)


def _model(detector: Detector) -> dict[str, Any]:
    """Model and training sections: those of the layered recipe, or of the first family for the mesh."""
    families = families_for(detector)
    if "layered" in families:
        document = parse_yaml(recipe_text(RECIPE), RECIPE)
        return {key: document[key] for key in ("model", "training")}
    return {"model": {"family": families[0], "preset": "base"}}

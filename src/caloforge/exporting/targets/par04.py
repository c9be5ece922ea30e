"""Target `par04`: Geant4's example examples/extended/parameterisations/Par04, version 11.4, unmodified.

Par04 passes one tensor: latent numbers, then the kinetic energy over 1 024 000 MeV, the polar angle of the
momentum over 90 degrees, and 0, 1 (its first detector). It multiplies the output, in the order (r, phi, z),
by the kinetic energy, and puts a hit at the centre of each cell above 0.5 keV. Its mesh lies around the
direction of the particle, as a cylindrical mesh of caloforge does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.errors import ModelError
from caloforge.exporting.contract import (
    REFERENCE_SHOWERS,
    Contract,
    TensorInfo,
    require_visible,
    the_only_particle,
    voxel_depth,
)
from caloforge.geometry import CylindricalMesh, Detector
from caloforge.models.base import Condition, ShowerModel
from caloforge.models.parity import sample_inputs
from caloforge.units import format_energy

# constants in Par04InferenceSetup; no command changes them
ENERGY_UNIT, ANGLE_UNIT = 1_024_000.0, math.pi / 2
CONDITIONS = 4
CONSUMER = "Par04"
# most materials that one of its layers has
SLABS = 2
MACRO = "caloforge.mac"


class ForPar04(nn.Module):
    """A model with the input and the output of Par04."""

    def __init__(self, model: ShowerModel) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model
        self.latent = math.prod(model.noise_shape)
        self.particle = model.ranges.pdg_ids[0]
        self.phi = sum(model.ranges.phi) / 2

    def forward(self, inputs: Tensor) -> Tensor:
        """Fractions of the kinetic energy, (N, r, phi, z), from (N, latent + 4)."""
        ranges = self.model.ranges
        # Par04 calls its model at every energy and angle; beyond the trained range the nearest one is taken
        energy = (inputs[:, self.latent] * ENERGY_UNIT).clamp(*ranges.energy)
        theta = (inputs[:, self.latent + 1] * ANGLE_UNIT).clamp(*ranges.theta)
        condition = Condition(
            energy,
            theta,
            torch.full_like(energy, self.phi),
            torch.full_like(energy, self.particle, dtype=torch.int32),
        )
        noise = inputs[:, : self.latent].reshape(-1, *self.model.noise_shape)
        showers = self.model.generate(condition, noise)
        return showers.permute(0, 3, 2, 1) / energy[:, None, None, None]


def contract(model: ShowerModel) -> Contract:
    """The contract of Par04.

    Raises:
        ModelError: The model has another mesh, layers of several depths, particles or meanings of energy.
    """
    mesh, detector = model.detector.mesh, model.detector
    if not isinstance(mesh, CylindricalMesh):
        raise ModelError(
            f"Par04 has a cylindrical mesh, that of {detector.name} is {mesh.kind}; take --target onnx"
        )
    require_visible(model, CONSUMER)
    particle = the_only_particle(model, CONSUMER)
    depth = voxel_depth(detector, CONSUMER)
    module = ForPar04(model)
    return Contract(
        module,
        (TensorInfo("input", "latent numbers, E / 1024 GeV, theta / 90 deg, 0, 1", axes=("entry",)),),
        TensorInfo(
            "energies",
            "visible energy of each cell over the kinetic energy of the particle",
            axes=("r", "phi", "layer"),
        ),
        {"input": encoded(model)},
        facts={
            "par04": {
                "version": "11.4",
                "latent": module.latent,
                "conditions": CONDITIONS,
                "latent_distribution": "standard normal",
                "particle": particle,
                "cell_z": depth,
                "beyond_trained_range": "the nearest trained energy and angle, scaled in energy",
            }
        },
        texts=lambda document: {MACRO: macro(detector, document)},
    )


def encoded(model: ShowerModel) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Example inputs, (N, latent + 4)."""
    given = sample_inputs(model, REFERENCE_SHOWERS)
    noise = np.asarray(given["noise"], np.float32).reshape(REFERENCE_SHOWERS, -1)
    conditions = np.zeros((REFERENCE_SHOWERS, CONDITIONS), np.float32)
    conditions[:, 0] = np.asarray(given["energy"], np.float32) / ENERGY_UNIT
    conditions[:, 1] = np.asarray(given["theta"], np.float32) / ANGLE_UNIT
    conditions[:, 3] = 1
    return np.concatenate([noise, conditions], axis=1)


def macro(detector: Detector, document: Mapping[str, Any]) -> str:
    """The macro that runs the model, in the order that Par04 needs."""
    mesh, facts = document["mesh"], document["par04"]
    nz, nphi, nr = mesh["shape"]
    energy = document["trained"]["energy"]
    low, high = (format_energy(float(f"{energy[end]:.4g}")) for end in ("min", "max"))
    cells = [
        f"setSizeOfRhoCells {mesh['cell_r']:g} mm",
        f"setSizeOfZCells {facts['cell_z']:g} mm",
        f"setNbOfRhoCells {nr}",
        f"setNbOfPhiCells {nphi}",
        f"setNbOfZCells {nz}",
    ]
    inference = [
        f"setSizeLatentVector {facts['latent']}",
        f"setSizeConditionVector {facts['conditions']}",
        f"setModelPathName {document['graph']['file']}",
        "setModelType VAE",
        "setProfileFlag 0",
        "setOptimizationFlag 1",
        "setCudaFlag 0",
    ]
    lines = [
        f"# {document['model']['name']} in Geant4's example Par04 {facts['version']}. Start in this folder:",
        f"#   examplePar04 -m {MACRO}",
        f"# The model was trained on PDG {facts['particle']}, {low} to {high}. Par04 calls it for every",
        "# electron, positron and photon: beyond the trained range it gives the shower at the nearest",
        "# trained energy, scaled to that of the particle.",
        "",
        "# 1. the detector and the mesh, before the initialisation",
        *_detector(detector),
        *(f"/Par04/mesh/{cell}" for cell in cells),
        "/Par04/parallel/setNbOfSlices 320",
        "/Par04/parallel/setNbOfRows 100",
        "",
        "# 2. the initialisation, and the particle",
        "/run/initialize",
        "/gun/energy 10 GeV",
        "/gun/position 0 0 0",
        "/gun/direction 0 1 0",
        "",
        "# 3. the model; the library comes last, since it loads the graph with what is set by then",
        *(f"/Par04/inference/{line}" for line in inference),
        "/Par04/inference/setInferenceLibrary ONNX",
        *(f"/Par04/inference/{cell}" for cell in cells),
        "",
        "# 4. fast simulation: the mesh has to be the first model",
        "/analysis/setFileName fast.root",
        "/param/ActivateModel defineMesh",
        "/param/ActivateModel inferenceModel",
        "/run/beamOn 100",
    ]
    return "\n".join(lines) + "\n"


def _detector(detector: Detector) -> list[str]:
    """Commands that build the detector, where Par04 can: up to two materials, the same in all layers."""
    layers = detector.physical_layers()
    if len({layer.slabs for layer in layers}) > 1 or len(layers[0].slabs) > SLABS or detector.materials:
        return [f"# Par04 cannot build {detector.name}: set up your detector here"]
    lines = ["/Par04/detector/setDetectorInnerRadius 80 cm", "/Par04/detector/setDetectorLength 2 m"]
    lines.append(f"/Par04/detector/setNbOfLayers {len(layers)}")
    for number, slab in enumerate(layers[0].slabs):
        # sensitive throughout: hits lie at the centres of cells, which may be in the absorber
        lines.append(f"/Par04/detector/setAbsorber {number} {slab.material} {slab.thickness:g} mm true")
    return lines

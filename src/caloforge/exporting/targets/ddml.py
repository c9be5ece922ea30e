"""Target `ddml`: the model RegularGridGAN of DDML, run by ONNX Runtime inside ddsim, unmodified.

DDML passes two tensors in the order of the graph: 100 uniform numbers in [-1, 1], of shape (1, 100, 1, 1, 1),
and the kinetic energy in GeV, (1, 1, 1, 1, 1). It reads the output as MeV in the order (layer, x, y) and puts
cell i of n at (i - n // 2 + 1/2) cell sizes from the entry point of the particle.
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
)
from caloforge.exporting.noise_expansion import LATENT, NoiseExpansion
from caloforge.geometry import CartesianMesh, Detector
from caloforge.models.base import Condition, ShowerModel
from caloforge.models.parity import SAMPLE_SEED, Arrays, sample_inputs

CONSUMER = "DDML's RegularGridGAN"
GEV = 1000.0
# of the direction of incidence, rad
ORTHOGONAL = 1e-3


class ForRegularGrid(nn.Module):
    """A model with the inputs and the output of RegularGridGAN."""

    def __init__(self, model: ShowerModel) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model
        self.noise = NoiseExpansion(math.prod(model.noise_shape))
        self.particle = model.ranges.pdg_ids[0]

    def forward(self, latent: Tensor, energy: Tensor) -> Tensor:
        """Showers (N, layer, x, y) in MeV, from (N, 100, 1, 1, 1) and (N, 1, 1, 1, 1)."""
        ranges = self.model.ranges
        asked = energy.reshape(-1) * GEV
        # DDML has a threshold, but no upper limit: beyond the range the nearest energy is taken, and scaled
        trained = asked.clamp(*ranges.energy)
        condition = Condition(
            trained,
            torch.full_like(trained, sum(ranges.theta) / 2),
            torch.full_like(trained, sum(ranges.phi) / 2),
            torch.full_like(trained, self.particle, dtype=torch.int32),
        )
        noise = self.noise(latent.reshape(-1, LATENT)).reshape(-1, *self.model.noise_shape)
        scale = torch.where(asked == trained, torch.ones_like(asked), asked / trained)
        return self.model.generate(condition, noise).transpose(2, 3) * scale[:, None, None, None]


def contract(model: ShowerModel) -> Contract:
    """The contract of RegularGridGAN.

    Raises:
        ModelError: The model has another mesh, an odd number of cells, angles, particles, or another meaning
            of energy.
    """
    detector = model.detector
    mesh = require_cartesian(detector)
    if mesh.nx % 2 or mesh.ny % 2:
        raise ModelError(
            f"{CONSUMER} puts cells at odd multiples of half a cell: {mesh.nx} x {mesh.ny} cells would be "
            "shifted by half a cell; take --target ddml-python, or train on even numbers of cells"
        )
    theta, phi = model.ranges.theta, model.ranges.phi
    if max(abs(theta[0] - math.pi / 2), abs(theta[1] - math.pi / 2), *map(abs, phi)) > ORTHOGONAL:
        raise ModelError(
            f"{CONSUMER} does not tell its model the direction, and this one was trained on several; take "
            "--target ddml-python"
        )
    require_visible(model, CONSUMER)
    particle = the_only_particle(model, CONSUMER)
    rng = np.random.default_rng(SAMPLE_SEED)
    energy = np.asarray(sample_inputs(model, REFERENCE_SHOWERS)["energy"], np.float32) / np.float32(GEV)
    examples: Arrays = {
        "latent": rng.uniform(-1, 1, (REFERENCE_SHOWERS, LATENT, 1, 1, 1)).astype(np.float32),
        "energy": energy.reshape(-1, 1, 1, 1, 1),
    }
    ones = ("1", "1", "1")
    return Contract(
        ForRegularGrid(model),
        (
            TensorInfo("latent", "noise", axes=("entry", *ones), distribution="uniform in [-1, 1]"),
            TensorInfo("energy", "kinetic energy of the incident particle", "GeV", ("1", *ones)),
        ),
        TensorInfo("showers", "visible energy of each cell", "MeV", ("layer", "x", "y")),
        examples,
        facts={
            "ddml": {
                "model": "RegularGridGAN",
                "particle": particle,
                "properties": properties(mesh, detector.n_layers),
            }
        },
        texts=lambda document: {"ddsim_steer.py": steering(document)},
    )


def require_cartesian(detector: Detector) -> CartesianMesh:
    """The mesh of a detector.

    Raises:
        ModelError: It is not cartesian.
    """
    mesh = detector.mesh
    if isinstance(mesh, CartesianMesh):
        return mesh
    other = "par04" if mesh.kind == "cylindrical" else "onnx"
    raise ModelError(
        f"DDML has cartesian cells, the mesh of {detector.name} is {mesh.kind}; take --target {other}"
    )


def properties(mesh: CartesianMesh, layers: int) -> dict[str, Any]:
    """Properties of the plugin; those of LatentVectorSize and of the tensors are constants of DDML."""
    return {
        "NCellsX": mesh.nx,
        "NCellsY": mesh.ny,
        "NCellsZ": layers,
        "CellSizeX": mesh.cell_x,
        "CellSizeY": mesh.cell_y,
        "LatentVectorSize": LATENT,
    }


NAMES = {11: "e-", -11: "e+", 22: "gamma"}


def steering(document: Mapping[str, Any]) -> str:
    """The part of a steering file of ddsim that runs the model."""
    facts = document["ddml"]
    values = {
        "ModelPath": document["graph"]["file"],
        "OptimizeFlag": 1,
        "IntraOpNumThreads": 1,
        **facts["properties"],
    }
    return steering_text(document, "RegularGridGANPolyhedraBarrelONNXModel/ShowerModel", values)


def steering_text(document: Mapping[str, Any], plugin: str, values: Mapping[str, Any]) -> str:
    """A steering file with a configuration of DDML's Python module (2026)."""
    energy, facts = document["trained"]["energy"], document["ddml"]
    particle = NAMES.get(facts["particle"], str(facts["particle"]))
    low, high = (f"{energy[end] / GEV:.6g}" for end in ("min", "max"))
    rows = "\n".join(f"        {name!r}: {value!r}," for name, value in values.items())
    return f'''"""Runs {document["model"]["name"]} in ddsim with DDML.

    ddsim --steeringFile ddsim_steer.py --compactFile YOUR_DETECTOR.xml --enableGun --gun.particle {particle}

Trained on PDG {facts["particle"]}, {low} to {high} GeV. The region has to be declared in the compact file,
and its layers have to be those of {document["detector"]["name"]}.
"""

from ddml import ModelConfig, ddml_physics
from ddml.configs import ILD_BARREL
from DDSim.DD4hepSimulation import DD4hepSimulation
from g4units import GeV

MODEL = ModelConfig(
    plugin="{plugin}",
    # detector, region and symmetry of your calorimeter: see PluginGeometry in ddml.model
    geometry=ILD_BARREL,
    plugin_properties={{
{rows}
    }},
    applicable_particles=frozenset({{"{particle}"}}),
    # particles below the threshold stay with Geant4
    triggers={{"{particle}": {low} * GeV}},
    correct_angles=False,
)

SIM = DD4hepSimulation()
SIM.physics.setupUserPhysics(ddml_physics([MODEL]))
'''

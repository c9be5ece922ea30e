"""Detector description: layers, materials, readout meshes and presets."""

from caloforge.geometry.detector import (
    Detector,
    Layer,
    Slab,
    detector_document,
    load_detector,
    preset_names,
    preset_text,
)
from caloforge.geometry.materials import ComposedMaterial, Material
from caloforge.geometry.mesh import (
    CartesianMesh,
    CylindricalMesh,
    Mesh,
    RaggedLayer,
    RaggedMesh,
    impact_limits,
)

__all__ = [
    "CartesianMesh",
    "ComposedMaterial",
    "CylindricalMesh",
    "Detector",
    "Layer",
    "Material",
    "Mesh",
    "RaggedLayer",
    "RaggedMesh",
    "Slab",
    "detector_document",
    "impact_limits",
    "load_detector",
    "preset_names",
    "preset_text",
]

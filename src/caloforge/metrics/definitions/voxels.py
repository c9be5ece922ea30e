"""Metrics of the voxels themselves: energy below zero, structural similarity."""

from __future__ import annotations

from caloforge.geometry import CartesianMesh
from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import KEPT_SHOWERS, SamplePair
from caloforge.metrics.ssim import RADIUS, similarity

# L of the structural similarity, MeV: of those of the 3DGAN papers the most sensitive one
SSIM_RANGE = 10.0


def _negative_energy(pair: SamplePair) -> Metric:
    return Metric(pair.generated.negative_energy, 0.0, pair.truth.negative_energy)


def _similarity(pair: SamplePair) -> dict[str, Metric]:
    """Of the showers whose voxels were kept; empty on meshes without images of 11 cells."""
    detector = pair.truth.detector
    if not isinstance(detector.mesh, CartesianMesh) or min(detector.shower_shape[1:]) <= 2 * RADIUS:
        return {}
    truth, generated = pair.truth, pair.generated
    return similarity(
        truth.kept_showers, generated.kept_showers, truth.kept_energy, generated.kept_energy, SSIM_RANGE
    )


METRICS = (
    MetricDefinition(
        "negative_energy",
        "negative",
        "negative over visible energy",
        "percent",
        "value",
        of_samples=_negative_energy,
    ),
    MetricDefinition(
        "ssim",
        "SSIM",
        "structural similarity to the truth, L = 10 MeV",
        threshold="similarity",
        of_samples=lambda pair: pair.shared(_similarity).get("ssim"),
        max_showers=KEPT_SHOWERS,
    ),
    MetricDefinition(
        "ssim_generated",
        "SSIM among",
        "structural similarity of generated showers to each other",
        threshold="similarity",
        of_samples=lambda pair: pair.shared(_similarity).get("ssim_generated"),
        max_showers=KEPT_SHOWERS,
    ),
)

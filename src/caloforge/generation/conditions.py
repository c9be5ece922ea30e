"""Incident conditions of the showers to generate: those of a shower file, or drawn from a beam."""

from __future__ import annotations

from pathlib import Path

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.conditions import Conditions
from caloforge.errors import DataError
from caloforge.geometry import Detector, Mesh
from caloforge.showers import ShowerFile

# separates the random numbers of the conditions from the noise of the same seed
CONDITION_STREAM = 0x5EED


def conditions_like(path: Path, detector: Detector, n: int | None) -> Conditions:
    """The conditions of a shower file, in its order.

    Raises:
        DataError: The file has another geometry than the model, or fewer than `n` showers.
    """
    with ShowerFile(path) as truth:
        if truth.detector.geometry_digest != detector.geometry_digest:
            raise DataError(
                f"{path}: its detector is {truth.detector.name} {truth.detector.shower_shape}, "
                f"the model was trained for {detector.name} {detector.shower_shape}; "
                "give a file of that detector"
            )
        if n is not None and n > len(truth):
            raise DataError(f"{path}: holds {len(truth)} showers, {n} were asked for; give a smaller -n")
        return Conditions.of(truth)[:n]


def conditions_sampled(beam: BeamConfig, mesh: Mesh, seed: int, stop: int, start: int = 0) -> Conditions:
    """Conditions of the showers [start, stop), drawn from a beam; shower i depends only on (seed, i)."""
    return sample_conditions(beam, mesh, seed ^ CONDITION_STREAM, start, stop)

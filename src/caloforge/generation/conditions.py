"""Incident conditions of the showers to generate: those of a shower file, or drawn from a beam."""

from __future__ import annotations

from pathlib import Path

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.errors import DataError
from caloforge.geometry import Detector
from caloforge.models.columns import Columns
from caloforge.showers import ShowerFile

# separates the random numbers of the conditions from the noise of the same seed
CONDITION_STREAM = 0x5EED


def columns_like(path: Path, detector: Detector, n: int | None) -> Columns:
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
        names = ("incident_energy", "incident_theta", "incident_phi", "pdg_id")
        return Columns(*(truth.column(name)[:n] for name in names))


def columns_sampled(beam: BeamConfig, seed: int, n: int) -> Columns:
    """Conditions drawn from a beam description; shower i depends only on (seed, i)."""
    drawn = sample_conditions(beam, seed ^ CONDITION_STREAM, 0, n)
    return Columns(drawn.energy, drawn.theta, drawn.phi, drawn.pdg_id)

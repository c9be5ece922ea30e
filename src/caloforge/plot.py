"""Matplotlib figures of showers and detectors, for scripts and notebooks.

    caloforge.plot.shower(showers, 3).savefig("shower.png")

Showers are a `ShowerBatch`, an open `ShowerFile`, or the path of a shower file; of a file the first 500 are
drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from caloforge.errors import DataError
from caloforge.geometry import Detector, load_detector
from caloforge.showers import ShowerBatch, ShowerFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["compare", "detector", "energies", "mean_shower", "profiles", "shower"]

Showers = ShowerBatch | ShowerFile | Path | str
AnyDetector = Detector | Path | str
# showers of a file that are drawn
MAX_SHOWERS = 500


def shower(showers: Showers, index: int = 0, *, detector: AnyDetector | None = None) -> Figure:
    """Projections of one shower, energy summed along the line of sight.

    Args:
        showers: A batch, a file, or its path.
        index: Index of the shower.
        detector: A detector, preset or YAML, for a batch that does not know its own.

    Raises:
        DataError: No such shower, no detector, or showers of another shape than it has.
    """
    from caloforge.showers.pictures import single_shower

    if isinstance(showers, str | Path):
        with ShowerFile(showers) as file:
            return shower(file, index)
    if not -len(showers) <= index < len(showers):
        raise DataError(f"shower {index} was asked for, there are {len(showers)} (0 to {len(showers) - 1})")
    batch, where = _load(showers[index], detector)
    return single_shower(batch, 0, where)


def mean_shower(showers: Showers, *, detector: AnyDetector | None = None) -> Figure:
    """The mean of some showers: projections, and the longitudinal and transverse profiles.

    Args:
        showers: A batch, a file, or its path.
        detector: A detector, preset or YAML, for a batch that does not know its own.

    Raises:
        DataError: No detector, or showers of another shape than it has.
    """
    from caloforge.showers.pictures import mean_shower

    return mean_shower(*_load(showers, detector))


def profiles(showers: Showers, *, detector: AnyDetector | None = None) -> Figure:
    """The mean longitudinal and transverse profile of some showers.

    Args:
        showers: A batch, a file, or its path.
        detector: A detector, preset or YAML, for a batch that does not know its own.

    Raises:
        DataError: No detector, or showers of another shape than it has.
    """
    from caloforge.showers.pictures import profiles

    return profiles(*_load(showers, detector))


def compare(
    left: Showers,
    right: Showers,
    titles: tuple[str, str] = ("left", "right"),
    *,
    detector: AnyDetector | None = None,
) -> Figure:
    """Two showers, or the means of two samples, beside each other on one colour scale.

    Args:
        left: A batch, a file, or its path.
        right: A batch, a file, or its path, of the same detector.
        titles: Titles of the two ("Geant4", "layered").
        detector: A detector, preset or YAML, for batches that do not know their own.

    Raises:
        DataError: No detector, or showers of another shape than it has.
    """
    from caloforge.showers.pictures import side_by_side

    first, where = _load(left, detector)
    second, _ = _load(right, detector)
    return side_by_side(first, second, where, titles)


def energies(path: Path | str) -> Figure:
    """Incident spectrum, response against the energy, and layer profiles of a whole shower file.

    Raises:
        DataError: The file is missing, damaged or no shower file.
    """
    from caloforge.showers.pictures import energy_overview

    return energy_overview(path)


def detector(source: AnyDetector) -> Figure:
    """A detector: its layers along the depth, one of them magnified, and the mesh.

    Args:
        source: A detector, preset or YAML.

    Raises:
        CaloforgeError: There is no such detector.
    """
    from caloforge.geometry.pictures import cross_section

    return cross_section(_detector(source))


def _detector(source: AnyDetector) -> Detector:
    return source if isinstance(source, Detector) else load_detector(source)


def _load(showers: Showers, detector: AnyDetector | None) -> tuple[ShowerBatch, Detector]:
    """The showers to draw, and their detector."""
    if isinstance(showers, str | Path):
        with ShowerFile(showers) as file:
            return file.read(0, MAX_SHOWERS), file.detector
    if isinstance(showers, ShowerFile):
        return showers.read(0, MAX_SHOWERS), showers.detector
    if detector is not None:
        return showers, _detector(detector)
    if showers.detector is None:
        raise DataError("these showers have no detector; give detector='clic-ecal-25', for example")
    return showers, showers.detector

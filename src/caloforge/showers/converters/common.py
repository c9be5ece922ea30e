"""Common parts of the converters: validated reading in blocks, particle names, new data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError, DataError, nearest
from caloforge.geometry import Detector
from caloforge.geometry.mesh import IMPACT
from caloforge.showers.batch import Floats, ShowerBatch
from caloforge.showers.file import FORMAT, EnergyMeaning, ShowerFile
from caloforge.showers.hdf5 import Hdf5File, StoredArray
from caloforge.showers.response_check import response_limits

Progress = Callable[[int, int], None]

# Monte Carlo numbers of the Particle Data Group (Phys. Rev. D 110, 030001, section 45)
PARTICLES = {"e-": 11, "e+": -11, "gamma": 22, "pi0": 111, "pi+": 211, "pi-": -211, "mu-": 13, "mu+": -13}

ORTHOGONAL = np.float32(math.pi / 2)
ANGLE_TOLERANCE = 1e-6  # rad
INT32 = 2**31 - 1

BLOCK_BYTES = 2**26
# a file whose chunks hold more showers than this many blocks is read in blocks, which decompresses its chunks
# several times
MAX_BLOCKS_TOGETHER = 8
MAX_ENERGY = 1e8  # MeV; 100 TeV


@dataclass(frozen=True)
class Source:
    """Foreign files opened for import; everything but the showers has been checked.

    Attributes:
        detector: Detector of the showers.
        energy_meaning: Meaning of the voxel energies after the conversion.
        total: Number of showers.
        facts: Entries for the provenance.
        batches: The showers in order, in MeV, with the layer as first axis.
    """

    detector: Detector
    energy_meaning: EnergyMeaning
    total: int
    facts: dict[str, Any]
    batches: Iterator[ShowerBatch]


class ForeignFile(Hdf5File):
    """A foreign HDF5 file opened for reading. Use it as a context manager."""

    def __init__(self, path: Path, kind: str) -> None:
        """Open a file.

        Args:
            path: The file.
            kind: Name of the format, for messages.

        Raises:
            DataError: A file that cannot be opened, or a shower file already.
        """
        super().__init__(path)
        self.kind = kind
        try:
            if self.attribute("format") == FORMAT:
                raise DataError(f"{self.path}: this is a shower file already, there is nothing to import")
        except BaseException:
            self.close()
            raise

    def numbers(self, name: str) -> StoredArray:
        """Describe a numeric data set whose first axis is the shower.

        Raises:
            DataError: Missing or unusable, see `Hdf5File.array`; or empty.
        """
        if not self.has(name):
            raise DataError(
                f"{self.path}: no data set {name!r} as a {self.kind} file has it; found {self.found()}"
            )
        try:
            stored = self.array(name)
        except DataError as error:
            raise DataError(f"{error}; expected a {self.kind} file") from error
        if stored.shape[0] == 0:
            raise DataError(f"{self.path}: {name} holds no showers")
        return stored

    def column(self, name: str) -> NDArray[np.float64]:
        """Read a whole data set of finite numbers.

        Raises:
            DataError: Missing, no numbers, damaged, or not finite.
        """
        stored = self.numbers(name)
        if stored.lengths:
            raise DataError(f"{self.path}: {name} holds rows of different lengths, expected numbers")
        # signalling NaNs warn when they are converted
        with np.errstate(invalid="ignore"):
            values: NDArray[np.float64] = self.read(stored).astype(np.float64)
        bad = ~_finite(values)
        if bad.any():
            raise DataError(
                f"{self.path}: {name} holds NaN or infinite values in {bad.sum()} of {len(values)} "
                f"showers, first in number {int(np.argmax(bad))}; leave this file out"
            )
        return values

    def energies(self, values: NDArray[np.float64], scale: float) -> Floats:
        """Convert incident energies to MeV and check them.

        Args:
            values: (N,) as in the file.
            scale: MeV per unit of the file.

        Raises:
            DataError: An energy that is not positive, or above `MAX_ENERGY`.
        """
        energy = values * scale
        bad = (energy <= 0) | (energy > MAX_ENERGY)
        if bad.any():
            first = int(np.argmax(bad))
            raise DataError(
                f"{self.path}: {bad.sum()} of {len(energy)} incident energies are out of range, first in "
                f"number {first}: got {energy[first]:g} MeV, expected above 0 and up to {MAX_ENERGY:g} MeV"
            )
        return energy.astype(np.float32)

    def blocks(self, name: str, scale: float) -> Iterator[tuple[slice, Floats]]:
        """Read the showers of a data set in blocks: their slice, and their voxel energies in MeV.

        Args:
            name: The data set, (N, ...).
            scale: MeV per unit of the file.

        Raises:
            DataError: Damaged, or showers with NaN or infinite energies; the message counts all of them.
        """
        stored = self.numbers(name)
        for part in self.parts(stored):
            block = self._scaled(stored, part, scale)
            if not _finite(block).all():
                self._refuse(stored, part.start, scale)
            yield part, block

    def parts(self, stored: StoredArray, max_showers: int | None = None) -> list[slice]:
        """Slices of the showers to read at once: whole chunks, if these are not too large.

        Args:
            stored: The data set.
            max_showers: Maximum number of showers of a block.
        """
        rows = self.rows_at_once(stored, BLOCK_BYTES)
        if stored.chunks:
            together = stored.chunks[0]
            largest = min(MAX_BLOCKS_TOGETHER * rows, self.rows_at_once(stored))
            rows = min(-(-rows // together) * together, largest)
        rows = min(rows, max_showers or rows)
        total = stored.shape[0]
        return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]

    def _scaled(self, stored: StoredArray, part: slice, scale: float) -> Floats:
        values = self.read(stored, part.start, part.stop)
        scaled = np.empty(values.shape, np.float32)
        # overflows become infinite, and are refused like NaN
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(values, scale, out=scaled, casting="same_kind")
        return scaled

    def _refuse(self, stored: StoredArray, start: int, scale: float) -> None:
        count, first = 0, -1
        for part in self.parts(stored):
            if part.start < start:
                continue
            bad = ~_finite(self._scaled(stored, part, scale))
            if bad.any() and not count:
                first = part.start + int(np.argmax(bad))
            count += int(bad.sum())
        raise DataError(
            f"{self.path}: {count} of {stored.shape[0]} showers hold NaN or infinite energies, "
            f"first number {first}; leave this file out, or take these showers out of it"
        )


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    # the sum is not finite if a value is not, and is fast
    with np.errstate(invalid="ignore"):
        sums: NDArray[np.float64] = values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)
    return np.isfinite(sums)


def pdg_number(particle: str) -> int:
    """PDG number of a particle given by its name.

    Raises:
        ConfigError: An unknown name.
    """
    if particle not in PARTICLES:
        raise ConfigError(f"--particle: got {particle!r}. {nearest(particle, PARTICLES)}")
    return PARTICLES[particle]


def stored_particle(file: ForeignFile) -> int | None:
    """The PDG number stored by `caloforge convert`, or None."""
    value = file.attribute("pdg_id")
    return value if isinstance(value, int) and 0 < abs(value) <= INT32 else None


def check_angles(path: Path, theta: NDArray[np.float64]) -> Floats:
    """Check polar angles in rad; returns them as float32.

    Raises:
        DataError: An angle that is not between 0 and pi.
    """
    bad = (theta <= 0) | (theta >= math.pi)
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{path}: {bad.sum()} of {len(theta)} polar angles are out of range, first in number {first}: "
            f"got {theta[first]:g}, expected radians between 0 and pi, 1.571 for orthogonal"
        )
    return theta.astype(np.float32)


def infer_energy_meaning(
    file: ForeignFile, name: str, energy: Floats, detector: Detector, pdg_ids: NDArray[np.int32]
) -> EnergyMeaning:
    """Determine from the response whether energies are visible or sampling-fraction corrected.

    Visible energy is a few percent of the incident energy in sampling calorimeters, corrected energy about
    all of it; the response of the first showers decides. Energies count as corrected where the material is
    not known, or the calorimeter is homogeneous.

    Args:
        file: The file.
        name: Name of the data set of showers, MeV.
        energy: (N,) incident energies, MeV.
        detector: Detector of the showers.
        pdg_ids: (N,) incident particles.
    """
    part, block = next(file.blocks(name, 1.0))
    response = float(block.sum(dtype=np.float64) / energy[part].sum(dtype=np.float64))
    visible = response_limits(detector, "visible", pdg_ids[part], float(energy[part].mean()))
    if response <= 0 or not visible.expected or visible.expected > 0.5:
        return "sampling-fraction corrected"
    nearer = abs(math.log(response / visible.expected)) < abs(math.log(response))
    return "visible" if nearer else "sampling-fraction corrected"


def single_particle(showers: ShowerFile, layout: str) -> int:
    """Check that all showers are of one particle, as a layout requires; returns its PDG number.

    Raises:
        DataError: They are of several kinds.
    """
    particles = np.unique(showers.column("pdg_id"))
    if len(particles) > 1:
        raise DataError(
            f"{showers.path}: the {layout} layout holds one kind of particle, these showers are of "
            f"the PDG numbers {', '.join(map(str, particles))}; make one file for each"
        )
    return int(particles[0])


def check_no_azimuth(showers: ShowerFile, layout: str) -> None:
    """Check that phi is 0 for all showers, as layouts without an azimuth require.

    Raises:
        DataError: A shower whose phi is not 0.
    """
    phi = np.abs(showers.column("incident_phi"))
    if (phi > ANGLE_TOLERANCE).any():
        raise DataError(
            f"{showers.path}: the {layout} layout has no azimuth, shower {int(np.argmax(phi))} has phi = "
            f"{phi.max():.4g} rad; expected 0 everywhere"
        )


def read_impacts(file: ForeignFile, count: int) -> dict[str, Any]:
    """Impact points in mm, (N,) each, from the data sets that `write_impacts` adds; 0 without them.

    Args:
        file: The file.
        count: Number of its showers.

    Raises:
        DataError: One of the two is missing, or of another length.
    """
    if not any(file.has(name) for name in IMPACT):
        return {name: np.zeros(count, np.float32) for name in IMPACT}
    found = {name: file.column(name).ravel().astype(np.float32) for name in IMPACT}
    for name, values in found.items():
        if len(values) != count:
            raise DataError(f"{file.path}: {name} has {len(values)} entries, expected {count}")
    return found


def write_impacts(file: h5py.File, showers: ShowerFile) -> None:
    """Add impact points to a foreign file as `impact_x` and `impact_y`, mm, if there are any."""
    if showers.has_impacts:
        for name in IMPACT:
            file[name] = showers.column(name)


def new_showers(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """Create a compressed float32 data set for N showers, with chunks of whole showers."""
    per_chunk = int(np.clip(2**19 // (4 * int(np.prod(shape[1:]))), 1, min(1024, shape[0])))
    return file.create_dataset(
        name,
        shape,
        np.float32,
        chunks=(per_chunk, *shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )

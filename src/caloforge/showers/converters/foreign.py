"""What all foreign HDF5 formats share: careful reading in blocks, atomic writing, particle names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError, DataError, nearest
from caloforge.geometry import Detector
from caloforge.showers.batch import Floats, ShowerBatch
from caloforge.showers.file import FORMAT, EnergyMeaning

Progress = Callable[[int, int], None]

# Monte Carlo numbers of the Particle Data Group (Phys. Rev. D 110, 030001, section 45)
PARTICLES = {"e-": 11, "e+": -11, "gamma": 22, "pi0": 111, "pi+": 211, "pi-": -211, "mu-": 13, "mu+": -13}

BLOCK_BYTES = 2**26
# a file whose compressed chunks span more than this many blocks of events is read in blocks of this size,
# chunks decompressed several times
MAX_BLOCKS_TOGETHER = 8
MAX_ENERGY = 1e8  # MeV; 100 TeV
# mean deposited over mean incident energy beyond which the units must be wrong
MAX_RESPONSE = 2.0


@dataclass(frozen=True)
class Source:
    """Foreign showers ready to be imported; everything but the showers has been checked.

    Attributes:
        detector: Detector of the showers.
        energy_meaning: What a voxel's energy means after the conversion.
        total: Number of showers.
        facts: What the provenance says about the files.
        batches: The showers in order, MeV and layer first.
    """

    detector: Detector
    energy_meaning: EnergyMeaning
    total: int
    facts: dict[str, Any]
    batches: Iterator[ShowerBatch]


class ForeignFile:
    """A foreign HDF5 file opened for reading. Use it as a context manager."""

    def __init__(self, path: Path, kind: str) -> None:
        """Open a file.

        Args:
            path: The file.
            kind: Name of the format, for messages.

        Raises:
            DataError: Missing, empty, truncated, no HDF5, or a shower file already.
        """
        self.path, self.kind = Path(path), kind
        self._deposited = self._incident = 0.0
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file, expected a {kind} file (.h5)")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            size = self.path.stat().st_size
            what = "is empty" if size == 0 else f"is truncated or no HDF5 file ({size} bytes)"
            raise DataError(f"{self.path} {what}; take another copy") from error
        if self._file.attrs.get("format") == FORMAT:
            self._file.close()
            raise DataError(f"{self.path}: this is a shower file already, there is nothing to import")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def has(self, *names: str) -> bool:
        """Whether all these data sets exist."""
        return all(name in self._file for name in names)

    def found(self) -> str:
        """The data sets and their shapes, for messages."""
        parts = []
        for name in list(self._file)[:12]:
            item = self._file.get(name, getlink=True)
            item = self._file[name] if isinstance(item, h5py.HardLink) else item
            parts.append(f"{name} {item.shape}" if isinstance(item, h5py.Dataset) else name)
        return ", ".join(parts) or "nothing"

    def attribute(self, name: str) -> Any:
        """An attribute of the file, or None."""
        return self._file.attrs.get(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a data set."""
        return tuple(self._dataset(name).shape)

    def column(self, name: str) -> NDArray[np.float64]:
        """A small data set, whole.

        Raises:
            DataError: Missing, no numbers, damaged, or not finite.
        """
        values: NDArray[np.float64] = self._read(self._dataset(name), slice(None)).astype(np.float64)
        bad = ~_finite(values)
        if bad.any():
            raise DataError(
                f"{self.path}: {name} holds NaN or infinite values in {bad.sum()} of {len(values)} "
                f"showers, first in number {int(np.argmax(bad))}; leave this file out"
            )
        return values

    def energies(self, values: NDArray[np.float64], scale: float) -> Floats:
        """Incident energies in MeV, checked.

        Args:
            values: (N,) as in the file.
            scale: MeV per unit of the file.

        Raises:
            DataError: An energy that is not positive or beyond any accelerator.
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
        """The showers of a data set in blocks: which ones, and their energies in MeV.

        Args:
            name: The data set, (N, ...).
            scale: MeV per unit of the file.

        Raises:
            DataError: Damaged, or showers with NaN, infinite or negative energies (all are counted).
        """
        dataset = self._dataset(name)
        for part in self._parts(dataset):
            block = self._scaled(dataset, part, scale)
            if _unusable(block).any():
                self._refuse(dataset, part.start, scale)
            yield part, block

    def check_response(self, showers: Floats, energy: Floats) -> None:
        """Refuse showers that hold more energy, on the mean since the first, than came in: other units."""
        self._deposited += float(showers.sum(dtype=np.float64))
        self._incident += float(energy.sum(dtype=np.float64))
        response = self._deposited / self._incident
        if response > MAX_RESPONSE:
            raise DataError(
                f"{self.path}: the showers hold {response:.3g} times the incident energy, expected at most "
                f"{MAX_RESPONSE:g}; they are not in the units of a {self.kind} file"
            )

    def _dataset(self, name: str) -> h5py.Dataset:
        # links and external storage could name any file of this machine
        link = self._file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or not isinstance(self._file[name], h5py.Dataset):
            raise DataError(
                f"{self.path}: no data set {name!r} as a {self.kind} file has it; found {self.found()}"
            )
        dataset = self._file[name]
        if dataset.external or dataset.is_virtual:
            raise DataError(f"{self.path}: {name} keeps its values in other files; make one file of them")
        if dataset.dtype.kind not in "fiu":
            raise DataError(f"{self.path}: {name} has the type {dataset.dtype}, expected numbers")
        if not dataset.shape or dataset.shape[0] == 0:
            raise DataError(f"{self.path}: {name} holds no showers")
        return dataset

    def _parts(self, dataset: h5py.Dataset) -> list[slice]:
        total = dataset.shape[0]
        rows = max(1, BLOCK_BYTES // (dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))))
        if dataset.chunks:
            together = dataset.chunks[0]
            rows = min(-(-rows // together) * together, MAX_BLOCKS_TOGETHER * rows)
        return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]

    def _read(self, dataset: h5py.Dataset, part: slice) -> NDArray[Any]:
        try:
            return np.asarray(dataset[part])
        except OSError as error:
            raise DataError(f"{self.path}: {dataset.name} is damaged and cannot be read") from error

    def _scaled(self, dataset: h5py.Dataset, part: slice, scale: float) -> Floats:
        values = self._read(dataset, part)
        scaled = np.empty(values.shape, np.float32)
        # what float32 cannot hold becomes infinite and is refused
        with np.errstate(over="ignore"):
            np.multiply(values, scale, out=scaled, casting="same_kind")
        return scaled

    def _refuse(self, dataset: h5py.Dataset, start: int, scale: float) -> None:
        count, first = 0, -1
        for part in self._parts(dataset):
            if part.start < start:
                continue
            bad = _unusable(self._scaled(dataset, part, scale))
            if bad.any() and not count:
                first = part.start + int(np.argmax(bad))
            count += int(bad.sum())
        raise DataError(
            f"{self.path}: {count} of {dataset.shape[0]} showers hold NaN, infinite or negative energies, "
            f"first number {first}; leave this file out, or take these showers out of it"
        )


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    # a NaN or an infinity spoils the sum: one cheap pass
    with np.errstate(invalid="ignore"):
        sums: NDArray[np.float64] = values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)
    return np.isfinite(sums)


def _unusable(block: Floats) -> NDArray[np.bool_]:
    bad: NDArray[np.bool_] = ~_finite(block) | (block.reshape(len(block), -1).min(axis=1) < 0)
    return bad


def pdg_number(particle: str) -> int:
    """PDG number of a particle's name.

    Raises:
        ConfigError: An unknown name.
    """
    if particle not in PARTICLES:
        raise ConfigError(f"--particle: got {particle!r}. {nearest(particle, PARTICLES)}")
    return PARTICLES[particle]


def new_showers(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """A compressed float32 data set for N showers, chunked by shower."""
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

"""The shower file: one HDF5 layout for full simulation, fast simulation and imported data.

See docs/reference/shower-file.md for the layout. A file is written under a temporary name and renamed when
it is complete, so that the final name never holds an incomplete file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.geometry import Detector, impact_limits
from caloforge.geometry.mesh import IMPACT
from caloforge.showers.batch import (
    ShowerBatch,
    html_table,
    impact_facts,
    range_text,
    slice_of_one,
)
from caloforge.showers.file_pattern import Files, is_pattern, joined_path
from caloforge.showers.hdf5 import Hdf5File
from caloforge.showers.joined_provenance import engine_of
from caloforge.units import format_energy

FORMAT = "caloforge-showers"
FORMAT_VERSION = 1
EnergyMeaning = Literal["visible", "sampling-fraction corrected"]
# tolerance of impact points, for float32 columns
IMPACT_SLACK = 1e-5
COLUMNS: dict[str, type] = {
    "incident_energy": np.float32,
    "incident_theta": np.float32,
    "incident_phi": np.float32,
    "pdg_id": np.int32,
}


class ShowerFile:
    """A shower file opened for reading, or several that are read as one. Use it as a context manager.

    A pattern, such as `ShowerFile("train-*.h5")` or `ShowerFile("{electrons,photons}.h5")`, and a list of
    names open several files: see `caloforge.showers.joined`.

    `len(file)` is the number of showers; `file[7]`, `file[-1]`, `file[100:200]` and `file[::10]` are batches
    of them, and `for batch in file` reads the file in order at constant memory.

    Attributes:
        paths: The files.
        detector: The detector of the showers.
        energy_meaning: "visible" or "sampling-fraction corrected".
        provenance: How the file was made; see `caloforge.provenance`.
        has_seconds: Whether the wall time per shower is stored.
        has_impacts: Whether impact points are stored; without them they read as 0, the axis of the mesh.
        knows_impacts: Whether the showers enter there; earlier versions did not store the impact points of
            beams over a cell.
    """

    def __new__(cls, path: Files) -> Self:
        """A file, or the files of a list or pattern as one."""
        if cls is ShowerFile and (not isinstance(path, str | os.PathLike) or is_pattern(path)):
            from caloforge.showers.joined import JoinedShowers

            return super().__new__(JoinedShowers)  # type: ignore[return-value]
        return super().__new__(cls)

    def __init__(self, path: Files) -> None:
        """Open and check a file.

        Args:
            path: The file; or several files, or a pattern, which are read as one.

        Raises:
            DataError: Missing, truncated, foreign, empty, inconsistent, or of a newer format.
        """
        self.path = joined_path(path)
        self.paths = [self.path]
        self._opened: Hdf5File | None = self._open()
        try:
            self._check_format()
            self.detector = Detector.from_json(self._text("detector"), f"{self.path} › detector")
            self.energy_meaning = self._read_meaning()
            self.provenance = self._read_provenance()
            self._check_datasets()
        except BaseException:
            self.close()
            raise

    @property
    def _file(self) -> Hdf5File:
        if self._opened is None:
            raise DataError(f"{self.path}: this file was closed; open it again, or read inside the 'with'")
        return self._opened

    def _open(self) -> Hdf5File:
        return Hdf5File(self.path, missing=self._interrupted_hint())

    def _interrupted_hint(self) -> str:
        # os.path: False where the folder cannot be searched, which opening the file reports
        if os.path.isdir(f"{self.path}.parts"):  # noqa: PTH112
            return "; an interrupted campaign is there: run the same command with --resume"
        return ""

    def _text(self, name: str, default: str = "") -> str:
        value = self._file.attribute(name)
        return default if value is None else str(value)

    def _check_format(self) -> None:
        got = self._text("format") or None
        if got != FORMAT:
            keys = sorted(self._file.names())
            known = "caloforge import --format "
            hint = ""
            if {"incident_energies", "showers"} <= set(keys):
                hint = f" It looks like a CaloChallenge file: {known}calochallenge"
            elif "ECAL" in keys:
                hint = f" It looks like a 3DGAN file: {known}3dgan"
            elif {"incident_energy", "showers"} <= set(keys):
                hint = f" It looks like a file of Par04: {known}par04"
            elif {"energies", "directions", "showers"} <= set(keys):
                hint = f" It looks like a file of showerdata: {known}showerdata"
            raise DataError(
                f"{self.path}: not a shower file (format attribute {got!r}, data sets {keys[:6]}).{hint}"
            )
        version = self._text("format_version")
        if version not in map(str, range(1, FORMAT_VERSION + 1)):
            raise DataError(
                f"{self.path}: format version {version or 'unknown'}, this caloforge reads up to "
                f"{FORMAT_VERSION}; install a newer caloforge"
            )
        if self._file.attribute("detector") is None:
            raise DataError(f"{self.path}: the attribute 'detector' is missing")

    def _read_meaning(self) -> EnergyMeaning:
        got = self._text("energy_meaning")
        if got not in get_args(EnergyMeaning):
            raise DataError(
                f"{self.path}: energy_meaning is {got!r}, expected one of {get_args(EnergyMeaning)}"
            )
        return got  # type: ignore[return-value]

    def _read_provenance(self) -> dict[str, Any]:
        try:
            provenance = json.loads(self._text("provenance", "{}"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}: the attribute 'provenance' is no JSON") from error
        return provenance if isinstance(provenance, dict) else {}

    def _check_datasets(self) -> None:
        self.has_seconds = self._file.has("seconds")
        # both or none: with one of them alone, the other is reported as missing
        self.has_impacts = any(self._file.has(name) for name in IMPACT)
        beams = self.provenance.get("beams") or [self.provenance.get("beam")]
        over_cell = isinstance(beams, list) and any(
            isinstance(beam, dict) and beam.get("impact") == "cell" for beam in beams
        )
        self.knows_impacts = self.has_impacts or not over_cell
        names = ["showers", *COLUMNS]
        names += ["seconds"] if self.has_seconds else []
        names += IMPACT if self.has_impacts else ()
        self._stored = {name: self._file.array(name) for name in names}
        if lengths := [name for name in names if self._stored[name].lengths]:
            raise DataError(f"{self.path}: {lengths[0]!r} holds rows of different lengths, expected numbers")
        count, *shape = self._stored["showers"].shape
        if tuple(shape) != self.detector.shower_shape:
            raise DataError(
                f"{self.path}: showers have the shape {tuple(shape)}, but the detector {self.detector.name} "
                f"reads out {self.detector.shower_shape}"
            )
        if count == 0:
            raise DataError(f"{self.path}: holds no showers")
        for name in names[1:]:
            if self._stored[name].shape != (count,):
                raise DataError(
                    f"{self.path}: {name} has the shape {self._stored[name].shape}, expected ({count},)"
                )

    def __len__(self) -> int:
        return self._stored["showers"].shape[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; batches that were read stay valid."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._opened is None

    @property
    def chunk(self) -> int:
        """Showers per compressed chunk; reading whole chunks is fastest."""
        chunks = self._stored["showers"].chunks
        return chunks[0] if chunks else 1

    @property
    def chunk_edges(self) -> NDArray[np.intp]:
        """First shower of each chunk, then the number of showers."""
        return np.append(np.arange(0, len(self), self.chunk), len(self)).astype(np.intp)

    def column(self, name: str) -> NDArray[Any]:
        """A whole column with one value per shower: a name of `COLUMNS`, `seconds`, `impact_x` or `impact_y`.

        Raises:
            DataError: The column is damaged or holds a value that is not possible.
        """
        if name in IMPACT and not self.has_impacts:
            return np.zeros(len(self), np.float32)
        column = self._file.read(self._stored[name])
        if not np.all(np.isfinite(column)):
            raise DataError(f"{self.path}: {name} holds values that are not finite")
        if name == "incident_energy":
            self._check_energy(column, 0)
        elif name in IMPACT:
            check_impact(self.path, self.detector, name, column)
        return column

    def read(self, start: int = 0, stop: int | None = None) -> ShowerBatch:
        """Read the showers [start, stop).

        Raises:
            DataError: The block is damaged, or a value is not finite or an incident energy not positive.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        arrays: dict[str, Any] = {
            name: self._file.read(stored, start, stop) for name, stored in self._stored.items()
        }
        batch = ShowerBatch(**arrays, detector=self.detector)
        self._check_values(batch, start)
        return batch

    def _check_values(self, batch: ShowerBatch, start: int) -> None:
        good = all_finite(batch.showers) & np.isfinite(batch.incident_theta) & np.isfinite(batch.incident_phi)
        if not good.all():
            bad = start + int(np.argmin(good))
            raise DataError(f"{self.path}: shower {bad} holds NaN or infinite values")
        self._check_energy(batch.incident_energy, start)
        if self.has_impacts:
            for name in IMPACT:
                check_impact(self.path, self.detector, name, getattr(batch, name), start)

    def _check_energy(self, energy: NDArray[Any], start: int) -> None:
        # also false where it is NaN
        good = (energy > 0) & (energy < np.inf)
        if not good.all():
            bad = int(np.argmin(good))
            raise DataError(
                f"{self.path}: shower {start + bad} has the incident energy {energy[bad]} MeV, expected a "
                "positive one"
            )

    def __getitem__(self, index: int | slice) -> ShowerBatch:
        """Select showers by index or slice; an integer gives a batch of one.

        Raises:
            IndexError: There is no such shower.
            DataError: As in `read`.
        """
        if not isinstance(index, slice):
            index = slice_of_one(index, len(self))
        rows = range(len(self))[index]
        if len(rows) == 0:
            # an empty batch with the right shapes
            return self.read(0, 1)[:0]
        # whole chunks are read in any case; the step is applied in memory
        first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        return self.read(first, last + 1)[slice(None, None, rows.step)]

    def __iter__(self) -> Iterator[ShowerBatch]:
        """Iterate over the file in batches; see `iterate`."""
        return self.iterate()

    def __repr__(self) -> str:
        if self.closed:
            return f"<ShowerFile {self.path}: closed>"
        return f"<ShowerFile {self.path}: {', '.join(self._facts().values())}>"

    def _repr_html_(self) -> str:
        return html_table(str(self.path), {"state": "closed"} if self.closed else self._facts())

    def _facts(self) -> dict[str, str]:
        energy = self.column("incident_energy")
        return {
            "showers": f"{len(self)} of {' x '.join(map(str, self.detector.shower_shape))} voxels",
            "energy": range_text(energy, format_energy),
            "particle": "PDG " + ", ".join(map(str, np.unique(self.column("pdg_id")))),
            **impact_facts(*(self.column(name) for name in IMPACT)),
            "detector": self.detector.name,
            "voxels": f"{self.energy_meaning} energy",
            "made by": engine_of(self.provenance),
        }

    def iterate(self, size: int = 256, *, stop: int | None = None) -> Iterator[ShowerBatch]:
        """The file in order, in batches of about `size` showers, at constant memory.

        Args:
            size: Batch size; rounded to whole chunks.
            stop: Read only the first `stop` showers.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        limit = self._file.rows_at_once(self._stored["showers"])
        size = min(max(self.chunk, size // self.chunk * self.chunk), limit)
        for start in range(0, stop, size):
            yield self.read(start, min(start + size, stop))


def check_impact(path: Path, detector: Detector, name: str, values: NDArray[Any], start: int = 0) -> None:
    """Refuse impact points that are not in the central cell.

    Args:
        path: The file, for the message.
        detector: Detector of the showers.
        name: "impact_x" or "impact_y".
        values: (n,) mm.
        start: Number of the first shower.

    Raises:
        DataError: With the number of the shower.
    """
    limit = impact_limits(detector.mesh)[IMPACT.index(name)]
    # also false where it is NaN
    good = np.abs(values) <= limit * (1 + IMPACT_SLACK)
    if not good.all():
        bad = int(np.argmin(good))
        raise DataError(
            f"{path}: shower {start + bad} has {name} = {values[bad]:.6g} mm, expected at most {limit:g} mm "
            + ("from the axis, half a cell" if limit else f"on a {detector.mesh.kind} mesh: the axis itself")
        )


def all_finite(showers: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether all voxels of a shower are finite, (N,); tests their sum, which is fast."""
    flat = showers.reshape(len(showers), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        good: NDArray[np.bool_] = np.isfinite(flat.sum(axis=1))
        if not good.all():
            # the sum may overflow in float32
            good[~good] = np.isfinite(flat[~good].sum(axis=1, dtype=np.float64))
    return good

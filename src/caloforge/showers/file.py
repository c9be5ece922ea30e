"""The shower file: one HDF5 layout for full simulation, fast simulation and imported data.

See docs/reference/shower-file.md for the layout. A file is written under a temporary name and renamed when
it is complete, so that the final name never holds half a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.files import check_new, writing
from caloforge.geometry import Detector
from caloforge.showers.batch import ShowerBatch

FORMAT = "caloforge-showers"
FORMAT_VERSION = 1
EnergyMeaning = Literal["visible", "sampling-fraction corrected"]
COLUMNS: dict[str, type] = {
    "incident_energy": np.float32,
    "incident_theta": np.float32,
    "incident_phi": np.float32,
    "pdg_id": np.int32,
}
CHUNK_BYTES = 2**19
GZIP_LEVEL = 1


class ShowerFile:
    """A shower file opened for reading. Use it as a context manager.

    Attributes:
        detector: The detector the showers were made in.
        energy_meaning: "visible" or "sampling-fraction corrected".
        provenance: Where the file came from.
    """

    def __init__(self, path: Path | str) -> None:
        """Open and check a file.

        Raises:
            DataError: Missing, truncated, foreign, empty, inconsistent, or of a newer format.
        """
        self.path = Path(path)
        self._file = self._open()
        try:
            self._check_format()
            self.detector = Detector.from_json(str(self._file.attrs["detector"]), f"{self.path} › detector")
            self.energy_meaning = self._read_meaning()
            self.provenance = self._read_provenance()
            self._check_datasets()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> h5py.File:
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file{self._interrupted_hint()}")
        if self.path.is_dir():
            raise DataError(f"{self.path}: this is a directory, expected a shower file (.h5)")
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            size = self.path.stat().st_size
            what = "is empty" if size == 0 else f"is truncated or no HDF5 file ({size} bytes)"
            raise DataError(f"{self.path} {what}; make it again or take another copy") from error

    def _interrupted_hint(self) -> str:
        if self.path.with_name(f"{self.path.name}.parts").is_dir():
            return "; an interrupted simulation is there: run the same 'caloforge simulate' with --resume"
        return ""

    def _check_format(self) -> None:
        got = self._file.attrs.get("format")
        if got != FORMAT:
            keys = sorted(self._file)
            known = "caloforge import --format "
            hint = ""
            if {"incident_energies", "showers"} <= set(keys):
                hint = f" It looks like a CaloChallenge file: {known}calochallenge"
            elif "ECAL" in keys:
                hint = f" It looks like a 3DGAN file: {known}3dgan"
            raise DataError(
                f"{self.path}: not a shower file (format attribute {got!r}, data sets {keys[:6]}).{hint}"
            )
        version = int(self._file.attrs.get("format_version", 0))
        if not 1 <= version <= FORMAT_VERSION:
            raise DataError(
                f"{self.path}: format version {version}, this caloforge reads up to {FORMAT_VERSION}; "
                "install a newer caloforge"
            )
        if "detector" not in self._file.attrs:
            raise DataError(f"{self.path}: the attribute 'detector' is missing")

    def _read_meaning(self) -> EnergyMeaning:
        got = str(self._file.attrs.get("energy_meaning"))
        if got not in get_args(EnergyMeaning):
            raise DataError(
                f"{self.path}: energy_meaning is {got!r}, expected one of {get_args(EnergyMeaning)}"
            )
        return got  # type: ignore[return-value]

    def _read_provenance(self) -> dict[str, Any]:
        try:
            provenance = json.loads(str(self._file.attrs.get("provenance", "{}")))
        except ValueError as error:
            raise DataError(f"{self.path}: the attribute 'provenance' is no JSON") from error
        return provenance if isinstance(provenance, dict) else {}

    def _check_datasets(self) -> None:
        for name in ("showers", *COLUMNS):
            if not isinstance(self._file.get(name), h5py.Dataset):
                raise DataError(f"{self.path}: the data set {name!r} is missing")
        count, shape = self._file["showers"].shape[0], self._file["showers"].shape[1:]
        if shape != self.detector.shower_shape:
            raise DataError(
                f"{self.path}: showers have the shape {shape}, but the detector {self.detector.name} "
                f"reads out {self.detector.shower_shape}"
            )
        if count == 0:
            raise DataError(f"{self.path}: holds no showers")
        for name in (*COLUMNS, *(["seconds"] if "seconds" in self._file else [])):
            if self._file[name].shape != (count,):
                raise DataError(
                    f"{self.path}: {name} has the shape {self._file[name].shape}, expected ({count},)"
                )

    def __len__(self) -> int:
        return int(self._file["showers"].shape[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def chunk(self) -> int:
        """Showers that are compressed together; reading whole chunks is cheapest."""
        chunks = self._file["showers"].chunks
        return int(chunks[0]) if chunks else 1

    @property
    def has_seconds(self) -> bool:
        """Whether the wall time per shower is stored."""
        return "seconds" in self._file

    def column(self, name: str) -> NDArray[Any]:
        """One per-shower column, whole: a name of `COLUMNS`, or `seconds`."""
        column = np.asarray(self._file[name][:])
        if not np.all(np.isfinite(column)):
            raise DataError(f"{self.path}: {name} holds values that are not finite")
        return column

    def read(self, start: int = 0, stop: int | None = None) -> ShowerBatch:
        """Showers [start, stop).

        Raises:
            DataError: The block is damaged, or a value is not finite or an incident energy not positive.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        part = slice(start, stop)
        try:
            arrays: dict[str, Any] = {
                name: self._file[name][part]
                for name in ("showers", *COLUMNS, *(["seconds"] if self.has_seconds else []))
            }
        except OSError as error:
            raise DataError(f"{self.path}: showers {start}-{stop} are damaged and cannot be read") from error
        batch = ShowerBatch(**arrays)
        self._check_values(batch, start)
        return batch

    def _check_values(self, batch: ShowerBatch, start: int) -> None:
        # the sum of a shower with a NaN or an infinity is not finite: one cheap pass
        finite = np.isfinite(batch.showers.reshape(len(batch), -1).sum(axis=1, dtype=np.float64))
        finite &= np.isfinite(batch.incident_theta) & np.isfinite(batch.incident_phi)
        if not finite.all():
            bad = start + int(np.argmin(finite))
            raise DataError(f"{self.path}: shower {bad} holds NaN or infinite values")
        positive = batch.incident_energy > 0
        if not positive.all():
            bad = int(np.argmin(positive))
            raise DataError(
                f"{self.path}: shower {start + bad} has the incident energy {batch.incident_energy[bad]} "
                "MeV, expected a positive one"
            )

    def iterate(self, size: int = 256, *, stop: int | None = None) -> Iterator[ShowerBatch]:
        """The file in order, in batches of about `size` showers, at constant memory.

        Args:
            size: Wanted batch length; rounded to whole chunks.
            stop: Read only the first `stop` showers.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        size = max(self.chunk, size // self.chunk * self.chunk)
        for start in range(0, stop, size):
            yield self.read(start, min(start + size, stop))


class ShowerWriter:
    """Writes a shower file in pieces; its final name appears only at a `close` without an error."""

    def __init__(
        self,
        path: Path | str,
        detector: Detector,
        provenance: dict[str, Any],
        *,
        energy_meaning: EnergyMeaning = "visible",
        with_seconds: bool = False,
        force: bool = False,
    ) -> None:
        """Create the temporary file.

        Args:
            path: Final name.
            detector: Detector of the showers; fixes their shape.
            provenance: JSON-compatible facts, see `caloforge.provenance.collect`.
            energy_meaning: What a voxel's energy means.
            with_seconds: Whether batches carry `seconds`.
            force: Replace an existing file.

        Raises:
            OutputError: The file exists without `force`, or cannot be written.
        """
        self.path = check_new(path, force=force)
        self.detector = detector
        self.with_seconds = with_seconds
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self.count = 0
        shape = detector.shower_shape
        per_chunk = int(np.clip(CHUNK_BYTES // (4 * int(np.prod(shape))), 1, 1024))
        self._rows = per_chunk
        with writing(self.path):
            self._file = h5py.File(self.temporary, "w", libver="v110")
            options: dict[str, Any] = {"maxshape": (None,), "chunks": (max(per_chunk, 1024),)}
            self._file.create_dataset(
                "showers",
                (0, *shape),
                np.float32,
                maxshape=(None, *shape),
                chunks=(per_chunk, *shape),
                compression="gzip",
                compression_opts=GZIP_LEVEL,
                shuffle=True,
            )
            for name, dtype in COLUMNS.items():
                self._file.create_dataset(name, (0,), dtype, **options)
            if with_seconds:
                self._file.create_dataset("seconds", (0,), np.float32, **options)
            self._file.attrs["format"] = FORMAT
            self._file.attrs["format_version"] = FORMAT_VERSION
            self._file.attrs["detector"] = detector.to_json()
            self._file.attrs["energy_meaning"] = energy_meaning
            self._file.attrs["provenance"] = json.dumps(provenance)

    def append(self, batch: ShowerBatch) -> None:
        """Append showers.

        Raises:
            DataError: Another shape than the detector's, or values that are not finite.
            OutputError: The disk is full.
        """
        if batch.showers.shape[1:] != self.detector.shower_shape:
            raise DataError(
                f"{self.path}: got showers of shape {batch.showers.shape[1:]}, the detector "
                f"{self.detector.name} has {self.detector.shower_shape}"
            )
        if not np.isfinite(batch.showers.sum(dtype=np.float64)):
            raise DataError(f"{self.path}: refusing to write showers that are not finite")
        start, stop = self.count, self.count + len(batch)
        names = ("showers", *COLUMNS, *(["seconds"] if self.with_seconds else []))
        with writing(self.path):
            for name in names:
                dataset = self._file[name]
                dataset.resize(stop, axis=0)
                dataset[start:stop] = getattr(batch, name)
        self.count = stop

    def update_provenance(self, **facts: Any) -> None:
        """Add facts known only at the end."""
        provenance = json.loads(str(self._file.attrs["provenance"])) | facts
        self._file.attrs["provenance"] = json.dumps(provenance)

    def close(self) -> None:
        """Finish: flush, rename to the final name."""
        with writing(self.path):
            self._file.close()
            with self.temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            self.temporary.replace(self.path)

    def abort(self) -> None:
        """Give up and remove the temporary file."""
        self._file.close()
        self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

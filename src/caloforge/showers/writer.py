"""Writing the shower file; `caloforge.showers.file` reads it."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from caloforge.errors import DataError, OutputError
from caloforge.files import check_new, partial_path, writing
from caloforge.geometry import Detector
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import COLUMNS, FORMAT, FORMAT_VERSION, EnergyMeaning, finite

CHUNK_BYTES = 2**19
GZIP_LEVEL = 1


def abandon_hdf5(file: h5py.File) -> None:
    """Close a file that nobody wants any more, also where its disk is full.

    HDF5 writes what it still holds when a file is closed, and crashes at the end of the process where that
    fails. So it writes into memory that is forgotten.
    """
    if not file:
        return
    with contextlib.suppress(OSError, RuntimeError):
        sink = os.memfd_create("abandoned")
        os.dup2(sink, file.id.get_vfd_handle())
        os.close(sink)
        file.close()


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
        if self.path.is_dir():
            raise OutputError(f"{self.path}: this is a directory, expected the name of a shower file (.h5)")
        self.detector = detector
        self.with_seconds = with_seconds
        self.count = 0
        self._rows = int(np.clip(CHUNK_BYTES // (4 * math.prod(detector.shower_shape)), 1, 1024))
        with writing(self.path):
            self.temporary = partial_path(self.path)
            self._file = h5py.File(self.temporary, "w", libver="v110")
        attributes = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "detector": detector.to_json(),
            "energy_meaning": energy_meaning,
            "provenance": json.dumps(provenance),
        }
        try:
            with writing(self.path):
                self._file.attrs.update(attributes)
                self._create_datasets()
                self._file.flush()
        except BaseException:
            self.abort()
            raise

    def _create_datasets(self) -> None:
        shape = self.detector.shower_shape
        self._file.create_dataset(
            "showers",
            (0, *shape),
            np.float32,
            maxshape=(None, *shape),
            chunks=(self._rows, *shape),
            compression="gzip",
            compression_opts=GZIP_LEVEL,
            shuffle=True,
        )
        columns = {**COLUMNS, **({"seconds": np.float32} if self.with_seconds else {})}
        for name, dtype in columns.items():
            self._file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(max(self._rows, 1024),))
        # held open: closing a handle swallows the errors of delayed writes
        self._datasets = {name: self._file[name] for name in ("showers", *columns)}

    def append(self, batch: ShowerBatch) -> None:
        """Append showers.

        Raises:
            DataError: Another shape than the detector's, values that are not finite, an energy not positive.
            OutputError: The disk is full.
        """
        self._check(batch)
        start, stop = self.count, self.count + len(batch)
        with writing(self.path):
            for name, dataset in self._datasets.items():
                dataset.resize(stop, axis=0)
                dataset[start:stop] = getattr(batch, name)
            if stop // self._rows > start // self._rows:
                # a write that HDF5 delays until a handle is closed would fail without an error
                self._file.flush()
        self.count = stop

    def _check(self, batch: ShowerBatch) -> None:
        if batch.showers.shape[1:] != self.detector.shower_shape:
            raise DataError(
                f"{self.path}: got showers of shape {batch.showers.shape[1:]}, the detector "
                f"{self.detector.name} has {self.detector.shower_shape}"
            )
        columns = [np.isfinite(batch.incident_theta), np.isfinite(batch.incident_phi)]
        energy = batch.incident_energy
        good = finite(batch.showers) & np.all(columns, axis=0) & (energy > 0) & (energy < np.inf)
        if not good.all():
            bad = self.count + int(np.argmin(good))
            raise DataError(
                f"{self.path}: refusing to write shower {bad}: a value is not finite, or its incident energy "
                "not positive"
            )
        if self.with_seconds and batch.seconds is None:
            raise DataError(f"{self.path}: the showers have no 'seconds', which this file keeps")

    def update_provenance(self, **facts: Any) -> None:
        """Add facts known only at the end."""
        provenance = json.loads(str(self._file.attrs["provenance"])) | facts
        self._file.attrs["provenance"] = json.dumps(provenance)

    def close(self) -> None:
        """Finish: flush, rename to the final name; where that fails nothing is left behind."""
        try:
            with writing(self.path):
                # an error here can be handled, one while the file is closed cannot
                self._file.flush()
                self._file.close()
                with self.temporary.open("rb") as stream:
                    os.fsync(stream.fileno())
                self.temporary.replace(self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up and remove the temporary file."""
        abandon_hdf5(self._file)
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

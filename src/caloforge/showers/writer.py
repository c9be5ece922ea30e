"""Writing of shower files; `caloforge.showers.file` reads them."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError, OutputError
from caloforge.files import check_new, writing
from caloforge.geometry import Detector
from caloforge.geometry.mesh import IMPACT
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.compression import LEVEL, compress_chunk
from caloforge.showers.file import (
    COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    EnergyMeaning,
    all_finite,
    check_impact,
)
from caloforge.showers.hdf5_writer import NewHdf5

CHUNK_BYTES = 2**19
MAX_CHUNK_ROWS = 1024
# rows of the columns that are buffered
COLUMN_ROWS = 1024
NOT_FINITE = "refusing to write shower {number}: a value is not finite, or its incident energy not positive"
# chunks that may wait for compression
WAITING = 32


def chunk_rows(detector: Detector) -> int:
    """Showers of a chunk of a shower file."""
    return int(np.clip(CHUNK_BYTES // (4 * math.prod(detector.shower_shape)), 1, MAX_CHUNK_ROWS))


def compressed_chunks(
    batches: Iterable[NDArray[np.float32]], detector: Detector, first: int = 0
) -> Iterator[bytes]:
    """The chunks that a shower file would hold of these showers, for `ShowerWriter.append_chunks`.

    Args:
        batches: Showers, each (N, *shower_shape); MeV.
        detector: Detector of the showers.
        first: Number of the first shower, for messages.

    Raises:
        DataError: A value is not finite.
    """
    chunk, filled = np.zeros((chunk_rows(detector), *detector.shower_shape), "<f4"), 0
    for showers in batches:
        if not (good := all_finite(showers)).all():
            raise DataError(NOT_FINITE.format(number=first + int(np.argmin(good))))
        first, start = first + len(showers), 0
        while start < len(showers):
            stop = min(len(showers), start + len(chunk) - filled)
            chunk[filled : filled + stop - start] = showers[start:stop]
            filled, start = filled + stop - start, stop
            if filled == len(chunk):
                yield compress_chunk(chunk)
                filled = 0
    if filled:
        chunk[filled:] = 0
        yield compress_chunk(chunk)


class ShowerWriter:
    """Writes a shower file batch by batch; the file gets its final name at `close`.

    It holds impact points if any shower has one off the axis.
    """

    def __init__(
        self,
        path: Path | str,
        detector: Detector,
        provenance: dict[str, Any],
        *,
        energy_meaning: EnergyMeaning = "visible",
        with_seconds: bool = False,
        force: bool = False,
        pool: Executor | None = None,
    ) -> None:
        """Create the temporary file.

        Args:
            path: Final name.
            detector: Detector of the showers; fixes their shape.
            provenance: JSON-compatible facts, see `caloforge.provenance.collect`.
            energy_meaning: Meaning of the voxel energies.
            with_seconds: Whether batches carry `seconds`.
            force: Replace an existing file.
            pool: Threads that compress in the background; by default `append` compresses.

        Raises:
            OutputError: The file exists without `force`, or cannot be written.
        """
        self.path = check_new(path, force=force)
        if self.path.is_dir():
            raise OutputError(f"{self.path}: this is a directory, expected the name of a shower file (.h5)")
        self.detector = detector
        self.with_seconds = with_seconds
        self.count = 0
        self._pool = pool
        self._rows = chunk_rows(detector)
        # the incomplete chunk, the chunks in compression, and the columns not written yet
        self._open_chunk = np.zeros((self._rows, *detector.shower_shape), "<f4")
        self._waiting: deque[Future[bytes]] = deque()
        self._columns: list[ShowerBatch] = []
        self._written_chunks = self._written_rows = 0
        self._output = NewHdf5(self.path)
        self._file = self._output.file
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
            self._output.check()
        except BaseException:
            self.abort()
            raise

    def _create_datasets(self) -> None:
        shape = self.detector.shower_shape
        self._file.create_dataset(
            "showers",
            (0, *shape),
            "<f4",
            maxshape=(None, *shape),
            chunks=(self._rows, *shape),
            compression="gzip",
            compression_opts=LEVEL,
            shuffle=True,
        )
        self._datasets = {"showers": self._file["showers"]}
        for name, dtype in COLUMNS.items():
            self._add_column(name, dtype)
        if self.with_seconds:
            self._add_column("seconds", np.float32)

    def _add_column(self, name: str, dtype: type) -> None:
        rows = max(self._rows, COLUMN_ROWS)
        self._datasets[name] = self._file.create_dataset(
            name, (self._written_rows,), dtype, maxshape=(None,), chunks=(rows,)
        )

    def _add_impacts(self) -> None:
        """Add the data sets of impact points; showers written before get 0, the fill value."""
        for name in IMPACT:
            if name not in self._datasets:
                self._add_column(name, np.float32)

    def append(self, batch: ShowerBatch) -> None:
        """Append showers; the batch may be modified afterwards.

        Raises:
            DataError: Another shape than the detector's, values that are not finite, an energy not positive.
            OutputError: The disk is full.
        """
        self._check(batch)
        with writing(self.path):
            self._add_showers(batch.showers)
            self._keep_columns(batch)
        self._output.check()

    def append_chunks(self, batch: ShowerBatch, chunks: Iterable[bytes]) -> None:
        """Append showers whose chunks `compressed_chunks` has made.

        All showers before fill their chunks; nothing but such showers comes afterwards if these do not.

        Args:
            batch: Their columns; it has no cells: its showers are of the shape (N, 0).
            chunks: Their cells.

        Raises:
            DataError: An angle that is not finite, an energy that is not positive.
            OutputError: The disk is full.
        """
        assert self.count % self._rows == 0
        self._check_columns(batch, np.ones(len(batch), np.bool_))
        with writing(self.path):
            for chunk in chunks:
                self._write_chunk(chunk)
            self._keep_columns(batch)
        self._output.check()

    def _keep_columns(self, batch: ShowerBatch) -> None:
        self._columns.append(replace(batch, showers=batch.showers[:, :0]))
        self.count += len(batch)
        if self.count - self._written_rows >= COLUMN_ROWS:
            self._write_columns()

    def _add_showers(self, showers: NDArray[np.float32]) -> None:
        """Copy showers into the open chunk; full chunks are compressed."""
        start = 0
        while start < len(showers):
            filled = (self.count + start) % self._rows
            stop = min(len(showers), start + self._rows - filled)
            if stop - start == self._rows and self._pool is None:
                self._compress(showers[start:stop])
            else:
                self._open_chunk[filled : filled + stop - start] = showers[start:stop]
                if filled + stop - start == self._rows:
                    self._compress(self._open_chunk)
                    if self._pool is not None:
                        # the pool still reads the old one
                        self._open_chunk = np.zeros_like(self._open_chunk)
            start = stop

    def _compress(self, cells: NDArray[np.float32]) -> None:
        if self._pool is None:
            self._write_chunk(compress_chunk(cells))
            return
        self._waiting.append(self._pool.submit(compress_chunk, cells))
        while self._waiting and (len(self._waiting) > WAITING or self._waiting[0].done()):
            self._write_chunk(self._waiting.popleft().result())

    def _write_chunk(self, data: bytes) -> None:
        """Write the next compressed chunk directly, bypassing HDF5's filters."""
        dataset, first = self._datasets["showers"], self._written_chunks * self._rows
        if first >= len(dataset):
            dataset.resize(first + max(self._rows, COLUMN_ROWS), axis=0)
        dataset.id.write_direct_chunk((first, *[0] * len(self.detector.shower_shape)), data)
        self._written_chunks += 1

    def _write_columns(self) -> None:
        if any(np.any(getattr(batch, name)) for batch in self._columns for name in IMPACT):
            self._add_impacts()
        for name, dataset in self._datasets.items():
            if name != "showers":
                dataset.resize(self.count, axis=0)
                dataset[self._written_rows :] = np.concatenate([getattr(b, name) for b in self._columns])
        self._written_rows = self.count
        self._columns.clear()
        # flush: a full disk is found here and not at the end
        self._file.flush()

    def _write_rest(self) -> None:
        """Write what `append` has buffered: chunks in compression, the open chunk, rows of the columns."""
        chunks = -(-self.count // self._rows)
        filled = self.count % self._rows
        if filled and self._written_chunks + len(self._waiting) < chunks:
            self._open_chunk[filled:] = 0
            self._compress(self._open_chunk)
        while self._waiting:
            self._write_chunk(self._waiting.popleft().result())
        self._datasets["showers"].resize(self.count, axis=0)
        if self._columns:
            self._write_columns()

    def _check(self, batch: ShowerBatch) -> None:
        if batch.showers.shape[1:] != self.detector.shower_shape:
            raise DataError(
                f"{self.path}: got showers of shape {batch.showers.shape[1:]}, the detector "
                f"{self.detector.name} has {self.detector.shower_shape}"
            )
        self._check_columns(batch, all_finite(batch.showers))

    def _check_columns(self, batch: ShowerBatch, finite: NDArray[np.bool_]) -> None:
        """Check the columns of showers, of whose cells it is known whether they are finite."""
        columns = [np.isfinite(batch.incident_theta), np.isfinite(batch.incident_phi)]
        energy = batch.incident_energy
        good = finite & np.all(columns, axis=0) & (energy > 0) & (energy < np.inf)
        if not good.all():
            raise DataError(f"{self.path}: {NOT_FINITE.format(number=self.count + int(np.argmin(good)))}")
        for name in IMPACT:
            check_impact(self.path, self.detector, name, getattr(batch, name), self.count)
        if self.with_seconds and batch.seconds is None:
            raise DataError(f"{self.path}: the showers have no 'seconds', which this file keeps")

    def update_provenance(self, **facts: Any) -> None:
        """Add entries to the provenance that are known only at the end."""
        provenance = json.loads(str(self._file.attrs["provenance"])) | facts
        self._file.attrs["provenance"] = json.dumps(provenance)

    def close(self) -> None:
        """Flush the file and rename it to its final name; it is removed if that fails."""
        try:
            with writing(self.path):
                self._write_rest()
            self._output.publish()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove the temporary file without creating the final one."""
        for future in self._waiting:
            future.cancel()
        self._output.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

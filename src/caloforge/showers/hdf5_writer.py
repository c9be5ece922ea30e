"""Writing of HDF5 files that survives a full disk.

After a failed write HDF5 (1.14 and 2.0) crashes when the file is closed or the process ends. So it writes
through a stream whose writes never fail: the first error is stored, and later writes go to memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from caloforge.files import check_new, partial_path, writing


class KeepingStream:
    """A new file whose writes never raise; `check` raises the first error of a write."""

    def __init__(self, path: Path) -> None:
        """Create the file.

        Raises:
            OSError: It cannot be created.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._place = 0
        self._error: OSError | None = None
        self._dropped = False
        # (position, bytes) written since the error, oldest first
        self._kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """Stop writing to the disk."""
        self._dropped = True

    def sync(self) -> None:
        """Flush the file to the disk (fsync).

        Raises:
            OSError: The flush or an earlier write failed.
        """
        self.check()
        os.fsync(self._descriptor)

    # ---- the file interface that h5py uses

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; returns it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size()}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """The position."""
        return self._place

    def write(self, data: bytes | memoryview) -> int:
        """Write at the position, to the disk or, after an error, to memory."""
        view, done = memoryview(data).cast("B"), 0
        while done < len(view) and not self._lost:
            try:
                done += os.pwrite(self._descriptor, view[done:], self._place + done)
            except OSError as error:
                self._error = error
        if done < len(view):
            self._kept.append((self._place + done, bytes(view[done:])))
        self._place += len(view)
        return len(view)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read at the position."""
        view = memoryview(buffer).cast("B")
        count = os.preadv(self._descriptor, [view], self._place)
        for start, data in self._kept:
            first = max(start, self._place)
            last = min(start + len(data), self._place + len(view))
            if first < last:
                view[first - self._place : last - self._place] = data[first - start : last - start]
                count = max(count, last - self._place)
        self._place += count
        return count

    def read(self, size: int) -> bytes:
        """Read at the position."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def truncate(self, size: int) -> int:
        """Set the size of the file."""
        if not self._lost:
            try:
                os.ftruncate(self._descriptor, size)
            except OSError as error:
                self._error = error
        return size

    def flush(self) -> None:
        """Does nothing: writes are not buffered."""

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _lost(self) -> bool:
        return self._dropped or self._error is not None

    def _size(self) -> int:
        ends = (start + len(data) for start, data in self._kept)
        return max(os.fstat(self._descriptor).st_size, *ends, 0)


class NewHdf5:
    """An HDF5 file under a temporary name; `publish` gives it its own.

    Attributes:
        path: Its final name.
        file: The open h5py file. A full disk raises at `check`, not at writes.
    """

    def __init__(self, path: Path) -> None:
        """Create the temporary file.

        Raises:
            OutputError: The folder cannot be written.
        """
        self.path = path
        with writing(path):
            self._temporary = partial_path(path)
            self._stream = KeepingStream(self._temporary)
        self.file = h5py.File(self._stream, "w", libver="v110")

    def check(self) -> None:
        """Raise the first error of a write, if there was one.

        Raises:
            OutputError: The disk is full, ...
        """
        with writing(self.path):
            self._stream.check()

    def publish(self) -> None:
        """Flush, close, and rename the file to its final name.

        Raises:
            OutputError: The disk is full, ...; call `abandon` then.
        """
        self.file.close()
        with writing(self.path):
            self._stream.sync()
            self._stream.close()
            self._temporary.replace(self.path)

    def abandon(self) -> None:
        """Close and remove the temporary file; does nothing after `publish`."""
        self._stream.drop()
        with contextlib.suppress(OSError, RuntimeError):
            self.file.close()
        self._stream.close()
        self._temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_hdf5(path: Path, *, force: bool) -> Iterator[NewHdf5]:
    """A context manager for a new HDF5 file, which gets its name when it is complete.

    Raises:
        OutputError: It exists without `force`, or cannot be written.
    """
    check_new(path, force=force)
    output = NewHdf5(path)
    try:
        with writing(path):
            yield output
        output.publish()
    finally:
        output.abandon()

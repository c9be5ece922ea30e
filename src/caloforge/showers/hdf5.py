"""Safe reading of HDF5 files: every defect of a file becomes a `DataError` that names it.

Nothing else in caloforge opens an HDF5 file for reading. Files are not trusted: a process with limits scans
them first (`caloforge.showers.hdf5_scan`), links and values outside the file are not followed, and the memory
that a read needs is compared with `READ_BYTES` first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.showers.hdf5_scan import look

# maximum bytes of one read: a chunk, a column, a batch of showers
READ_BYTES = 2**28
# a file that is itself large may be read in larger parts: this many times its size
READ_RATIO = 100
# declared over stored size beyond which a file was never filled; zlib reaches at most 1032
DECLARED_RATIO = 2000
DECLARED_SLACK = 2**24
# rows of variable length that are read at once
ROWS_OF_LENGTHS = 256
# names that are listed
MAX_NAMES = 1000
# registered HDF5 filters that are not part of h5py
FILTERS = {
    307: "bzip2", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32013: "ZFP", 32015: "Zstandard",
    32017: "SZ", 32018: "FCIDECOMP", 32024: "SZ3", 32026: "Blosc2", 32028: "SPERR",
}  # fmt: skip


def check_bytes(path: Path, size: int, what: str, limit: int = READ_BYTES, hint: str = "") -> None:
    """Refuse a read that exceeds a memory limit.

    Args:
        path: The file, for the message.
        size: Bytes that would be read.
        what: What is read, such as "a chunk of showers", for the message.
        limit: Maximum of bytes.
        hint: Advice at the end of the message.

    Raises:
        DataError: `size` exceeds `limit`.
    """
    if size > limit:
        raise DataError(
            f"{path}: {what} takes {_size(size)} of memory, at most {_size(limit)} are read at once{hint}"
        )


def _size(n: int) -> str:
    return f"{n / 1e9:.3g} GB" if n >= 1e9 else f"{n / 1e6:.3g} MB" if n >= 1e6 else f"{n / 1e3:.3g} kB"


@dataclass(frozen=True)
class StoredArray:
    """Description of a numeric data set in a file; checked, but not read yet.

    Attributes:
        name: Name.
        shape: Shape; not empty.
        dtype: Type of a value.
        chunks: Shape of a chunk, or None.
        lengths: Whether each value is a row of variable length.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    lengths: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry along the first axis."""
        return int(self.dtype.itemsize * _product(self.shape[1:]))


class Hdf5File:
    """An HDF5 file opened for reading. Use it as a context manager.

    Attributes:
        path: The file.
        size: Bytes on the disk.
    """

    def __init__(self, path: Path, *, missing: str = "") -> None:
        """Open a file.

        Args:
            path: The file.
            missing: Advice to add to the message if there is no such file.

        Raises:
            DataError: Not a regular file, not readable, locked, left open by its writer, truncated, damaged,
                or no HDF5.
        """
        self.path = path
        self.size = _check_readable(path, missing)
        if problem := look(path):
            raise DataError(f"{path}: {problem}; take another copy, or make it again")
        try:
            self._file = h5py.File(path, "r")
        except Exception as error:
            raise _open_error(path, self.size, error) from error
        self._arrays: dict[str, h5py.Dataset] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        # closing a damaged file may fail; nothing is lost by that
        with contextlib.suppress(Exception):
            self._file.close()

    def names(self) -> list[str]:
        """Names in the root group, `MAX_NAMES` at most."""
        with self._reading("the list of data sets"):
            found = []
            for name in self._file:
                found.append(str(name))
                if len(found) == MAX_NAMES:
                    break
            return found

    def found(self) -> str:
        """The data sets and their shapes, for messages."""
        parts = []
        for name in self.names()[:12]:
            shape: object = ""
            with contextlib.suppress(DataError), self._reading(name):
                link = self._file.get(name, getlink=True)
                item = self._file[name] if isinstance(link, h5py.HardLink) else None
                shape = item.shape if isinstance(item, h5py.Dataset) else ""
            parts.append(f"{_shown(name)} {shape}".rstrip())
        return ", ".join(parts) or "nothing"

    def has(self, *names: str) -> bool:
        """Whether the root group has all of these names."""
        with self._reading("the list of data sets"):
            return all(self._file.get(name, getlink=True) is not None for name in names)

    def attribute(self, name: str) -> str | int | float | None:
        """An attribute of the root group, or None.

        Raises:
            DataError: Damaged, an array, larger than the budget, or of another type.
        """
        with self._reading(f"the attribute {name!r}"):
            if name not in self._file.attrs:
                return None
            stored = self._file.attrs.get_id(name)
            if stored.shape not in ((), (1,)):
                raise DataError(
                    f"{self.path}: the attribute {name!r} is an array {stored.shape}, expected one value"
                )
            check_bytes(self.path, stored.get_storage_size(), f"the attribute {name!r}")
            value = self._file.attrs[name]
        # C and C++ programs often write text with a fixed length, which reads as bytes, and values as arrays
        # of one
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        if isinstance(value, np.generic) and not isinstance(value, np.void):
            value = value.item()
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str | int | float):
            raise DataError(f"{self.path}: the attribute {name!r} is neither a text nor a number")
        return value

    def array(self, name: str) -> StoredArray:
        """Describe and check a numeric data set.

        Raises:
            DataError: Missing, a link, kept outside the file, of another type, with a filter that is not
                installed, with chunks beyond the budget, or larger than its file can hold.
        """
        with self._reading(f"the data set {name!r}"):
            return self._array(name)

    def _array(self, name: str) -> StoredArray:
        # a link or an external data set would read a file that the user did not name
        if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{self.path}: the data set {name!r} is missing; found {self.found()}")
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            raise DataError(f"{self.path}: {name!r} is no data set with a value per shower")
        try:
            dtype = dataset.dtype
        except TypeError as error:
            raise DataError(f"{self.path}: {name!r} has a type that is no number ({error})") from error
        inner = h5py.check_vlen_dtype(dtype)
        kind = np.dtype(inner) if inner is not None and isinstance(inner, np.dtype | type) else dtype
        if kind.kind not in "fiu" or dtype.shape or dataset.external or dataset.is_virtual:
            raise DataError(
                f"{self.path}: the data set {name!r} holds {dtype}, expected numbers that lie in the file "
                "itself"
            )
        self._check_filters(dataset, name)
        stored = StoredArray(name, dataset.shape, kind, dataset.chunks, lengths=inner is not None)
        self._check_size(stored)
        self._arrays[name] = dataset
        return stored

    def _check_filters(self, dataset: h5py.Dataset, name: str) -> None:
        pipeline = dataset.id.get_create_plist()
        for index in range(pipeline.get_nfilters()):
            number, _, _, label = pipeline.get_filter(index)
            if h5py.h5z.filter_avail(number) or _load_filters(number):
                continue
            known = FILTERS.get(number)
            title = known or label.split(b";")[0].decode("ascii", "replace").strip("\0 ")[:40] or "unknown"
            mend = "pip install 'caloforge[hdf5]'" if known else "take a copy without it (h5repack -f GZIP=1)"
            raise DataError(
                f"{self.path}: {name!r} is compressed with {title} (HDF5 filter {number}), which is not "
                "installed; "
                f"the file is not damaged: {mend}"
            )

    def _check_size(self, stored: StoredArray) -> None:
        item = stored.dtype.itemsize
        repack = f"; rewrite it with smaller ones: h5repack -l {stored.name}:CHUNK=..."
        check_bytes(
            self.path, item * _product(stored.chunks or (0,)), f"a chunk of {stored.name!r}", hint=repack
        )
        check_bytes(self.path, stored.row_bytes, f"one shower of {stored.name!r}")
        declared = item * _product(stored.shape)
        if declared > DECLARED_RATIO * self.size + DECLARED_SLACK:
            raise DataError(
                f"{self.path}: the shape {stored.shape} of {stored.name!r} stands for {_size(declared)}, "
                "but the "
                f"file has {_size(self.size)}: it was never filled, or is damaged"
            )

    def rows_at_once(self, stored: StoredArray, budget: int = READ_BYTES) -> int:
        """Number of entries along the first axis that fit into the limit, at least 1."""
        if stored.lengths:
            # rows may overlap in the file: each can be as long as the file
            return min(max(1, READ_BYTES // self.size), ROWS_OF_LENGTHS)
        return max(1, budget // max(1, stored.row_bytes))

    def read(self, stored: StoredArray, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read the entries [start, stop) along the first axis.

        Raises:
            DataError: Damaged, or larger than the limit.
        """
        stop = stored.shape[0] if stop is None else min(stop, stored.shape[0])
        what = f"{stored.name} {start}-{stop}"
        limit = max(READ_BYTES, READ_RATIO * self.size)
        check_bytes(
            self.path, (stop - start) * stored.row_bytes, what, limit, "; read fewer showers at a time"
        )
        with self._reading(what):
            return np.asarray(self._arrays[stored.name][start:stop])

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Turn the errors of h5py, which are of any class for a damaged file, into a `DataError`."""
        if not self._file:
            raise DataError(f"{self.path}: this file is closed; open it again to read {what}")
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{self.path}: {what}: damaged, cannot be read ({_reason(error)})") from error


def _product(shape: tuple[int, ...]) -> int:
    # Python integers: NumPy's would overflow
    product = 1
    for n in shape:
        product *= int(n)
    return product


def _check_readable(path: Path, missing: str) -> int:
    """Check that a path is a readable regular file; returns its size."""
    try:
        # stat first: opening a FIFO or a device could block for ever
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise DataError(f"{path}: this is a directory, expected an HDF5 file (.h5)")
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path}: this is no regular file, expected an HDF5 file (.h5)")
        with path.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{missing}") from error
    except PermissionError as error:
        raise DataError(
            f"{path}: no permission to read this file; ask its owner for it (chmod a+r), it is not damaged"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from error
    if found.st_size == 0:
        raise DataError(f"{path} is empty; make it again or take another copy")
    return found.st_size


def _open_error(path: Path, size: int, error: Exception) -> DataError:
    """A `DataError` that explains why h5py cannot open a file."""
    text, number = str(error), getattr(error, "errno", None)
    if number in (errno.EAGAIN, errno.EACCES) and "lock" in text:
        return DataError(
            f"{path}: another process has this file open for writing (it is locked); wait until that ends, "
            "the "
            "file is not damaged"
        )
    if "unable to lock file" in text:
        return DataError(
            f"{path}: this file system cannot lock files "
            f"({os.strerror(number) if number else _reason(error)}); "
            "set HDF5_USE_FILE_LOCKING=FALSE"
        )
    if "already open for" in text:
        return DataError(
            f"{path}: it was not closed by the program that wrote it: that still runs, or was killed; wait "
            "for it, "
            "or, if it is gone, free the file with 'h5clear -s FILE' (what it wrote last may be missing)"
        )
    if "truncated file" in text:
        return DataError(f"{path} is truncated ({size} bytes); make it again or take another copy")
    if "signature not found" in text:
        return DataError(
            f"{path} is no HDF5 file ({size} bytes); expected a shower file or one to import (.h5)"
        )
    return DataError(
        f"{path} is damaged ({size} bytes; {_reason(error)}); make it again or take another copy"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 160 else words[:157] + "..."


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) <= 40 else ascii(name)[:40]


def _load_filters(number: int) -> bool:
    """Load hdf5plugin, which registers its filters when imported; returns whether it has the filter."""
    if find_spec("hdf5plugin") is None:
        return False
    import_module("hdf5plugin")
    return bool(h5py.h5z.filter_avail(number))

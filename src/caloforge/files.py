"""Output files: no silent overwriting, a check of the free space, atomic writing."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from caloforge.errors import DataError, OutputError
from caloforge.number_format import size
from caloforge.output import readable


def cache_folder() -> Path:
    """The cache folder of caloforge: below XDG_CACHE_HOME, or ~/.cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: a path that is not absolute is ignored
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "caloforge"


def check_new(path: Path | str, *, force: bool = False, hint: str = "--force to replace it") -> Path:
    """Check that an output can be created without replacing anything.

    Args:
        path: A file or directory to be created.
        force: Whether an existing output may be replaced.
        hint: The option that the message suggests for an existing output.

    Returns:
        The path, its parent directory existing and writable.

    Raises:
        OutputError: It exists and `force` is not given, or the place is not writable.
    """
    path = check_named(Path(path))
    try:
        exists = path.exists()
    except OSError as error:
        raise OutputError(f"{path}: cannot be used as an output ({error.strerror})") from error
    if exists and not force:
        raise OutputError(f"{path} exists already; give {hint}, or choose another name")
    return check_writable(path)


def check_named(path: Path) -> Path:
    """Check that an output has a name of its own, which the root and the working directory have not.

    Raises:
        OutputError: "/", "." or "..".
    """
    if path.name in ("", ".."):
        raise OutputError(f"{path}: cannot be used as an output, expected the name of a new file or folder")
    return path


def check_writable(path: Path) -> Path:
    """Create the parent directory of an output and check that a file can be written there."""
    parent = path.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{parent}: cannot create this directory ({error.strerror})") from error
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{parent}: no permission to write here; choose another output")
    return path


def check_space(path: Path, needed: int, what: str) -> None:
    """Refuse to start work whose output cannot fit on the disk.

    Args:
        path: The output; the file system of its parent is asked.
        needed: Estimated size in bytes.
        what: What is to be written, for the message.

    Raises:
        OutputError: Less than `needed` bytes are free.
    """
    free = shutil.disk_usage(path.absolute().parent).free
    if needed > free:
        raise OutputError(
            f"{path}: {what} needs about {size(needed)} but {size(free)} are free; "
            "choose another disk or fewer showers"
        )


def partial_path(path: Path) -> Path:
    """A temporary name beside an output, a file or a folder; what killed processes left there is removed.

    The name holds the host and the process: on a shared disk only the host itself knows which of its
    processes live.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    for stale in path.absolute().parent.glob(f".{glob.escape(path.name)}.{host}.*.partial"):
        number = stale.name.removesuffix(".partial").rpartition(".")[2]
        if number.isdecimal() and not _is_running(int(number)):
            if stale.is_dir() and not stale.is_symlink():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.partial")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # a process of another user, or no valid number: assume that it runs
        return True
    return True


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file; devices, pipes and folders are refused without blocking.

    Args:
        path: The file; a symbolic link to one may be given.
        limit: Maximum size in bytes.

    Raises:
        DataError: No regular file, or larger.
        OSError: It cannot be read.
    """
    # without O_NONBLOCK, opening a pipe would block until another process writes to it
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path}: a device, pipe or folder, expected a file; take another copy")
        if found.st_size > limit:
            raise DataError(f"{path}: {found.st_size} bytes, expected at most {limit}; take another copy")
        return stream.read(found.st_size)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn operating-system errors while writing `path` into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error) from error
    except RuntimeError as error:
        # HDF5 raises a RuntimeError where a delayed write fails
        if "write failed" not in str(error):
            raise
        raise _output_error(path, error) from error


def _output_error(path: Path, error: OSError | RuntimeError) -> OutputError:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return OutputError(f"{path}: the disk is full; free some space and run the same command again")
    if number == errno.EFBIG:
        return OutputError(
            f"{path}: larger than the limit on the size of files; raise it (ulimit -f) and run the same "
            "command again"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{path}: no permission to write here; choose another output")
    # strerror alone: the message names the path already
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return OutputError(f"{path}: cannot be written ({' '.join(reason.split())})")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name that is renamed to `path` at the end: a kill leaves the old file or the new one.

    Raises:
        OutputError: The disk is full, ...; then nothing of the new file is left.
    """
    with writing(path):
        temporary = partial_path(path)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        OutputError: See `replacing`.
    """
    write_bytes(path, readable(text).encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a binary file atomically.

    Raises:
        OutputError: See `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)

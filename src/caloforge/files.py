"""Output files: refuse to overwrite, check the disk, write atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from caloforge.errors import OutputError


def check_new(path: Path | str, *, force: bool = False, hint: str = "--force to replace it") -> Path:
    """Make sure an output can be written and nothing is lost by it.

    Args:
        path: A file or directory to be created.
        force: Whether an existing output may be replaced.
        hint: What the message offers for an existing output.

    Returns:
        The path, its parent directory existing and writable.

    Raises:
        OutputError: It exists and `force` is not given, or the place is not writable.
    """
    path = Path(path)
    if path.exists() and not force:
        raise OutputError(f"{path} exists already; give {hint}, or choose another name")
    return check_writable(path)


def check_writable(path: Path) -> Path:
    """Create the parent directory of an output and make sure a file can be written there."""
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
            f"{path}: {what} needs about {needed / 1e9:.2f} GB but {free / 1e9:.2f} GB are free; "
            "choose another disk or fewer showers"
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's errors while writing `path` into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC or "No space left" in str(error):
            message = f"{path}: the disk is full; free some space and run the same command again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            message = f"{path}: no permission to write here; choose another output"
        else:
            message = f"{path}: cannot be written ({error})"
        raise OutputError(message) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill at any moment leaves the old one or the new one."""
    with writing(path):
        temporary = path.with_name(f".{path.name}.partial")
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)

"""Copy of the shower file on a local disk of each machine, so that it is read once over the network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from caloforge.errors import DataError, OutputError
from caloforge.files import check_space, check_writable, partial_path, write_text, writing
from caloforge.showers.file_pattern import is_pattern, joined_path, matching_files
from caloforge.training.process_group import Communicator

BLOCK = 2**24
# slowest network expected, in bytes per second; determines how long to wait for a copy
SLOWEST = 1e7


def local_copy(data: Path, folder: str | None, communicator: Communicator) -> Path:
    """Copy the shower file to `folder`, once per machine; returns the path to read from.

    An existing copy is used if it and the original still have the sizes and modification times recorded when
    it was made. A new copy is read back, compared by digest and moved into place when it is complete.

    Args:
        data: The shower file, or a pattern of several, each of which is copied.
        folder: Folder on a local disk, with the same name on all machines; None for no copy.
        communicator: The process group.

    Raises:
        DataError: The original cannot be read.
        OutputError: The copy cannot be written, or differs from the original when read back.
    """
    if folder is None:
        return data
    if is_pattern(data):
        return joined_path([local_copy(part, folder, communicator) for part in matching_files(data)])
    try:
        original = data.stat()
    except OSError as error:
        raise DataError(f"{data}: cannot be read ({error.strerror})") from error
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    copy = Path(folder).expanduser() / f"{data.stem}-{name}{data.suffix}"
    state = {"size": original.st_size, "time": original.st_mtime_ns}
    if communicator.local_rank == 0 and not _is_copy(copy, state):
        _copy(data, copy, state)
    communicator.barrier(communicator.timeout + original.st_size / SLOWEST)
    return copy


def _note(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.json")


def _is_copy(copy: Path, original: dict[str, int]) -> bool:
    try:
        noted: dict[str, Any] = json.loads(_note(copy).read_text(encoding="utf-8"))
        found = copy.stat()
    except (OSError, ValueError):
        return False
    return noted.get("original") == original and noted.get("copy") == {
        "size": found.st_size,
        "time": found.st_mtime_ns,
    }


def _copy(data: Path, copy: Path, original: dict[str, int]) -> None:
    check_writable(copy)
    check_space(copy, original["size"], "a copy of the shower file")
    partial = partial_path(copy)
    read, written = hashlib.sha256(), hashlib.sha256()
    with writing(copy):
        try:
            with data.open("rb") as source, partial.open("wb") as target:
                while block := source.read(BLOCK):
                    read.update(block)
                    target.write(block)
            with partial.open("rb") as back:
                while block := back.read(BLOCK):
                    written.update(block)
            if written.digest() != read.digest():
                raise OutputError(
                    f"{copy}: this disk returns other bytes than were written; choose another training.cache"
                )
            partial.replace(copy)
        finally:
            partial.unlink(missing_ok=True)
    found = copy.stat()
    noted = {"original": original, "copy": {"size": found.st_size, "time": found.st_mtime_ns}}
    write_text(_note(copy), json.dumps(noted | {"sha256": written.hexdigest(), "file": str(data)}))

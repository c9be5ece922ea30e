"""A copy of the shower file on a disk of each machine: many processes do not read it over a network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from caloforge.errors import DataError, OutputError
from caloforge.files import check_space, check_writable, partial_path, write_text, writing
from caloforge.training.process_group import Processes

BLOCK = 2**24
# bytes a second that even a slow network reaches; longer than this no process waits for a copy
SLOWEST = 1e7


def local_copy(data: Path, folder: str | None, processes: Processes) -> Path:
    """The file to read: a copy in `folder`, made by the first process of a machine; or `data` itself.

    A copy is taken again only if it and the original have the sizes and times noted when it was made; it was
    read back then and had the digest of the original. It appears when it is whole.

    Args:
        data: The shower file.
        folder: On a local disk; the same name on all machines.
        processes: Who needs it.

    Raises:
        DataError: The original cannot be read.
        OutputError: The copy cannot be written, or comes back changed.
    """
    if folder is None:
        return data
    try:
        original = data.stat()
    except OSError as error:
        raise DataError(f"{data}: cannot be read ({error.strerror})") from error
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    copy = Path(folder).expanduser() / f"{data.stem}-{name}{data.suffix}"
    state = {"size": original.st_size, "time": original.st_mtime_ns}
    if processes.local_rank == 0 and not _is_copy(copy, state):
        _copy(data, copy, state)
    processes.wait_for_all(processes.timeout + original.st_size / SLOWEST)
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
                raise OutputError(f"{copy}: came back from this disk changed; choose another training.cache")
            partial.replace(copy)
        finally:
            partial.unlink(missing_ok=True)
    found = copy.stat()
    noted = {"original": original, "copy": {"size": found.st_size, "time": found.st_mtime_ns}}
    write_text(_note(copy), json.dumps(noted | {"sha256": written.hexdigest(), "file": str(data)}))

"""Checkpoints of a campaign: blocks of finished showers or events on disk, and a manifest of its settings.

While a campaign runs, `<out>.parts/` holds `campaign.json` and one file `<start>-<stop>.npz` for each block
of showers. A block appears under its name only when it is complete, so that a kill at any moment loses the
running blocks and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError, OutputError, SimulationError
from caloforge.files import partial_path, write_text, writing
from caloforge.provenance import differences


class DamagedBlockError(SimulationError):
    """A block of finished showers that cannot be read; it has been removed."""


_BLOCK_FILE = re.compile(r"(\d{10,})-(\d{10,})\.npz")
MANIFEST = "campaign.json"
_CAMPAIGN_FILE = re.compile(rf"{_BLOCK_FILE.pattern}|{re.escape(MANIFEST)}|worker-\d+\.log|\..*\.partial")
_LOCK = "lock"


def save_arrays(folder: Path, start: int, stop: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays of the block [start, stop) atomically.

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    path = folder / block_name(start, stop)
    temporary, named = partial_path(path), cast(Any, dict(arrays))
    try:
        with writing(path):
            with temporary.open("wb") as stream:
                np.savez(stream, **named)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        # frees the space on a full disk
        temporary.unlink(missing_ok=True)


def load_arrays(
    path: Path, is_intact: Callable[[Mapping[str, NDArray[Any]], int], bool]
) -> tuple[int, dict[str, NDArray[Any]]]:
    """Read the arrays of a block; a damaged one is removed, so that it is made again.

    Args:
        path: The block.
        is_intact: Whether arrays are those of a block of so many showers or events.

    Returns:
        The first shower or event, and the arrays.

    Raises:
        DamagedBlockError: The block is damaged.
        SimulationError: The operating system refuses to read it; nothing is removed.
    """
    start, stop = interval_of_block(path)
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = dict(stored)
        intact = is_intact(arrays, stop - start)
    except Exception as error:
        # zipfile, zlib and numpy raise a dozen classes for damage; an errno means the operating system
        if isinstance(error, OSError) and error.errno is not None:
            raise SimulationError(
                f"{path}: cannot be read ({error.strerror}); mend that, then run the same command with "
                "--resume"
            ) from error
        intact = False
    if not intact:
        path.unlink(missing_ok=True)
        raise DamagedBlockError(
            f"{path.name}: this block of finished showers was damaged and has been removed; run the same "
            "command with --resume to make it again"
        )
    return start, arrays


class Parts:
    """The folder of a running campaign, held by one process at a time. Use it as a context manager."""

    def __init__(
        self, folder: Path, settings: dict[str, Any], n: int, *, restart: bool, first: int = 0
    ) -> None:
        """Nothing is touched before the context is entered.

        Args:
            folder: `<out>.parts`.
            settings: Everything that decides what the showers are; JSON-compatible.
            n: Number after the last shower.
            restart: Remove the blocks of an earlier campaign.
            first: Number of the first shower, of a part of a campaign.
        """
        self.folder, self.settings, self.n, self._restart = folder, settings, n, restart
        self.first = first
        self.facts: dict[str, Any] = {}
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
            self._lock = (self.folder / _LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise OutputError(
                f"{self.folder}: another process writes into this output now; wait for it or choose "
                "another output"
            ) from error
        except OSError:
            # some network file systems have no locks: there the user must not start two campaigns
            pass
        try:
            if self._restart:
                self._clear()
            self._check_manifest()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self.intervals():
            # without blocks, the next run needs no --resume
            self.remove()
        if self._lock is not None:
            self._lock.close()

    def _check_manifest(self) -> None:
        path = self.folder / MANIFEST
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            settings, n, self.facts = dict(old["settings"]), int(old["n"]), dict(old["facts"])
        except FileNotFoundError:
            self.record()
            return
        except (ValueError, KeyError, TypeError) as error:
            raise SimulationError(
                f"{path}: cannot be read; give --force to start this campaign again"
            ) from error
        changes = list(differences(settings, self.settings))
        if self.n < n:
            changes.append(f"n: {n} then, {self.n} now")
        if self.first != old.get("first", 0):
            changes.append(f"first shower: {old.get('first', 0)} then, {self.first} now")
        if changes:
            raise ConfigError(
                f"{self.folder}: an interrupted campaign with other settings is there: "
                f"{'; '.join(changes[:4])}. Resume it with its own settings, or give --force to start again"
            )
        self.record()

    def record(self, **facts: Any) -> None:
        """Write the manifest with further entries, such as the version of Geant4."""
        self.facts |= facts
        document = {"n": self.n, "first": self.first, "facts": self.facts, "settings": self.settings}
        write_text(self.folder / MANIFEST, json.dumps(document, indent=1))

    @property
    def count(self) -> int:
        """Number of showers."""
        return self.n - self.first

    def finished(self) -> int:
        """Number of finished showers."""
        return self.count - sum(stop - start for start, stop in self.missing())

    def intervals(self) -> list[tuple[int, int]]:
        """Intervals [start, stop) of finished showers, sorted."""
        return [interval_of_block(path) for path in self.paths()]

    def remove_damaged(self, load: Callable[[Path], object]) -> None:
        """Read every block with `load`, which removes those that are damaged."""
        for path in self.paths():
            with contextlib.suppress(DamagedBlockError):
                load(path)

    def paths(self) -> list[Path]:
        """The blocks, in order."""
        return sorted(path for path in self.folder.glob("*.npz") if _BLOCK_FILE.fullmatch(path.name))

    def missing(self) -> list[tuple[int, int]]:
        """Intervals [start, stop) of showers still to be made, sorted."""
        gaps, position = [], self.first
        for start, stop in [*self.intervals(), (self.n, self.n)]:
            if start > position:
                gaps.append((position, min(start, self.n)))
            position = max(position, stop)
        return [(start, stop) for start, stop in gaps if start < stop]

    def _clear(self) -> None:
        """Remove the files of a campaign, and no others."""
        for path in self.folder.iterdir():
            if _CAMPAIGN_FILE.fullmatch(path.name) and path.name != MANIFEST:
                path.unlink()
        # last: a kill in between must not leave blocks without their settings
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder."""
        if self.folder.exists():
            self._clear()
            (self.folder / _LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def block_name(start: int, stop: int) -> str:
    """File name of the block of the showers [start, stop)."""
    return f"{start:010d}-{stop:010d}.npz"


def interval_of_block(path: Path) -> tuple[int, int]:
    """The showers [start, stop) of a block, from its file name."""
    start, stop = path.stem.split("-")
    return int(start), int(stop)

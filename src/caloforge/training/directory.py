"""Run directory of a training: locking, and safe replacement of an earlier training."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from caloforge.errors import OutputError
from caloforge.files import check_new, write_text, writing
from caloforge.run_directory import (
    CARD,
    CHECKPOINTS,
    FORCED,
    LOCK,
    MODEL,
    MOVING,
    OWN,
    REPLACED,
    RESOLVED,
)
from caloforge.training.checkpoint import checkpoints

# seconds that data-loader processes of a killed training may hold its lock
ORPHANS = 10.0
POLL = 0.2


class RunDirectory:
    """Run directory of one training, locked by its rank 0. Use it as a context manager.

    Processes that do not call `take`, the other ranks, change nothing.

    Attributes:
        path: The directory.
        resumes: Whether the training continues from a checkpoint.
        replaces: Whether it replaces a model or checkpoint of an earlier training.
    """

    def __init__(self, path: Path, files: Mapping[str, str] | None = None) -> None:
        """Describe the directory; the disk is not touched before `take`.

        Args:
            path: The directory.
            files: Texts that document the run, by file name.
        """
        self.path, self.resumes, self.replaces = path, False, False
        self._files = dict(files or {})
        self._lock: IO[bytes] | None = None
        self._made: list[Path] = []
        self._begun = self._launched = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._restore()
            if error is None or not self._launched:
                (self.path / FORCED).unlink(missing_ok=True)
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.close()
        for folder in self._made:
            # fails unless the folder is empty, because nothing could be written
            with contextlib.suppress(OSError):
                folder.rmdir()

    def take(self, *, resume: bool, force: bool, launched: bool = False, restarted: bool = False) -> None:
        """Create and lock the directory, and decide whether to resume or to replace what it holds.

        Args:
            resume: Continue from the newest checkpoint, if there is one.
            force: Replace an earlier training.
            launched: Whether a launcher may restart this job.
            restarted: Whether it has done so.

        Raises:
            OutputError: The path holds something else, or a training without `resume` or `force`; another
                training has the lock; or the path is not writable.
        """
        folder = self.path
        while not folder.exists():
            self._made.append(folder)
            folder = folder.parent
        holds = any((self.path / name).exists() for name in (CHECKPOINTS, MODEL, MOVING, REPLACED))
        begun = any((self.path / name).exists() for name in (RESOLVED, LOCK))
        # a training that saved nothing yet may be started again without --force
        usable = (
            self._is_empty()
            or (begun and not holds)
            or ((resume or restarted) and (begun or bool(self._checkpoints())))
        )
        check_new(self.path, force=force or usable, hint="--resume to continue it, --force to train anew")
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path}: this is a file, expected the name of a run directory")
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_file(self.path / LOCK)
        self._restore()
        self._launched = launched
        replacing = restarted and force and (self.path / FORCED).exists()
        self.resumes = (resume or restarted) and bool(self._checkpoints()) and not replacing
        kept = any((self.path / name).exists() for name in (CHECKPOINTS, MODEL))
        # --force removes nothing from a directory that is not a run directory
        self.replaces = kept and not self.resumes and (self.path / RESOLVED).is_file()
        with writing(self.path):
            if self.replaces:
                (self.path / FORCED).touch()
            else:
                (self.path / FORCED).unlink(missing_ok=True)

    def _is_empty(self) -> bool:
        """Whether the directory holds nothing, as after a kill between its creation and the lock."""
        with writing(self.path):
            return self.path.is_dir() and not any(self.path.iterdir())

    def begin(self) -> None:
        """Move an earlier training aside and write the files that document the run."""
        if self._lock is None or self._begun:
            return
        self._begun = True
        with writing(self.path):
            if self.replaces:
                (self.path / MOVING).mkdir()
                _move(self.path, self.path / MOVING)
                (self.path / MOVING).replace(self.path / REPLACED)
        for name, text in self._files.items():
            write_text(self.path / name, text)

    def settle(self) -> None:
        """Remove the replaced training; called once this one has saved a model or a checkpoint."""
        if self._lock is not None and self.replaces:
            self.replaces = False
            shutil.rmtree(self.path / REPLACED, ignore_errors=True)
            (self.path / FORCED).unlink(missing_ok=True)

    def _restore(self) -> None:
        """Move an earlier training back, unless its replacement has saved a model or a checkpoint."""
        moving, aside = self.path / MOVING, self.path / REPLACED
        if aside.is_dir():
            if self._checkpoints() or (self.path / MODEL / CARD).is_file():
                shutil.rmtree(aside, ignore_errors=True)
                return
            for name in OWN:
                _remove(self.path / name)
            aside.replace(moving)
        if moving.is_dir():
            _move(moving, self.path)
            moving.rmdir()

    def _checkpoints(self) -> list[Path]:
        return checkpoints(self.path / CHECKPOINTS)


def _move(source: Path, target: Path) -> None:
    for name in OWN:
        if (source / name).exists():
            (source / name).replace(target / name)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lock_file(path: Path) -> IO[bytes]:
    """Lock a file with flock; the system releases it when this process ends in any way.

    Raises:
        OutputError: Another training holds the lock.
    """
    limit = time.monotonic() + ORPHANS
    while True:
        # without a buffer: what a full disk did not take must not be written again when the file is closed
        stream = path.open("a+b", buffering=0)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().decode(errors="replace")
            stream.close()
            if _is_gone(holder) and time.monotonic() < limit:
                time.sleep(POLL)
                continue
            raise OutputError(
                f"{path.parent}: another training writes here now{_describe_holder(holder)}; wait for it, or "
                "choose another output"
            ) from error
        except OSError:
            # some network file systems do not support locks
            pass
        if _is_same_file(stream, path):
            try:
                stream.truncate(0)
                stream.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode())
            except OSError:
                stream.close()
                raise
            return stream
        # the previous owner has removed the file in the meantime
        stream.close()


def _is_same_file(stream: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(text: str) -> tuple[str, int] | None:
    try:
        document = json.loads(text)
        return str(document["host"]), int(document["process"])
    except (ValueError, KeyError, TypeError):
        return None


def _describe_holder(text: str) -> str:
    holder = _holder(text)
    return "" if holder is None else f" (process {holder[1]} on {holder[0]})"


def _is_gone(text: str) -> bool:
    """Whether the process that took a lock is known to be dead; its children may still hold it."""
    holder = _holder(text)
    if holder is None or holder[0] != socket.gethostname():
        return False
    try:
        os.kill(holder[1], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False

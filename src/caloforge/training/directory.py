"""The run directory: written by one training at a time, which replaces another only when it can."""

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
from caloforge.training.checkpoint import checkpoints
from caloforge.training.log import METRICS

RESOLVED, RUN = "resolved.yaml", "run.yaml"
CHECKPOINTS, MODEL = "checkpoints", "model"
LOCK = ".lock"
# an earlier training on its way there or back, and put aside
MOVING, REPLACED = ".replacing", ".replaced"
# a launcher that starts a job anew must not take the training it replaces for its own
FORCED = ".force"
# what a training writes
OWN = (CHECKPOINTS, MODEL, METRICS, RESOLVED, RUN)
# seconds that the loader processes of a killed training may outlive it, holding its lock
ORPHANS = 10.0
POLL = 0.2


class RunDirectory:
    """The directory of one training, held by one process at a time. Use it as a context manager.

    Other processes of the same training have one that was never taken, which does nothing.

    Attributes:
        path: The directory.
        resumes: Whether a checkpoint is continued.
        replaces: Whether a model or a checkpoint of an earlier training is there to be replaced.
    """

    def __init__(self, path: Path, files: Mapping[str, str] | None = None) -> None:
        """Nothing is touched before `take`.

        Args:
            path: The directory.
            files: Texts, by name, that record the run.
        """
        self.path, self.resumes, self.replaces = path, False, False
        self._files = dict(files or {})
        self._lock: IO[str] | None = None
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
            # only what is empty: nothing was begun, or the disk had no room for it
            with contextlib.suppress(OSError):
                folder.rmdir()

    def take(self, *, resume: bool, force: bool, launched: bool = False, again: bool = False) -> None:
        """Lock the directory, made if absent, and see what is there.

        Args:
            resume: Continue from the newest checkpoint, if there is one.
            force: Replace an earlier training.
            launched: Whether a launcher may start this job anew.
            again: Whether it has.

        Raises:
            OutputError: Something else is there, or a training that neither is to be continued nor replaced;
                another training writes here; or nobody may write here.
        """
        folder = self.path
        while not folder.exists():
            self._made.append(folder)
            folder = folder.parent
        holds = any((self.path / name).exists() for name in (CHECKPOINTS, MODEL, MOVING, REPLACED))
        begun = any((self.path / name).exists() for name in (RESOLVED, LOCK))
        # a training that kept nothing may be begun again as if it had never been
        usable = (begun and not holds) or ((resume or again) and (begun or bool(self._checkpoints())))
        check_new(self.path, force=force or usable, hint="--resume to continue it, --force to train anew")
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path}: this is a file, expected the name of a run directory")
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path / LOCK)
        self._restore()
        self._launched = launched
        replacing = again and force and (self.path / FORCED).exists()
        self.resumes = (resume or again) and bool(self._checkpoints()) and not replacing
        kept = any((self.path / name).exists() for name in (CHECKPOINTS, MODEL))
        # --force removes nothing from a directory that is no run
        self.replaces = kept and not self.resumes and (self.path / RESOLVED).is_file()
        with writing(self.path):
            if self.replaces:
                (self.path / FORCED).touch()
            else:
                (self.path / FORCED).unlink(missing_ok=True)

    def begin(self) -> None:
        """Record the run; an earlier training is put aside, so that nothing of it is taken for this one."""
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
        """There is a model or a checkpoint of this training: what it replaces is removed."""
        if self._lock is not None and self.replaces:
            self.replaces = False
            shutil.rmtree(self.path / REPLACED, ignore_errors=True)
            (self.path / FORCED).unlink(missing_ok=True)

    def _restore(self) -> None:
        """Put an earlier training back, unless the one that was to replace it has something to show."""
        moving, aside = self.path / MOVING, self.path / REPLACED
        if aside.is_dir():
            if self._checkpoints() or (self.path / MODEL / "model.json").is_file():
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


def _locked(path: Path) -> IO[str]:
    """The open file of a lock, which the system takes back when this process ends in whatever way.

    Raises:
        OutputError: Another training has it.
    """
    limit = time.monotonic() + ORPHANS
    while True:
        stream = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read()
            stream.close()
            if _is_gone(holder) and time.monotonic() < limit:
                time.sleep(POLL)
                continue
            raise OutputError(
                f"{path.parent}: another training writes here now{_described(holder)}; wait for it, or "
                "choose another output"
            ) from error
        except OSError:
            # some network file systems know no locks: then the user has to look after it
            pass
        if _is_at(stream, path):
            stream.truncate(0)
            stream.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
            stream.flush()
            return stream
        # its owner has removed it in the meantime
        stream.close()


def _is_at(stream: IO[str], path: Path) -> bool:
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


def _described(text: str) -> str:
    holder = _holder(text)
    return "" if holder is None else f" (process {holder[1]} on {holder[0]})"


def _is_gone(text: str) -> bool:
    """Whether the process that took a lock is known to be dead; its children may hold the lock still."""
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

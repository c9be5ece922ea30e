"""Worker processes and the blocks they work on: hand-out, deaths, retries."""

from __future__ import annotations

import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from caloforge import errors

Interval = tuple[int, int]

# how often a block may kill its worker
MAX_TRIES = 3
# a block takes about this long: short enough to lose little, long enough that its own cost is nothing
BLOCK_SECONDS = 5.0
MAX_BLOCK = 500
FIRST_BLOCK = 1
# how often the caller of a pool can stop it, seconds
TICK = 0.2
STOP_TIMEOUT = 5.0
# of the log of a worker that died, for the message
LOG_LINES, LOG_CHARACTERS = 3, 600


@dataclass
class _Task:
    interval: Interval
    tries: int = 0


class Queue:
    """Showers still to be made, handed out in blocks that suit their cost.

    Blocks grow to `BLOCK_SECONDS` and shrink towards the end, so that all workers finish together.
    """

    def __init__(self, missing: list[Interval], workers: int) -> None:
        self._missing = list(reversed(missing))
        self._workers = workers
        self._returned: list[_Task] = []
        self._showers, self._seconds = 0, 0.0

    def __bool__(self) -> bool:
        return bool(self._missing or self._returned)

    def take(self) -> _Task:
        """The next block."""
        if self._returned:
            return self._returned.pop()
        size = self._size()
        start, stop = self._missing.pop()
        middle = min(stop, start + size)
        if middle < stop:
            self._missing.append((middle, stop))
        return _Task((start, middle))

    def _size(self) -> int:
        if not self._showers:
            return FIRST_BLOCK
        remaining = sum(stop - start for start, stop in self._missing)
        fair = -(-remaining // (2 * self._workers))
        by_time = BLOCK_SECONDS * self._showers / max(self._seconds, 1e-6)
        return int(max(1, min(fair, by_time, MAX_BLOCK)))

    def finished(self, task: _Task, seconds: float) -> None:
        """Learn what a block cost."""
        self._showers += task.interval[1] - task.interval[0]
        self._seconds += seconds

    def give_back(self, task: _Task) -> None:
        """A worker died with this block."""
        task.tries += 1
        self._returned.append(task)


class Worker:
    """One process running `caloforge.fullsim.worker`."""

    def __init__(self, job: dict[str, Any], log: Path) -> None:
        """Start it and give it the job."""
        self.log = log
        self.task: _Task | None = None
        self._unread = b""
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "caloforge.fullsim.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                # Ctrl-C is for the parent alone, which then stops its workers
                start_new_session=True,
            )
        self._send({**job, "parent": os.getpid()})

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def fileno(self) -> int:
        """File descriptor of the answers."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def answers(self) -> list[dict[str, Any]] | None:
        """What it has answered since the last call; None when it is dead."""
        data = os.read(self.fileno(), 2**16)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def assign(self, task: _Task) -> None:
        """Send a block."""
        self.task = task
        self._send(task.interval)

    def _send(self, document: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # it is dead; the end of its answers will say so
            return

    def epitaph(self) -> str:
        """How it ended, with the last words of Geant4."""
        code = self._process.wait()
        how = f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (by hand, or for lack of memory)"
        words = last_words(self.log.read_text(encoding="utf-8", errors="replace"))
        return f"{how}; last words: {words}" if words else how

    def stop(self) -> None:
        """Kill it: what it works on is lost, what it finished is on disk."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    # bytes for a dead worker
                    continue


def last_words(log: str) -> str:
    """What a log says about its end: the message of a fatal G4Exception, or the last lines."""
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    fatal = [i for i, line in enumerate(lines) if line.startswith("*** G4Exception :")]
    if fatal:
        message = itertools.takewhile(lambda line: "*** Fatal" not in line, lines[fatal[-1] :])
        return " ".join(message)[:LOG_CHARACTERS]
    return " | ".join(lines[-LOG_LINES:])[-LOG_CHARACTERS:]


class Pool:
    """Runs the blocks of a campaign on worker processes. Use it as a context manager."""

    def __init__(self, job: dict[str, Any], folder: Path, workers: int) -> None:
        """Nothing is started before `run`.

        Args:
            job: Detector, beam, fullsim and seed, as JSON documents.
            folder: Where the workers write their blocks and logs.
            workers: Processes.
        """
        self._job = {**job, "folder": str(folder)}
        self._folder, self._count = folder, workers
        self._workers: list[Worker] = []
        self._started = 0
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._selector.close()

    def run(self, missing: list[Interval]) -> Iterator[tuple[Interval | None, dict[str, Any]]]:
        """Simulate the missing showers.

        Yields each finished block with its facts, and (None, facts) in between: of a worker that has started,
        or nothing every `TICK`, so that the caller can stop.

        Args:
            missing: Showers [start, stop).

        Raises:
            SimulationError: A block killed its worker `MAX_TRIES` times.
            CaloforgeError: What a worker says that it cannot do.
        """
        queue = Queue(missing, self._count)
        showers = sum(stop - start for start, stop in missing)
        for _ in range(min(self._count, showers)):
            self._start(queue)
        while self._workers:
            yield None, {}
            for key, _ in self._selector.select(TICK):
                worker: Worker = key.data
                answers = worker.answers()
                if answers is None:
                    self._bury(worker, queue)
                for answer in answers or []:
                    yield self._take(worker, queue, answer), answer

    def _take(self, worker: Worker, queue: Queue, answer: dict[str, Any]) -> Interval | None:
        """Note an answer; the block that it finished, if it did."""
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        task = worker.task
        if task is None or "block" not in answer:
            return None
        queue.finished(task, answer["seconds"])
        worker.task = None
        if queue:
            worker.assign(queue.take())
        else:
            self._dismiss(worker)
        return task.interval

    def _start(self, queue: Queue) -> None:
        if not queue:
            return
        worker = Worker(self._job, self._folder / f"worker-{self._started}.log")
        self._started += 1
        self._workers.append(worker)
        self._selector.register(worker, selectors.EVENT_READ, worker)
        worker.assign(queue.take())

    def _bury(self, worker: Worker, queue: Queue) -> None:
        """A worker died: its block goes to a fresh one, unless it has cost too many."""
        epitaph, task = worker.epitaph(), worker.task
        self._dismiss(worker)
        if task is None:
            return
        queue.give_back(task)
        if task.tries >= MAX_TRIES:
            start, stop = task.interval
            raise errors.SimulationError(
                f"showers {start} to {stop - 1}: {task.tries} workers died; the last one {epitaph}. "
                "Finished blocks are kept: mend the cause (memory, or a setting of the detector), then run "
                "the same simulation with --resume"
            )
        self._start(queue)

    def _dismiss(self, worker: Worker) -> None:
        self._selector.unregister(worker)
        self._workers.remove(worker)
        worker.stop()

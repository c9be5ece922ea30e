"""A pool of worker processes: assignment of blocks, detection of crashes, retries."""

from __future__ import annotations

import itertools
import json
import math
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

# how many workers may crash on a block
MAX_TRIES = 3
# target time of a block: little work is lost with a crash, and the overhead is negligible
BLOCK_SECONDS = 5.0
# the process that collects the blocks of very many workers takes up to 20 blocks a second
SECONDS_PER_WORKER = 0.05
MAX_BLOCK = 500
# the caller of a pool can stop it at this interval, seconds
POLL_SECONDS = 0.2
STOP_TIMEOUT = 5.0
# lines and characters of a crashed worker's log that the message quotes
LOG_LINES, LOG_CHARACTERS = 3, 600


@dataclass(frozen=True)
class BlockSize:
    """Limits on the size of blocks.

    Attributes:
        unit: Every block has a multiple of this many showers, but for the last one; the first has one unit.
        most: Showers of the largest, if that is more than a unit.
    """

    unit: int = 1
    most: int = MAX_BLOCK


@dataclass
class Task:
    """A block of showers to make.

    Attributes:
        interval: The showers [start, stop).
        tries: Workers that crashed on it.
        losses: Workers that were lost with it, with their node.
    """

    interval: Interval
    tries: int = 0
    losses: int = 0


class Queue:
    """The showers still to be made, divided into blocks of about equal time.

    Blocks grow to `BLOCK_SECONDS` (longer for very many workers) and shrink towards the end, so that all
    workers finish together. A worker that is slower than others gets smaller blocks.

    Attributes:
        workers: Number of workers; it may change.
    """

    def __init__(self, missing: list[Interval], workers: int, block_size: BlockSize = BlockSize()) -> None:
        self._missing = list(reversed(missing))
        self.workers, self._block_size = workers, block_size
        self._returned: list[Task] = []
        # showers and seconds of each worker
        self._done: dict[object, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._missing or self._returned)

    def take(self, worker: object = None) -> Task:
        """The next block for a worker."""
        if self._returned:
            return self._returned.pop()
        size = self._size(worker)
        start, stop = self._missing.pop()
        middle = min(stop, start + size)
        if middle < stop:
            self._missing.append((middle, stop))
        return Task((start, middle))

    def _size(self, worker: object) -> int:
        unit = self._block_size.unit
        if not self._done:
            return unit
        mean = _rate(*map(sum, zip(*self._done.values(), strict=True)))
        rate = _rate(*self._done[worker]) if worker in self._done else mean
        remaining = sum(stop - start for start, stop in self._missing)
        # half of the time that all workers together need for the rest
        fair = rate * remaining / (2 * self.workers * mean)
        by_time = rate * max(BLOCK_SECONDS, SECONDS_PER_WORKER * self.workers)
        return unit * int(max(1, min(math.ceil(fair), by_time, self._block_size.most) // unit))

    def finished(self, task: Task, seconds: float, worker: object = None) -> None:
        """Update the estimated speed of a worker with that of a finished block."""
        showers, before = self._done.get(worker, (0, 0.0))
        self._done[worker] = showers + task.interval[1] - task.interval[0], before + seconds

    def put_back(self, task: Task) -> None:
        """Put back the block of a crashed worker."""
        task.tries += 1
        self._returned.append(task)

    def lost(self, task: Task) -> None:
        """Put back the block of a worker that was lost with its node."""
        task.losses += 1
        self._returned.append(task)


def workers_died(task: Task, reason: str) -> errors.SimulationError:
    """The error of a block on which `MAX_TRIES` workers crashed; the last one for this reason."""
    start, stop = task.interval
    return errors.SimulationError(
        f"showers {start} to {stop - 1}: {task.tries} workers died; the last one {reason}. Finished blocks "
        "are kept: mend the cause (if the log does not tell it, most often too little memory: take fewer "
        "workers), then run the same command with --resume"
    )


def _rate(showers: float, seconds: float) -> float:
    return showers / max(seconds, 1e-6)


class Worker:
    """One process running a module that answers as `caloforge.campaign.worker` says."""

    def __init__(self, job: dict[str, Any], log: Path, module: str) -> None:
        """Start the process and send it the job."""
        self.log = log
        self.task: Task | None = None
        self._unread = b""
        with log.open("ab") as stream:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, fixed arguments
                [sys.executable, "-P", "-m", module],
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
        """File descriptor of the answers, for the selector."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def answers(self) -> list[dict[str, Any]] | None:
        """The answers since the last call; None if the process has ended."""
        data = os.read(self.fileno(), 2**16)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def assign(self, task: Task) -> None:
        """Send a block."""
        self.task = task
        self._send(task.interval)

    def _send(self, document: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # the process has ended, which `answers` reports
            return

    def exit_reason(self) -> str:
        """How the process ended, with the end of its log."""
        code = self._process.wait()
        how = f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (by hand, or for lack of memory)"
        tail = log_end(self.log.read_text(encoding="utf-8", errors="replace"))
        return f"{how}; its log ends: {tail}" if tail else how

    def stop(self) -> None:
        """Kill the process; the block that it works on is lost."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    # unsent bytes
                    continue


def log_end(log: str) -> str:
    """The message of a fatal G4Exception in a log, or else its last lines."""
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    fatal = [i for i, line in enumerate(lines) if line.startswith("*** G4Exception :")]
    if fatal:
        message = itertools.takewhile(lambda line: "*** Fatal" not in line, lines[fatal[-1] :])
        return " ".join(message)[:LOG_CHARACTERS]
    return " | ".join(lines[-LOG_LINES:])[-LOG_CHARACTERS:]


class Pool:
    """Runs the blocks of a campaign on worker processes. Use it as a context manager."""

    def __init__(
        self,
        job: dict[str, Any],
        folder: Path,
        workers: int,
        module: str,
        block_size: BlockSize = BlockSize(),
    ) -> None:
        """Nothing is started before `run`.

        Args:
            job: What the workers need to know, as JSON document.
            folder: Where the workers write their blocks and logs.
            workers: Processes.
            module: What each process runs.
            block_size: Limits on the blocks.
        """
        self._job = {**job, "folder": str(folder)}
        self._folder, self._count, self._module = folder, workers, module
        self._block_size = block_size
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

    @property
    def progress(self) -> tuple[str, ...]:
        """What the display says of the workers: nothing of processes on this machine."""
        return ()

    def run(self, missing: list[Interval]) -> Iterator[tuple[Interval | None, dict[str, Any]]]:
        """Make the missing showers.

        Yields each finished block with the answer of its worker; in between (None, answer) of a worker that
        has started, and (None, {}) every `POLL_SECONDS`, so that the caller can stop.

        Args:
            missing: Showers [start, stop).

        Raises:
            SimulationError: `MAX_TRIES` workers crashed on a block.
            CaloforgeError: An error that a worker reports.
        """
        queue = Queue(missing, self._count, self._block_size)
        showers = sum(stop - start for start, stop in missing)
        for _ in range(min(self._count, showers)):
            self._start(queue)
        while self._workers:
            yield None, {}
            for key, _ in self._selector.select(POLL_SECONDS):
                worker: Worker = key.data
                answers = worker.answers()
                if answers is None:
                    self._replace(worker, queue)
                for answer in answers or []:
                    yield self._process(worker, queue, answer), answer

    def _process(self, worker: Worker, queue: Queue, answer: dict[str, Any]) -> Interval | None:
        """Process an answer, and assign the next block; returns the block that was finished, if any."""
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        task = worker.task
        if task is None or "block" not in answer:
            return None
        queue.finished(task, answer["seconds"], worker.pid)
        worker.task = None
        if queue:
            worker.assign(queue.take(worker.pid))
        else:
            self._remove(worker)
        return task.interval

    def _start(self, queue: Queue) -> None:
        if not queue:
            return
        worker = Worker(self._job, self._folder / f"worker-{self._started}.log", self._module)
        self._started += 1
        self._workers.append(worker)
        self._selector.register(worker, selectors.EVENT_READ, worker)
        worker.assign(queue.take())

    def _replace(self, worker: Worker, queue: Queue) -> None:
        """Give the block of a crashed worker to a new one, unless `MAX_TRIES` have crashed on it."""
        exit_reason, task = worker.exit_reason(), worker.task
        self._remove(worker)
        if task is None:
            return
        queue.put_back(task)
        if task.tries >= MAX_TRIES:
            raise workers_died(task, exit_reason)
        self._start(queue)

    def _remove(self, worker: Worker) -> None:
        self._selector.unregister(worker)
        self._workers.remove(worker)
        worker.stop()

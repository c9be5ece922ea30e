"""Progress of a verb: a bar on a terminal, a line every few seconds elsewhere."""

import time
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from caloforge import number_format
from caloforge.output import write_line

# seconds between two lines where there is no terminal (batch logs)
LINE_INTERVAL = 10.0


class Meter:
    """Reports progress, rate and remaining time on standard error. Use it as a context manager."""

    def __init__(self, what: str, total: int, unit: str = "showers", *, enabled: bool = True) -> None:
        """Nothing is shown before the context is entered.

        Args:
            what: "simulate", "generate", ...
            total: Number of items.
            unit: Name of the items.
            enabled: False shows nothing.
        """
        self.what, self.total, self.unit, self.enabled = what, total, unit, enabled
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._entered = self._start = self._last = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Self:
        self._entered = self._start = self._last = time.monotonic()
        if self.enabled and _shows_bars(self._console):
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TaskProgressColumn(show_speed=False),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(self.what, total=self.total, rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Report that `done` of `total` items are finished; `note` (such as a loss) is shown with it."""
        if not self.enabled:
            return
        self.total = total or self.total
        now = time.monotonic()
        if self._first is None:
            # items done by an earlier, resumed run must not count in the rate
            self._first, self._start = done, now if done else self._start
        elapsed = now - self._start
        rate = (done - self._first) / elapsed if elapsed > 0 else 0.0
        if self._bar is not None:
            shown = f"{number_format.rate(rate, self.unit)} {note}".strip()
            self._bar.update(self._task, completed=done, total=self.total, rate=shown)
        elif now - self._last >= LINE_INTERVAL or done >= self.total:
            self._last = now
            count = f"{done}/{self.total} {self.unit}".rstrip()
            write_line(f"{self.what}: {count}{self._timing(done, rate, note)}")

    def _timing(self, done: int, rate: float, note: str) -> str:
        """Rate, note, and remaining time (at the end: total time) for a line."""
        parts = [number_format.rate(rate, self.unit)] if rate > 0 else []
        parts += [note] if note else []
        if done >= self.total:
            taken, begun = time.monotonic() - self._entered, self._start - self._entered
            # the rate leaves out the start-up, so name that where it took long
            late = rate > 0 and begun >= 1 and begun > taken / 10
            parts.append(
                number_format.duration(taken)
                + (f", of which {number_format.duration(begun)} to start" if late else "")
            )
        elif rate > 0:
            parts.append(f"about {number_format.duration((self.total - done) / rate)} left")
        return "".join(f", {part}" for part in parts)


def _shows_bars(console: Console) -> bool:
    """Whether a console can show progress bars: a terminal, or a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)

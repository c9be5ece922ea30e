"""Progress of a hyperparameter search: a table on a terminal, a line per finished trial elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from caloforge.number_format import duration, percent
from caloforge.output import write_line

if TYPE_CHECKING:
    from caloforge.tuning.driver import SearchStatus

# finished trials that stay in the table
SHOWN = 8
# seconds between two lines without a terminal, if no trial ends
LINE_INTERVAL = 60.0
STYLES = {"complete": "green", "fail": "red", "pruned": "yellow"}


class StudyTable:
    """Shows the trials of a search on standard error. Use it as a context manager."""

    def __init__(self, figures: Sequence[str], *, enabled: bool = True) -> None:
        """Nothing is shown before the context is entered.

        Args:
            figures: The objectives.
            enabled: False shows nothing.
        """
        self._figures, self._enabled = list(figures), enabled
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._printed: set[int] = set()
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self._enabled and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, status: SearchStatus) -> None:
        """Show the state of the search."""
        if not self._enabled:
            return
        if self._live is not None:
            self._live.update(self._table(status))
        else:
            self._lines(status)

    # ---- a terminal

    def _table(self, status: SearchStatus) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("trial", justify="right")
        table.add_column("state")
        for name in self._figures:
            table.add_column(name, justify="right")
        table.add_column("")
        for number in sorted(status.ended)[-SHOWN:]:
            state, values, reason = status.ended[number]
            shown = [f"{value:.4g}" for value in values] if values else ["–"] * len(self._figures)
            table.add_row(str(number), Text(state, STYLES.get(state, "")), *shown, Text(reason[:60], "dim"))
        for run in status.running:
            merit = "" if math.isnan(run.best) else f"merit {run.best:.4g} so far"
            note = f"{duration(time.monotonic() - run.started)}  {merit}"
            blank = [""] * len(self._figures)
            table.add_row(str(run.proposal.number), Text("running", "cyan"), *blank, Text(note, "dim"))
        return Group(table, Text(self._summary(status)))

    def _summary(self, status: SearchStatus) -> str:
        done = status.before + len(status.ended)
        elapsed = time.monotonic() - self._start
        parts = [
            f"{done}/{status.limit} trials",
            duration(elapsed),
            f"groups idle {percent(status.idle)}",
        ]
        if status.ended and done < status.limit:
            left = elapsed / len(status.ended) * (status.limit - done)
            parts.append(f"about {duration(left)} left")
        values = [v[0] for _, v, _ in status.ended.values() if v]
        if values and len(self._figures) == 1:
            parts.append(f"{self._figures[0]} {min(values):.4g} to {max(values):.4g}")
        return ", ".join(parts)

    # ---- no terminal

    def _lines(self, status: SearchStatus) -> None:
        for number in status.ended:
            if number not in self._printed:
                self._printed.add(number)
                state, values, reason = status.ended[number]
                shown = zip(self._figures, values or (), strict=False)
                figures = ", ".join(f"{name} {value:.4g}" for name, value in shown)
                self._write(f"trial {number} {state} {figures or reason}", status)
        if time.monotonic() - self._last >= LINE_INTERVAL:
            self._write(f"{len(status.running)} trials run", status)

    def _write(self, what: str, status: SearchStatus) -> None:
        self._last = time.monotonic()
        write_line(f"tune: {what.strip()}; {self._summary(status)}")

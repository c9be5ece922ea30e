"""Reading of event files of any known format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from caloforge.errors import DataError
from caloforge.fastsim.events import edm4hep, hepmc
from caloforge.fastsim.events.records import Event


def _is_root(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) == edm4hep.MAGIC
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a HepMC or EDM4hep file") from error


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a HepMC or EDM4hep file in order; the format is known by its first bytes.

    Raises:
        DataError: Missing, foreign, truncated or damaged.
        MissingDependencyError: The extra `events` is not installed.
    """
    yield from edm4hep.read_edm4hep(path) if _is_root(path) else hepmc.read_hepmc(path)


def check_events(path: Path) -> int:
    """Read a whole file, and count its events.

    Raises:
        DataError: It has no events, or see `read_events`.
        MissingDependencyError: The extra `events` is not installed.
    """
    count = sum(1 for _ in read_events(path))
    if not count:
        raise DataError(f"{path}: holds no events")
    return count


class EventReader:
    """Events by number; reading forwards is fast."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened before the first event is asked for."""
        self._path = path
        self._events: Iterator[Event] = iter(())
        self._position = -1

    def read(self, start: int, stop: int) -> list[Event]:
        """The events [start, stop).

        Raises:
            DataError: The file has fewer, or is damaged.
        """
        if self._position < 0 or start < self._position:
            self._events, self._position = read_events(self._path), 0
        found = []
        for event in self._events:
            self._position += 1
            if self._position > start:
                found.append(event)
            if self._position == stop:
                return found
        raise DataError(f"{self._path}: has {self._position} events, {stop} were there before")

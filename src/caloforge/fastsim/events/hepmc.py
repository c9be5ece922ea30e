"""Reading of HepMC 2 and 3 files in ASCII, plain or compressed with gzip."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError, MissingDependencyError
from caloforge.fastsim.events.records import COLUMNS, SPEED_OF_LIGHT, Event, Relations
from caloforge.fullsim.geant4_import import stdout_discarded

GZIP_MAGIC = b"\x1f\x8b"
MAGIC = b"HepMC::"
END = b"END_EVENT_LISTING"
INSTALL = "pip install 'caloforge[events]'"


def count_events(path: Path) -> int:
    """Number of events of a file.

    Raises:
        DataError: No HepMC file, or one that ends within an event.
    """
    count, ended, first = 0, False, b""
    try:
        with _opened(path) as stream:
            for line in stream:
                first = first or line.strip()
                if first and not first.startswith(MAGIC):
                    break
                if line.startswith(b"E "):
                    count, ended = count + 1, False
                ended = ended or END in line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read after event {count} ({error}); take another copy") from error
    if not first.startswith(MAGIC):
        raise DataError(f"{path}: not a HepMC file in ASCII, which begins with {MAGIC.decode()}")
    if not ended:
        raise DataError(
            f"{path}: truncated, its end mark is missing after event {count}; take another copy, or end the "
            "file after its last whole event with the line that HepMC writes there"
        )
    return count


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as stream:
        compressed = stream.read(2) == GZIP_MAGIC
    return gzip.open(path, "rb") if compressed else path.open("rb")


def read_hepmc(path: Path) -> Iterator[Event]:
    """Yield the events of a file in order.

    Raises:
        DataError: An event that cannot be read.
        MissingDependencyError: pyhepmc is not installed.
    """
    try:
        import pyhepmc
    except ImportError as error:
        raise MissingDependencyError(f"HepMC files: pyhepmc is not installed: {INSTALL}") from error
    expected = count_events(path)
    done = 0
    with _link(path) as readable, pyhepmc.open(readable) as file:
        while done < expected:
            try:
                # HepMC3 writes its errors to the standard streams
                with stdout_discarded(), _stderr_discarded():
                    event = file.read()
            except (RuntimeError, ValueError) as error:
                raise DataError(f"{path}: event {done + 1} cannot be read ({error})") from error
            if event is None or (not event.particles and done < expected):
                raise DataError(
                    f"{path}: event {done + 1} of {expected} cannot be read; take another copy of the file"
                )
            done += 1
            yield _event(event, pyhepmc)


@contextlib.contextmanager
def _link(path: Path) -> Iterator[Path]:
    """The path under which pyhepmc recognises a compressed file: it goes by the name."""
    import tempfile

    with path.open("rb") as stream:
        compressed = stream.read(2) == GZIP_MAGIC
    if not compressed or path.suffix == ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="caloforge-") as folder:
        link = Path(folder) / f"{path.name}.gz"
        link.symlink_to(path.absolute())
        yield link


@contextlib.contextmanager
def _stderr_discarded() -> Iterator[None]:
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _event(event: Any, pyhepmc: Any) -> Event:
    event.set_units(pyhepmc.Units.GEV, pyhepmc.Units.MM)
    particles = event.numpy.particles
    n = len(event.particles)
    vertex, endpoint, time = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(n)
    parents: list[list[int]] = [[] for _ in range(n)]
    daughters: list[list[int]] = [[] for _ in range(n)]
    for point in event.vertices:
        position = point.position
        incoming = [particle.id - 1 for particle in point.particles_in]
        outgoing = [particle.id - 1 for particle in point.particles_out]
        for index in outgoing:
            vertex[index] = position.x, position.y, position.z
            time[index] = position.t / SPEED_OF_LIGHT
            parents[index] = incoming
        for index in incoming:
            endpoint[index] = position.x, position.y, position.z
            daughters[index] = outgoing
    columns = {
        "PDG": particles.pid,
        "generatorStatus": particles.status,
        "mass": particles.generated_mass,
        "time": time,
        **{f"vertex.{axis}": vertex[:, i] for i, axis in enumerate("xyz")},
        **{f"endpoint.{axis}": endpoint[:, i] for i, axis in enumerate("xyz")},
        **{f"momentum.{axis}": getattr(particles, f"p{axis}") for axis in "xyz"},
    }
    filled: dict[str, NDArray[Any]] = {
        name: np.array(columns.get(name, np.zeros(n)), dtype) for name, dtype in COLUMNS.items()
    }
    return Event(int(event.event_number), filled, Relations.of(parents), Relations.of(daughters))

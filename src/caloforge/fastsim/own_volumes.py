"""What a user puts around a gate: volumes in front of the calorimeter, or beside and behind it."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from caloforge.errors import GeometryError
from caloforge.fullsim.geant4_import import load_geant4

# points on the surface of a volume at which it is looked for overlaps
POINTS = 1000


def daughters(volume: Any) -> list[Any]:
    """The placements in a logical volume."""
    return [volume.GetDaughter(number) for number in range(volume.GetNoDaughters())]


def inside(placements: Iterable[Any]) -> Iterator[Any]:
    """Placements and everything in them, depth first."""
    for placement in placements:
        yield placement
        yield from inside(daughters(placement.GetLogicalVolume()))


def check_overlaps(placements: Iterable[Any]) -> None:
    """Check that no placement sticks out of its mother volume or overlaps another one in it.

    Raises:
        GeometryError: One does; names both volumes.
    """
    for placement in placements:
        found, said = _captured(partial(placement.CheckOverlaps, POINTS, 0.0, False, 1))
        if found:
            raise GeometryError(
                f"the volume {placement.GetName()}, placed around the gate, overlaps: {_overlap(said)}; move "
                "or shrink it, or the gate would miss particles there"
            )


def prepare_elements(placements: Iterable[Any]) -> None:
    """Have the tables of Geant4 for the elements of all placements, before the first run.

    Raises:
        SimulationError: An element without tables.
    """
    materials = (placement.GetLogicalVolume().GetMaterial() for placement in placements)
    vectors = (material.GetElementVector() for material in materials)
    load_geant4({round(element.GetZ()) for vector in vectors for element in vector})


def _overlap(said: str) -> str:
    """Which volumes overlap, out of a warning of Geant4."""
    match = re.search(r"Overlap is detected for volume (.*?)\s*(?:NOTE:|\*\*\*)", said, re.DOTALL)
    return " ".join(match[1].split()) if match else "with its mother volume or a neighbour"


def _captured(call: Callable[[], bool]) -> tuple[bool, str]:
    """The result of a call, and what C++ code printed in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile() as sink:
        try:
            for number in (1, 2):
                os.dup2(sink.fileno(), number)
            result = call()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
        sink.seek(0)
        return result, sink.read().decode(errors="replace")

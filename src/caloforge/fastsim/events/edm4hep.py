"""Reading of the MCParticles of EDM4hep files with uproot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError, MissingDependencyError
from caloforge.fastsim.events.hepmc import INSTALL
from caloforge.fastsim.events.records import COLUMNS, Event, Relations

TREE, COLLECTION = "events", "MCParticles"
MAGIC = b"root"
# events read at a time
STEP = 200
# columns that files of older versions lack, or that are not needed
OPTIONAL = ("simulatorStatus", "charge", "time", "endpoint.x", "endpoint.y", "endpoint.z")


def import_uproot() -> Any:
    """Import uproot.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import uproot
    except ImportError as error:
        raise MissingDependencyError(f"ROOT files: uproot is not installed: {INSTALL}") from error
    return uproot


def open_tree(path: Path) -> Any:
    """The tree of events.

    Raises:
        DataError: No EDM4hep file, or a damaged one.
    """
    uproot = import_uproot()
    try:
        file = uproot.open(path)
        tree = file[TREE]
        names = set(tree.keys())
    # uproot raises a dozen classes for damage
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path}: no EDM4hep file, or a damaged one ({reason})") from error
    missing = [name for name in COLUMNS if name not in OPTIONAL and not names & set(_branches(name))]
    if missing:
        raise DataError(
            f"{path}: its tree {TREE!r} has no {COLLECTION}.{missing[0]}, expected the {COLLECTION} of "
            "EDM4hep"
        )
    return tree


def _branches(name: str) -> tuple[str, str]:
    """The names of a branch: below its collection, and in a flat tree."""
    return f"{COLLECTION}/{COLLECTION}.{name}", f"{COLLECTION}.{name}"


def read_edm4hep(path: Path) -> Iterator[Event]:
    """Yield the events of a file in order.

    Raises:
        DataError: No EDM4hep file, or a damaged one.
        MissingDependencyError: uproot is not installed.
    """
    tree = open_tree(path)
    names = set(tree.keys())
    wanted = {name: next((b for b in _branches(name) if b in names), None) for name in COLUMNS}
    links = {name: _relation_branches(names, name) for name in ("parents", "daughters")}
    number = next(
        (n for n in ("EventHeader/EventHeader.eventNumber", "EventHeader.eventNumber") if n in names), None
    )
    branches = [branch for branch in wanted.values() if branch]
    branches += [branch for three in links.values() for branch in three]
    branches += [number] if number else []
    done = 0
    try:
        for arrays in tree.iterate(branches, step_size=STEP, library="np"):
            count = len(next(iter(arrays.values())))
            for row in range(count):
                yield _event(arrays, wanted, links, number, row, done + row)
            done += count
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: event {done + 1} or a later one cannot be read ({error})") from error


def _relation_branches(names: set[str], name: str) -> tuple[str, ...]:
    """Branches of begin, end and index; none where the file lacks one."""
    ends = [[b for b in _branches(f"{name}_{end}") if b in names] for end in ("begin", "end")]
    index = [
        b
        for b in (f"_{COLLECTION}_{name}/_{COLLECTION}_{name}.index", f"_{COLLECTION}_{name}.index")
        if b in names
    ]
    return (ends[0][0], ends[1][0], index[0]) if all(ends) and index else ()


def _event(
    arrays: Any,
    wanted: dict[str, str | None],
    links: dict[str, tuple[str, ...]],
    number: str | None,
    row: int,
    place: int,
) -> Event:
    n = len(arrays[wanted["PDG"]][row])
    columns: dict[str, NDArray[Any]] = {
        name: np.asarray(arrays[branch][row] if branch else np.zeros(n), COLUMNS[name])
        for name, branch in wanted.items()
    }
    relations = {}
    for name, three in links.items():
        lists: list[list[int]] = [[] for _ in range(n)]
        if three:
            begins, ends, index = (np.asarray(arrays[branch][row]).astype(np.int64) for branch in three)
            lists = [index[a:b].tolist() for a, b in zip(begins, ends, strict=True)]
        relations[name] = Relations.of(lists)
    header = np.atleast_1d(arrays[number][row]) if number else np.array([place])
    return Event(int(header[0]) if len(header) else place, columns, **relations)

"""Provenance of several shower files that are read as one, and of the showers that two of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from caloforge.provenance import digest_json

Json = dict[str, Any]
# entries that describe how one file was written, not its showers
OF_ONE_FILE = ("created", "command", "machine", "python", "packages", "caloforge")
# entries of each part of a joined file
OF_PARTS = ("file", "showers", "n", "interval")
# entries that determine the showers of a generator
GENERATED = ("model_digest", "seed", "beam", "like")


@dataclass(frozen=True)
class ShowerInterval:
    """Showers [first, last) of a run and seed; equal `source` and index mean the same shower."""

    source: str
    first: int
    last: int
    total: int


def interval_of(provenance: Json, geometry: str, count: int) -> ShowerInterval | None:
    """Which showers of which run and seed a file holds; None where its provenance does not tell.

    Args:
        provenance: Of the file.
        geometry: Digest of its detector.
        count: Number of its showers.
    """
    if "simulation" in provenance:
        facts: Json = {"simulation": provenance["simulation"]}
    elif "model_digest" in provenance and "seed" in provenance:
        facts = {key: provenance[key] for key in GENERATED if key in provenance}
    else:
        return None
    total = provenance.get("n", count)
    first, last = provenance.get("interval") or (0, total)
    if not isinstance(total, int) or last - first != count:
        # a selection of the showers: which ones is not recorded
        return None
    return ShowerInterval(digest_json({**facts, "geometry": geometry}), first, last, total)


def join(names: Sequence[str], counts: Sequence[int], provenances: Sequence[Json]) -> Json:
    """The provenance of files read as one: what they have in common, and the rest of each in `joined`.

    Args:
        names: Names of the files.
        counts: Showers of each.
        provenances: Of each.
    """
    parts = [
        {"file": name, "showers": count, **part}
        for name, count, whole in zip(names, counts, provenances, strict=True)
        for part in parts_of(whole)
    ]
    common, rests = _common([{k: v for k, v in part.items() if k not in OF_PARTS} for part in parts])
    beams = _different([part["beam"] for part in parts if "beam" in part])
    if len(beams) > 1:
        common["beams"] = beams
    common["n"] = sum(counts)
    common["joined"] = [
        {**{key: part[key] for key in OF_PARTS if key in part}, **rest}
        for part, rest in zip(parts, rests, strict=True)
    ]
    return common


def parts_of(provenance: Json) -> Iterator[Json]:
    """The provenance of each file that was joined, with its name and number of showers; else the whole."""
    joined = provenance.get("joined")
    if not (isinstance(joined, list) and joined and all(isinstance(part, dict) for part in joined)):
        yield provenance
        return
    common = {key: value for key, value in provenance.items() if key not in ("joined", "beams", "n")}
    for part in joined:
        yield _merged(common, part)


def engine_of(provenance: Json) -> str:
    """What made the showers of a file, such as "Geant4 11.3.2"; of joined files each engine once."""
    engines = dict.fromkeys(str(part["engine"]) for part in parts_of(provenance) if part.get("engine"))
    return ", ".join(engines) or "unknown"


def complete(intervals: Sequence[ShowerInterval | None]) -> bool:
    """Whether intervals, in order, are all showers of one run and seed."""
    first = intervals[0]
    if first is None or len(intervals) < 2:
        return False
    position = 0
    for interval in intervals:
        if interval is None or interval.source != first.source or interval.first != position:
            return False
        position = interval.last
    return position == first.total


def _common(documents: Sequence[Json]) -> tuple[Json, list[Json]]:
    """Entries, also of nested mappings, that all documents have in common; and the rest of each."""
    common: Json = {}
    rests: list[Json] = [{} for _ in documents]
    for key in dict.fromkeys(key for document in documents for key in document if key not in OF_ONE_FILE):
        values: list[Any] = [document.get(key) for document in documents]
        if all(value == values[0] for value in values):
            common[key] = values[0]
            continue
        if all(isinstance(value, dict) for value in values):
            shared, own = _common(values)
            values = list(own)
            if shared:
                common[key] = shared
        for rest, value in zip(rests, values, strict=True):
            if value is not None:
                rest[key] = value
    return common, rests


def _merged(common: Json, rest: Json) -> Json:
    result = dict(common)
    for key, value in rest.items():
        both = isinstance(value, dict) and isinstance(common.get(key), dict)
        result[key] = _merged(common[key], value) if both else value
    return result


def _different(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found

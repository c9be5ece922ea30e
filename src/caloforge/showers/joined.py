"""Several shower files that are read as one; `ShowerFile` opens them from a pattern."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.provenance import digest_file
from caloforge.showers import joined_provenance
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile
from caloforge.showers.file_pattern import (
    Files,
    is_pattern,
    joined_path,
    matching_files,
    pattern_name,
)
from caloforge.showers.joined_provenance import ShowerInterval, interval_of, parts_of

# files that are kept open
MAX_OPEN = 64


class JoinedShowers(ShowerFile):
    """Shower files read as one, in the order in which they are named; parts of a campaign in its order.

    Attributes:
        lengths: (files,) showers of each.
        intervals: Which showers of which run and seed the files hold, as far as they tell.
    """

    def __init__(self, path: Files) -> None:
        """Open and check all files.

        Raises:
            DataError: No file matches, one cannot be used, two differ in detector or energy meaning, or two
                hold the same showers.
        """
        self.path = joined_path(path)
        self.paths = matching_files(self.path)
        self._files: OrderedDict[int, ShowerFile] = OrderedDict()
        self._closed = False
        try:
            first = self._file_of(0)
            facts = [_Facts.of(self._file_of(number), first) for number in range(len(self.paths))]
            _check_distinct(facts)
            order = sorted(range(len(facts)), key=_campaign_order(facts))
            self.paths = [self.paths[number] for number in order]
            self._close_files()
            facts = [facts[number] for number in order]
            self.detector, self.energy_meaning = first.detector, first.energy_meaning
            self.has_seconds = all(fact.has_seconds for fact in facts)
            self.has_impacts = any(fact.has_impacts for fact in facts)
            self.knows_impacts = all(fact.knows_impacts for fact in facts)
            self.provenance = _provenance(self.paths, facts)
            self.intervals = [interval for fact in facts for interval in fact.intervals]
            self.lengths = np.array([fact.count for fact in facts])
            self._starts = np.concatenate([[0], np.cumsum(self.lengths)])
            self._chunks = [fact.chunk for fact in facts]
        except BaseException:
            self._close_files()
            raise

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def chunk(self) -> int:
        """Showers per compressed chunk, in the file where it is largest."""
        return max(self._chunks)

    @property
    def chunk_edges(self) -> NDArray[np.intp]:
        """First shower of each chunk, then the number of showers."""
        edges = [
            np.arange(start, stop, chunk)
            for (start, stop), chunk in zip(pairwise(self._starts), self._chunks, strict=True)
        ]
        return np.append(np.concatenate(edges), len(self)).astype(np.intp)

    def column(self, name: str) -> NDArray[Any]:
        """A whole column with one value per shower: a name of `COLUMNS`, or `seconds`."""
        return np.concatenate([self._file_of(number).column(name) for number in range(len(self.paths))])

    def read(self, start: int = 0, stop: int | None = None) -> ShowerBatch:
        """Read the showers [start, stop).

        Raises:
            DataError: The block is damaged, or a value is not finite or an incident energy not positive.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        parts = []
        for number in range(len(self.paths)):
            begin, end = int(self._starts[number]), int(self._starts[number + 1])
            if start < end and stop > begin:
                parts.append(self._file_of(number).read(max(start, begin) - begin, min(stop, end) - begin))
        return self._own(ShowerBatch.concatenate(parts) if len(parts) != 1 else parts[0])

    def iterate(self, size: int = 256, *, stop: int | None = None) -> Iterator[ShowerBatch]:
        """The files one after another, in batches of about `size` showers, at constant memory."""
        left = len(self) if stop is None else min(stop, len(self))
        for number in range(len(self.paths)):
            if left <= 0:
                return
            for batch in self._file_of(number).iterate(size, stop=left):
                yield self._own(batch)
            left -= int(self.lengths[number])

    def close(self) -> None:
        """Close the files; batches that were read stay valid."""
        self._closed = True
        self._close_files()

    @property
    def closed(self) -> bool:
        """Whether the files were closed."""
        return self._closed

    def _facts(self) -> dict[str, str]:
        return {"files": f"{len(self.paths)} files", **super()._facts()}

    def _own(self, batch: ShowerBatch) -> ShowerBatch:
        """A batch with the columns that all files have."""
        if not self.has_seconds:
            batch.seconds = None
        batch.detector = self.detector
        return batch

    def _file_of(self, number: int) -> ShowerFile:
        """A file, opened where it is not; the ones not used for longest are closed."""
        if self._closed:
            raise DataError(
                f"{self.path}: these files were closed; open them anew, or read inside the 'with'"
            )
        if number not in self._files:
            self._files[number] = ShowerFile(self.paths[number])
            if len(self._files) > MAX_OPEN:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(number)
        return self._files[number]

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


class _Facts:
    """What is needed of each of the files: size, provenance, and which showers it holds."""

    def __init__(self, file: ShowerFile) -> None:
        self.path, self.count, self.chunk = file.path, len(file), file.chunk
        self.has_seconds, self.provenance = file.has_seconds, file.provenance
        self.has_impacts, self.knows_impacts = file.has_impacts, file.knows_impacts
        energies = file.column("incident_energy").tobytes()
        self.digest = hashlib.sha256(energies + file.read(0, 1).showers.tobytes()).digest()
        geometry = file.detector.geometry_digest
        self.intervals: list[ShowerInterval] = []
        for part in parts_of(file.provenance):
            count = part.get("showers", self.count)
            if (interval := interval_of(part, geometry, count)) is not None:
                self.intervals.append(interval)

    @classmethod
    def of(cls, file: ShowerFile, first: ShowerFile) -> _Facts:
        """The facts of a file that can be read as one with the first.

        Raises:
            DataError: Another detector or energy meaning.
        """
        if file.detector.geometry_digest != first.detector.geometry_digest:
            raise DataError(
                f"{file.path}: its detector is {file.detector.name} {file.detector.shower_shape}, that of "
                f"{first.path} is {first.detector.name} {first.detector.shower_shape}; only files of one "
                "detector are read as one"
            )
        if file.energy_meaning != first.energy_meaning:
            raise DataError(
                f"{file.path}: its voxels hold {file.energy_meaning!r} energy, those of {first.path} "
                f"{first.energy_meaning!r}; only files of one meaning are read as one"
            )
        return cls(file)


def _check_distinct(facts: Sequence[_Facts]) -> None:
    """Refuse files that hold the same showers.

    Raises:
        DataError: Two files of the same run and seed, or with the same content.
    """
    known: dict[bytes, _Facts] = {}
    for fact in facts:
        other = known.setdefault(fact.digest, fact)
        if other is not fact and other.count == fact.count:
            raise DataError(f"{fact.path}: holds the same showers as {other.path}; leave one of them out")
    intervals = [(interval, fact) for fact in facts for interval in fact.intervals]
    intervals.sort(key=lambda entry: (entry[0].source, entry[0].first))
    for (one, first), (two, second) in pairwise(intervals):
        if one.source == two.source and two.first < one.last:
            seed = f" {second.provenance['seed']}" if "seed" in second.provenance else ""
            raise DataError(
                f"{second.path}: showers {two.first} to {min(one.last, two.last) - 1} of the same run and "
                f"seed{seed} are in {first.path}, too; leave one of the two out, or make it anew with "
                "another --seed"
            )


def _campaign_order(facts: Sequence[_Facts]) -> Any:
    """Key that sorts the parts of a campaign, beginning at the place of the first one that was named."""
    places: dict[str, int] = {}
    for number, fact in enumerate(facts):
        if len(fact.intervals) == 1:
            places.setdefault(fact.intervals[0].source, number)

    def key(number: int) -> tuple[int, int]:
        if len(facts[number].intervals) != 1:
            return number, 0
        interval = facts[number].intervals[0]
        return places[interval.source], interval.first

    return key


def _provenance(paths: Sequence[Path], facts: Sequence[_Facts]) -> dict[str, Any]:
    found = joined_provenance.join(
        [path.name for path in paths], [f.count for f in facts], [f.provenance for f in facts]
    )
    if joined_provenance.complete([f.intervals[0] if len(f.intervals) == 1 else None for f in facts]):
        # as of one file: the parts differ in nothing but their interval
        del found["joined"]
    return found


def file_record(path: Path) -> dict[str, Any]:
    """Name and SHA-256 of a shower file; of several those of each, with a digest of all."""
    if not is_pattern(path):
        return {"file": path.name, "sha256": digest_file(path)}
    with JoinedShowers(path) as files:
        parts = [{"file": part.name, "sha256": digest_file(part)} for part in files.paths]
    whole = hashlib.sha256("".join(part["sha256"] for part in parts).encode()).hexdigest()
    return {"file": pattern_name(path), "sha256": whole, "files": parts}

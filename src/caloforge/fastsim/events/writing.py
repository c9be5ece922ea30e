"""Writing of events with their hits: a flat ROOT tree or HDF5, with names and units of EDM4hep 1.1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError, MissingDependencyError
from caloforge.fastsim.events.edm4hep import import_uproot
from caloforge.fastsim.events.hepmc import INSTALL
from caloforge.fastsim.events.hits import ENCODING, RELATIONS, Cells, HitBlock
from caloforge.fastsim.events.records import COLUMNS
from caloforge.fastsim.events.transport import Face
from caloforge.files import writing
from caloforge.geometry import Detector
from caloforge.showers.hdf5_writer import NewHdf5

FORMAT, FORMAT_VERSION = "caloforge-hits", 1
HITS, CONTRIBUTIONS, PARTICLES = "ECalHits", "ECalHitContributions", "MCParticles"
Contributions = Literal["none", "particle", "full"]
SUFFIXES = (".root", ".h5", ".hdf5")

# arrays of a collection by the name of their member, and how many entries each event has
Collection = tuple[NDArray[np.int64], dict[str, NDArray[Any]]]


class Converter:
    """Blocks as collections of EDM4hep, in the frame of the events: GeV, mm, ns."""

    def __init__(self, plate: Detector, face: Face, contributions: Contributions) -> None:
        """Keep what positions and cellIDs follow from."""
        self._cells, self._face, self._contributions = Cells(plate), face, contributions

    def collections(self, block: HitBlock) -> dict[str, Collection]:
        """Counts per event and arrays, by collection."""
        arrays = block.arrays
        particles, hits = arrays["particles"], arrays["hits"]
        found = {
            "EventHeader": (
                np.ones(len(block), np.int64),
                {"eventNumber": arrays["number"].astype(np.uint64)},
            ),
            PARTICLES: (particles, self._particles(block)),
        }
        for name in RELATIONS:
            found[f"_{PARTICLES}_{name}"] = (
                arrays[name],
                {"index": arrays[f"{name}.index"].astype(np.int32)},
            )
        cells = arrays["hit.cell"].astype(np.int64)
        positions = self._face.to_event(self._cells.positions(cells))
        members: dict[str, NDArray[Any]] = {
            "cellID": self._cells.ids(cells),
            "energy": arrays["hit.energy"] / np.float32(1e3),
            **_vector("position", positions, np.float32),
            "time": arrays["hit.time"],
        }
        if self._contributions != "none":
            ends = arrays["hit.ends"].astype(np.uint32)
            members |= _ranges("contributions", ends, hits)
        found[HITS] = (hits, members)
        if self._contributions != "none":
            counts = arrays["contributions"]
            found[CONTRIBUTIONS] = (counts, self._shares(block))
            index = {"index": arrays["hit.particle"].astype(np.int32)}
            found[f"_{CONTRIBUTIONS}_particle"] = (counts, index)
        return found

    def _particles(self, block: HitBlock) -> dict[str, NDArray[Any]]:
        arrays = block.arrays
        members: dict[str, NDArray[Any]] = {name: arrays[name] for name in COLUMNS}
        for name in RELATIONS:
            members |= _ranges(name, arrays[f"{name}.ends"].astype(np.uint32), arrays["particles"])
        return members

    def _shares(self, block: HitBlock) -> dict[str, NDArray[Any]]:
        arrays = block.arrays
        first = np.repeat(np.cumsum(arrays["particles"]) - arrays["particles"], arrays["contributions"])
        pdg_id = arrays["hit.pdg"]
        own = arrays["PDG"][first + arrays["hit.particle"]]
        position = self._face.to_event(arrays["hit.step"].astype(np.float64))
        return {
            "PDG": np.where(pdg_id == 0, own, pdg_id).astype(np.int32),
            "energy": arrays["hit.share"] / np.float32(1e3),
            "time": arrays["hit.when"],
            **_vector("stepPosition", position, np.float32),
            "stepLength": arrays["hit.length"],
        }


def _vector(name: str, values: NDArray[np.float64], dtype: type) -> dict[str, NDArray[Any]]:
    return {f"{name}.{axis}": values[:, i].astype(dtype) for i, axis in enumerate("xyz")}


def _starts(ends: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each list begins, from where it ends; both begin anew in each event."""
    starts: NDArray[np.int64] = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    firsts = (np.cumsum(counts) - counts)[counts > 0]
    starts[firsts] = 0
    return starts


def _ranges(name: str, ends: NDArray[np.uint32], counts: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    starts = _starts(ends.astype(np.int64), counts)
    return {f"{name}_begin": starts.astype(np.uint32), f"{name}_end": ends}


class HitWriter(Protocol):
    """An open output. Use it as a context manager: it is published at the end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def append(self, collections: dict[str, Collection]) -> None:
        """Write the events of a block."""


def check_suffix(path: Path) -> None:
    """Check that the name of an output says which format it has, and that this can be written.

    Raises:
        ConfigError: Another suffix than .root, .h5 or .hdf5.
        MissingDependencyError: No uproot or awkward for a ROOT file.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected a name that ends in .root (ROOT tree) or .h5 (HDF5)")
    if path.suffix == ".root":
        import_uproot()
        _import_awkward()


def _import_awkward() -> Any:
    try:
        import awkward
    except ImportError as error:
        raise MissingDependencyError(f"ROOT files: awkward is not installed: {INSTALL}") from error
    return awkward


class RootWriter:
    """A ROOT file with one flat tree `events`, which uproot, ROOT and RDataFrame read."""

    def __init__(self, path: Path, facts: dict[str, str]) -> None:
        """Create a temporary file.

        Args:
            path: Final name; an existing file is replaced at the end.
            facts: Texts that are stored beside the tree.
        """
        from caloforge.files import partial_path

        self._path, self._temporary = path, partial_path(path)
        self._tree: Any = None
        with writing(path):
            self._file = import_uproot().recreate(self._temporary)
            for name, text in facts.items():
                self._file[name] = text

    def append(self, collections: dict[str, Collection]) -> None:
        """Write the events of a block."""
        ak = _import_awkward()
        branches = {}
        for name, (counts, members) in collections.items():
            record = ak.zip({member: ak.unflatten(values, counts) for member, values in members.items()})
            branches[name] = record
        with writing(self._path):
            if self._tree is None:
                self._tree = self._file.mktree(
                    "events",
                    {name: record.type.content for name, record in branches.items()},
                    counter_name=lambda counted: f"n{counted}",
                    field_name=lambda outer, inner: f"{outer}.{inner}" if outer else inner,
                )
            self._extend(branches)

    def _extend(self, branches: dict[str, Any]) -> None:
        self._tree.extend(branches)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self._path):
                self._file.close()
                if kind is None:
                    self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


class Hdf5Writer:
    """An HDF5 file with one group per collection: flat arrays, and `counts`, the entries of each event."""

    def __init__(self, path: Path, facts: dict[str, str]) -> None:
        """Create a temporary file; the arguments are those of `RootWriter`."""
        self._path = path
        self._output = NewHdf5(path)
        with writing(path):
            self._output.file.attrs.update(facts)

    def append(self, collections: dict[str, Collection]) -> None:
        """Write the events of a block."""
        with writing(self._path):
            for name, (counts, members) in collections.items():
                for member, values in {"counts": counts, **members}.items():
                    self._extend(f"{name}/{member}", values)
            self._output.file.flush()
        self._output.check()

    def _extend(self, name: str, values: NDArray[Any]) -> None:
        file = self._output.file
        if name not in file:
            file.create_dataset(
                name, (0,), values.dtype, maxshape=(None,), chunks=(2**14,), compression="gzip", shuffle=True
            )
        dataset = file[name]
        size = len(dataset)
        dataset.resize(size + len(values), axis=0)
        dataset[size:] = values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._output.publish()
        finally:
            # nothing is left of one that was not published
            self._output.abandon()


def write_hits(
    path: Path,
    blocks: Iterator[HitBlock],
    *,
    detector: Detector,
    plate: Detector,
    face: Face,
    contributions: Contributions,
    provenance: dict[str, Any],
) -> None:
    """Write blocks, in order, to a ROOT or HDF5 file.

    Raises:
        OutputError: It cannot be written, or the disk is full.
    """
    facts = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "cellIDEncoding": ENCODING,
        "detector": detector.to_json(),
        "face": json.dumps(asdict(face)),
        "provenance": json.dumps(provenance),
    }
    converter = Converter(plate, face, contributions)
    kind = RootWriter if path.suffix == ".root" else Hdf5Writer
    with kind(path, facts) as writer:
        for block in blocks:
            writer.append(converter.collections(block))

"""Files of a library of showers: hits as safetensors, all else as JSON; both may come from strangers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from caloforge.config import StrictModel, build
from caloforge.errors import ConfigError, DataError, ModelError
from caloforge.files import read_regular, write_text
from caloforge.geometry import CartesianMesh, Detector
from caloforge.models.layered.shower_library.hits import DetectorHits
from caloforge.models.released import LARGEST_CARD, LIBRARY, library_line
from caloforge.models.store import read_tensors, write_tensors
from caloforge.provenance import collect
from caloforge.run_directory import README
from caloforge.showers.file import EnergyMeaning

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, FORMAT_VERSION = "caloforge-library", 1
# bounds on a file: bytes, cells of a detector, showers
LARGEST_FILE, MOST_CELLS, MOST_SHOWERS = 2**28, 2**20, 100_000
TENSORS = {
    "energy": np.float32,
    "detector": np.int16,
    "entries": np.int32,
    "gap": np.uint16,
    "level": np.uint8,
}


class LibraryCard(StrictModel):
    """The description of a library, library.json.

    Attributes:
        energy: Lowest and highest incident energy, MeV.
        pdg_id: Of the particle; orthogonal incidence at the centre of the mesh.
        energy_meaning: Of the energies of the cells.
        detectors: Each with a cartesian mesh.
        data: What made the showers of each detector.
    """

    format: Literal["caloforge-library"]
    format_version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    energy: tuple[float, float]
    pdg_id: int
    energy_meaning: EnergyMeaning
    showers: int = Field(ge=1, le=MOST_SHOWERS)
    detectors: tuple[Detector, ...] = Field(min_length=2, max_length=1000)
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    weights_bytes: int = Field(ge=0, le=LARGEST_FILE)
    data: list[dict[str, Any]] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @field_validator("energy")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 1e-6 <= value[0] < value[1] <= 1e12:
            raise ValueError(f"got {value[0]:g} to {value[1]:g} MeV, expected a range within 1e-6 to 1e12")
        return value

    @field_validator("detectors")
    @classmethod
    def _small_boxes(cls, value: tuple[Detector, ...]) -> tuple[Detector, ...]:
        for detector in value:
            if not isinstance(detector.mesh, CartesianMesh) or not detector.layers:
                raise ValueError(f"{detector.name}: expected layers and a cartesian mesh")
            if np.prod(detector.shower_shape, dtype=float) > MOST_CELLS:
                raise ValueError(f"{detector.name}: more than {MOST_CELLS} cells")
        return value


@dataclass(frozen=True)
class ShowerLibrary:
    """Showers of many detectors, stored in a folder.

    Attributes:
        folder: Of the files.
        card: Their description.
    """

    folder: Path
    card: LibraryCard

    def read(self) -> list[DetectorHits]:
        """Showers of each detector.

        Raises:
            ModelError: Missing, damaged, or not what the card describes.
        """
        path = self.folder / _file_name(self.card.weights_sha256)
        tensors = read_tensors(path, self.card.weights_sha256, self.card.weights_bytes)
        try:
            return _detector_hits(tensors, self.card)
        except ValueError as error:
            raise ModelError(f"{path}: {error}; take another copy") from error


def read_library(folder: Path) -> ShowerLibrary:
    """The library in a folder, without its showers.

    Raises:
        ModelError: Its description is missing, damaged or of another version.
    """
    path = folder / LIBRARY
    try:
        document = json.loads(read_regular(path, LARGEST_CARD))
        if not isinstance(document, dict):
            raise ConfigError("expected a JSON object")
        return ShowerLibrary(folder, build(LibraryCard, document, "library"))
    except (OSError, ValueError, RecursionError, DataError, ConfigError) as error:
        raise ModelError(f"{path}: not the description of a library of showers ({error})") from error


def write_library(
    folder: Path,
    name: str,
    groups: Sequence[DetectorHits],
    *,
    pdg_id: int,
    energy_meaning: EnergyMeaning,
    data: Sequence[Mapping[str, Any]] = (),
) -> ShowerLibrary:
    """Write the files of a library, its card in words among them.

    Args:
        folder: Created if absent.
        name: Of the library.
        groups: Showers of each detector.
        pdg_id: Of the particle.
        energy_meaning: Of the energies of the cells.
        data: What made the showers of each detector, JSON-compatible.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    counts = [len(group.energy) for group in groups]
    parts: dict[str, list[NDArray[Any]]] = {
        "energy": [group.energy for group in groups],
        "detector": [np.repeat(np.arange(len(groups)), counts)],
        "entries": [group.entries for group in groups],
        "gap": [group.gap for group in groups],
        "level": [group.level for group in groups],
    }
    tensors = {
        key: torch.from_numpy(np.concatenate(part).astype(TENSORS[key])) for key, part in parts.items()
    }
    digest = write_tensors(folder / "hits.safetensors", tensors)
    path = (folder / "hits.safetensors").replace(folder / _file_name(digest))
    energy, made = np.concatenate(parts["energy"]), collect(packages=("torch", "numpy"))
    card = LibraryCard(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        name=name,
        energy=(float(energy.min()), float(energy.max())),
        pdg_id=pdg_id,
        energy_meaning=energy_meaning,
        showers=len(energy),
        detectors=tuple(group.detector for group in groups),
        weights_sha256=digest,
        weights_bytes=path.stat().st_size,
        data=[dict(record) for record in data],
        # the command holds paths of the machine
        provenance={key: value for key, value in made.items() if key != "command"},
    )
    write_text(folder / LIBRARY, card.model_dump_json(indent=1))
    write_text(folder / README, _readme(card))
    return ShowerLibrary(folder, card)


def describe(card: LibraryCard) -> str:
    """A library in one line."""
    return library_line(card.model_dump(include={"showers", "energy", "detectors"}))


def _file_name(digest: str) -> str:
    return f"hits-{digest[:12]}.safetensors"


def _detector_hits(tensors: Mapping[str, Tensor], card: LibraryCard) -> list[DetectorHits]:
    """Tensors as showers of each detector.

    Raises:
        ValueError: They do not belong together.
    """
    arrays = {key: _array(tensors, key) for key in TENSORS}
    energy, entries, detector = (
        arrays["energy"].astype(float),
        arrays["entries"].astype(np.int64),
        arrays["detector"],
    )
    if not len(energy) == len(entries) == len(detector) == card.showers:
        raise ValueError(
            f"{len(energy)}, {len(entries)} and {len(detector)} showers, expected {card.showers}"
        )
    if not (np.isfinite(energy).all() and (energy > 0).all()):
        raise ValueError("an incident energy is not positive")
    if (entries < 0).any() or not entries.sum() == len(arrays["gap"]) == len(arrays["level"]):
        raise ValueError("the numbers of hits are not those of the showers")
    if (np.diff(detector) < 0).any() or len(np.unique(detector)) != len(card.detectors) or detector[0] != 0:
        raise ValueError(f"the showers are not those of {len(card.detectors)} detectors in order")
    starts = np.concatenate([[0], np.cumsum(entries)])
    found = []
    for index, box in enumerate(card.detectors):
        first, last = np.searchsorted(detector, [index, index + 1])
        hits = slice(starts[first], starts[last])
        own = slice(first, last)
        found.append(DetectorHits(box, energy[own], entries[own], arrays["gap"][hits], arrays["level"][hits]))
        found[-1].check()
    return found


def _array(tensors: Mapping[str, Tensor], key: str) -> NDArray[Any]:
    """A tensor of one dimension.

    Raises:
        ValueError: It is missing or of another type or shape.
    """
    if key not in tensors:
        raise ValueError(f"{key} is missing")
    array: NDArray[Any] = tensors[key].numpy()
    if array.ndim != 1 or array.dtype != TENSORS[key]:
        raise ValueError(
            f"{key} has {array.ndim} dimensions of {array.dtype}, expected 1 of {np.dtype(TENSORS[key])}"
        )
    return array


def _readme(card: LibraryCard) -> str:
    """The card in words."""
    rows = "\n".join(
        f"| {box.name} | {box.description} | {box.n_layers} | {box.radiation_lengths:.1f} |"
        for box in card.detectors
    )
    return f"""# {card.name}

A library of showers to start the training for a new detector from: {describe(card)}.
Particle {card.pdg_id} (PDG), orthogonal incidence, {card.energy_meaning} energy. It generates nothing.

    caloforge train RUN.yaml --data few.h5 --from {card.name} -o runs/new

What it is good for, and what not: docs/how-to/transfer.md. Each hit is stored with its cell and its
energy, to 3 %. Detectors, beams and seeds of the simulation are in {LIBRARY}.

| Detector | | Layers | Radiation lengths |
|---|---|---:|---:|
{rows}

SHA-256 of the hits: {card.weights_sha256}
"""

"""The binning XML of the CaloChallenge: radial edges and sectors of each layer."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar
from xml.parsers import expat

from caloforge.config import build
from caloforge.errors import ConfigError, DataError
from caloforge.files import read_regular
from caloforge.geometry import Detector, RaggedMesh, load_detector

Number = TypeVar("Number", int, float)

# number of voxels of each data set
DATASETS = {"1-photons": 368, "1-pions": 533, "2": 6480, "3": 40500}
# detector presets of the data sets whose materials are known
STACKS = {"2": "par04-siw", "3": "par04-siw"}
# active silicon energy over deposited energy by which sets 2 and 3 were divided, one number for all
# energies (CaloChallenge, Dataset_creation)
SAMPLING_FRACTION = 0.033
MAX_BYTES = 2**20


class _Parser:
    """Collects the elements of a binning file, and refuses any other XML."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.bins: list[dict[str, str]] = []
        self.layers: list[dict[str, str]] = []

    def parse(self, text: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._element
        try:
            parser.Parse(text, True)
        # a LookupError: an encoding of no name
        except (expat.ExpatError, LookupError) as error:
            raise DataError(f"{self.origin}: not valid XML: {error}") from error

    def _doctype(self, *_: Any) -> None:
        # without a DOCTYPE there are no entities, which could read other files or exhaust the memory
        raise DataError(f"{self.origin}: a binning file has no DOCTYPE; take it out")

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Bin":
            self.bins.append(attributes)
        elif name == "Layer":
            self.layers.append(attributes)
        elif name != "Bins":
            raise DataError(f"{self.origin}: got the element <{name}>, expected <Bins>, <Bin> and <Layer>")


def read_binning(path: Path) -> tuple[Detector, int | None]:
    """Read a binning XML: the detector, and the PDG number of the incident particle (None without one).

    Raises:
        DataError: The file cannot be read, or does not describe one mesh.
    """
    try:
        text = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot read this binning XML ({error.strerror})") from error
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64] or "binning"
    return parse_binning(text, str(path), name)


def parse_binning(text: bytes, origin: str, name: str, description: str = "") -> tuple[Detector, int | None]:
    """A detector with a ragged mesh and no materials, and the PDG number of the XML (None without one).

    Layers whose `r_edges` is the single number 0 are not read out, and are skipped.

    Args:
        text: The XML.
        origin: Name of the file, for messages.
        name: Name of the detector.
        description: Description of the detector.

    Raises:
        DataError: Not the XML of one binning.
    """
    parser = _Parser(origin)
    parser.parse(text)
    if len(parser.bins) != 1:
        raise DataError(
            f"{origin}: got {len(parser.bins)} <Bin> elements, expected one particle and one region"
        )
    layers = [_layer(attributes, origin) for attributes in parser.layers]
    mesh = {"kind": "ragged", "layers": [layer for layer in layers if len(layer["r_edges"]) > 1]}
    try:
        detector = build(Detector, {"name": name, "description": description, "mesh": mesh}, origin)
    except ConfigError as error:
        raise DataError(str(error)) from error
    text_pid = parser.bins[0].get("pid")
    pid = _number(int, text_pid, "pid", origin) if text_pid is not None else None
    if pid is not None and not 0 < abs(pid) < 2**31:
        raise DataError(
            f"{origin}: pid: got {_short(pid)}, expected the PDG number of a particle, such as 11"
        )
    return detector, pid


def _layer(attributes: dict[str, str], origin: str) -> dict[str, Any]:
    missing = {"id", "r_edges", "n_bin_alpha"} - set(attributes)
    if missing:
        raise DataError(f"{origin}: a <Layer> lacks {', '.join(sorted(missing))}")
    edges = [_number(float, edge, "r_edges", origin) for edge in attributes["r_edges"].split(",")]
    return {
        "id": _number(int, attributes["id"], "id", origin),
        "r_edges": [f"{edge!r} mm" for edge in edges],
        "nphi": _number(int, attributes["n_bin_alpha"], "n_bin_alpha", origin),
    }


def _number(kind: type[Number], text: str, what: str, origin: str) -> Number:
    try:
        return kind(text)
    except ValueError as error:
        raise DataError(f"{origin}: {what}: got {_short(text)}, expected {kind.__name__} numbers") from error


def _short(value: object) -> str:
    # Python refuses to write out integers of thousands of digits
    text = repr(value) if not isinstance(value, int) or value.bit_length() < 200 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def dataset_detector(dataset: str) -> tuple[Detector, int]:
    """The detector of a CaloChallenge data set and its incident particle.

    Sets 2 and 3 have the materials of the Par04 stack; of set 1 only the binning is known.

    Args:
        dataset: A key of `DATASETS`.
    """
    name = f"binning_dataset_{dataset.replace('-', '_')}.xml"
    text = (resources.files("caloforge.showers.converters") / "binning" / name).read_bytes()
    description = f"CaloChallenge data set {dataset}"
    detector, pdg_id = parse_binning(text, name, f"calochallenge-{dataset}", description)
    assert pdg_id is not None
    if dataset not in STACKS:
        return detector, pdg_id
    assert isinstance(detector.mesh, RaggedMesh)
    layer = detector.mesh.layers[0]
    stack = load_detector(STACKS[dataset])
    if stack.shower_shape[1:] == (layer.nphi, len(layer.r_edges) - 1):
        return stack, pdg_id
    fine = (
        f"name={stack.name}-{len(layer.r_edges) - 1}x{layer.nphi}",
        f"description={description}",
        f"mesh.nphi={layer.nphi}",
        f"mesh.nr={len(layer.r_edges) - 1}",
        f"mesh.cell_r={layer.r_edges[1]} mm",
    )
    return load_detector(STACKS[dataset], fine), pdg_id


def known_sampling_fraction(detector: Detector) -> float | None:
    """The sampling fraction of the Par04 silicon-tungsten stack for a detector of that stack, else None."""
    stack = load_detector("par04-siw")
    same = detector.layers and detector.physical_layers() == stack.physical_layers()
    return SAMPLING_FRACTION if same else None


def sampling_fraction_to_undo(detector: Detector, corrected: bool, visible: bool) -> float | None:
    """The factor that turns corrected energies into visible ones, or None where nothing is to be done.

    Args:
        detector: Detector of the showers.
        corrected: Whether their energies are corrected for the sampling fraction.
        visible: Whether visible energies are asked for (`--visible`).

    Raises:
        ConfigError: The sampling fraction of the detector is not known.
    """
    if not (visible and corrected):
        return None
    fraction = known_sampling_fraction(detector)
    if fraction is None:
        raise ConfigError(
            f"--visible: the sampling fraction of {detector.name} is not known, only that of par04-siw "
            "(CaloChallenge sets 2 and 3); leave it out"
        )
    return fraction

"""The electromagnetic tables of Geant4, written from public numbers.

`G4EmStandardPhysics` reads three kinds of tables per element: bremsstrahlung, photoelectric effect and
coherent scattering. They are written here in the text formats of Geant4 11.4 (G4SeltzerBergerModel,
G4LivermorePhotoElectricModel, G4LivermoreRayleighModel), so that electrons, positrons, photons, muons and
neutral pions are simulated without the 2 GB of data sets that Geant4 distributes.

Sources:
    Bremsstrahlung: S. M. Seltzer and M. J. Berger, At. Data Nucl. Data Tables 35 (1986) 345.
    Photoelectric and coherent cross sections up to 800 keV: W. T. Elam, B. D. Ravel and J. R. Sieber, Radiat.
    Phys. Chem. 63 (2002) 121, from the package `xraydb`.
    Photoelectric cross sections above: the shape of EPDL97 (D. E. Cullen et al., UCRL-50400 vol. 6 rev. 5).
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import OutputError, SimulationError
from caloforge.files import partial_path

Array = NDArray[np.float64]

# increase it whenever a table changes, so that cached tables of older versions are not used
FORMAT_VERSION = 3
SOURCES = ("seltzer_berger.npz", "epdl_photo_high.npz")
MAX_Z = 98
NUCLEAR_STATES = "ENSDFSTATE.dat"
# temporary names hold the process id, so that threads of one process must write in turn
_WRITE_LOCK = threading.Lock()

# cm2/g times A gives barn per atom after division by this (Avogadro's number times 1e-24)
AVOGADRO_BARN = 0.602214076
# the Elam tables end here, eV
ELAM_LOW, ELAM_HIGH = 100.0, 8e5
# end of the written tables, MeV
TABLE_HIGH = 1e5
# Elam's own edges lie up to 1e-4 below the listed ones: no table point comes nearer to an edge than this
EDGE_GAP = 3e-4
# the Rayleigh tables are in MeV2 mm2, the photoelectric ones in MeV3 barn
MM2_PER_BARN = 1e-22
# with this threshold in MeV Geant4 never uses its parametrisations and reads the tables instead
NO_PARAMETRISATION = "1e9"


@dataclass(frozen=True)
class PhotoElectric:
    """Photoelectric cross sections of one element.

    Attributes:
        k_edge: Binding energy of the K shell, MeV.
        l_edge: Binding energy of all other shells as one, MeV; None where everything is the K shell.
        k_fraction: Fraction of the cross section that is the K shell's, above its edge.
        low: Energies below the K edge, MeV; empty with one shell.
        low_barn: Cross section there, barn per atom.
        high: Energies above the K edge, MeV.
        high_barn: Cross section there.
    """

    k_edge: float
    l_edge: float | None
    k_fraction: float
    low: Array
    low_barn: Array
    high: Array
    high_barn: Array


def photoelectric(z: int) -> PhotoElectric:
    """Photoelectric cross sections of the element `z`, 100 eV to 100 GeV.

    The fraction of the K shell is 1 - 1/r with the tabulated jump ratio r. The ratio of the cross sections
    beside the edge would give photoelectrons part of the binding energy, and a calorimeter response more than
    1 % too high although every attenuation coefficient is right.
    """
    import xraydb

    edges = xraydb.xray_edges(z)
    k_edge, jump = edges["K"].energy, edges["K"].jump_ratio
    elam = np.geomspace(max(k_edge * (1 + EDGE_GAP), ELAM_LOW), ELAM_HIGH, 200)
    beyond = np.geomspace(ELAM_HIGH * 1e-6, TABLE_HIGH, 160)
    shape = _epdl_shape(z, beyond)
    elam_barn = _elam_barn(z, elam, "photo")
    high = np.concatenate([elam * 1e-6, beyond[1:]])
    high_barn = np.concatenate([elam_barn, elam_barn[-1] * shape[1:] / shape[0]])
    # up to lithium the K edge lies below the tables: all electrons count as one shell
    if k_edge <= ELAM_LOW:
        empty = np.empty(0)
        return PhotoElectric(k_edge * 1e-6, None, 1.0, empty, empty, high, high_barn)
    energies = [edge.energy for edge in edges.values()]
    low = _between_edges(k_edge, energies)
    return PhotoElectric(
        k_edge=k_edge * 1e-6,
        l_edge=max(energy for energy in energies if energy < k_edge) * 1e-6,
        k_fraction=1 - 1 / jump,
        low=low * 1e-6,
        low_barn=_elam_barn(z, low, "photo"),
        high=high,
        high_barn=high_barn,
    )


def _between_edges(k_edge: float, edges: list[float]) -> Array:
    """Energies in eV from 100 eV to the K edge, with a point on either side of every edge between."""
    top = k_edge * (1 - EDGE_GAP)
    beside = np.outer(edges, [1 - EDGE_GAP, 1 + EDGE_GAP])
    grid = np.union1d(np.geomspace(ELAM_LOW, top, 200, endpoint=False), beside)
    distance = np.abs(grid[:, None] / np.asarray(edges) - 1).min(axis=1)
    # 0.99: rounding must not drop the points at exactly one gap from an edge
    clear = distance > 0.99 * EDGE_GAP
    return np.asarray(grid[clear & (grid >= ELAM_LOW) & (grid <= top)])


def coherent(z: int) -> tuple[Array, Array]:
    """Coherent (Rayleigh) cross sections: energies in MeV and barn per atom, 100 eV to 100 GeV.

    Above the Elam tables they fall as 1/E^2, the limit of form factors at high momentum transfer.
    """
    elam = np.geomspace(ELAM_LOW, ELAM_HIGH, 200)
    barn = _elam_barn(z, elam, "coh")
    beyond = np.geomspace(ELAM_HIGH * 1e-6, TABLE_HIGH, 100)
    energy = np.concatenate([elam * 1e-6, beyond[1:]])
    return energy, np.concatenate([barn, barn[-1] * (beyond[0] / beyond[1:]) ** 2])


def _elam_barn(z: int, energy: Array, kind: str) -> Array:
    """Elam's cross section of one kind, barn per atom, at energies in eV."""
    import xraydb

    mu = np.asarray(xraydb.mu_elam(z, energy, kind=kind), np.float64)
    return np.asarray(mu * (xraydb.atomic_mass(z) / AVOGADRO_BARN))


def _epdl_shape(z: int, energy: Array) -> Array:
    """EPDL97's photoelectric cross section in barn at energies in MeV, interpolated in both logarithms."""
    table = _source("epdl_photo_high.npz")
    log_barn = np.log(table["barn"][z - 1].astype(np.float64))
    return np.asarray(np.exp(np.interp(np.log(energy), np.log(table["energy_MeV"]), log_barn)))


@functools.cache
def _source(name: str) -> dict[str, NDArray[np.floating]]:
    with resources.files(__package__).joinpath("data", name).open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        return {key: archive[key] for key in archive.files}


def table_texts(z: int) -> dict[str, str]:
    """The tables of one element: path below G4LEDATA to the text of the file."""
    photo = photoelectric(z)
    texts = {f"brem_SB/br{z}": _bremsstrahlung_text(z)}
    phot = "epics2017/phot"
    texts[f"{phot}/pe-cs-{z}.dat"] = _vector_text(photo.high, photo.high_barn * photo.high**3)
    if photo.l_edge is not None:
        texts[f"{phot}/pe-le-cs-{z}.dat"] = _vector_text(photo.low, photo.low_barn * photo.low**3)
        texts[f"{phot}/pe-ss-cs-{z}.dat"] = _shells_text(photo)
    for name in ("pe-high", "pe-low"):
        texts[f"{phot}/{name}-{z}.dat"] = _bindings_text(photo)
    energy, barn = coherent(z)
    texts[f"epics2017/rayl/re-cs-{z}.dat"] = _vector_text(energy, barn * energy**2 * MM2_PER_BARN)
    return texts


def element_files(elements: Iterable[int]) -> list[str]:
    """Files of G4LEDATA that Geant4 reads for every element, whatever the electromagnetic physics."""
    return [f"brem_SB/br{z}" for z in sorted(set(elements))]


def _bremsstrahlung_text(z: int) -> str:
    """Photon over electron energy k, ln(E/MeV), then beta^2/Z^2 k dsigma/dk in millibarn."""
    table = _source("seltzer_berger.npz")
    k, log_energy, dcs = table["k"], np.log(table["energy_MeV"]), table["dcs_mb"][z - 1]
    lines = [f"0 {len(k)} {len(log_energy)}", _row(k, ".8g"), _row(log_energy, ".8g")]
    lines += [_row(row, ".6e") for row in dcs]
    return "\n".join(lines) + "\n"


def _row(values: NDArray[np.floating], spec: str) -> str:
    return " ".join(format(float(value), spec) for value in values)


def _points(x: Array, y: Array) -> str:
    return "".join(f"{a:.9e} {b:.9e}\n" for a, b in zip(x, y, strict=True))


def _vector_text(x: Array, y: Array) -> str:
    return f"{x[0]:.9e} {x[-1]:.9e} {len(x)}\n{len(x)}\n" + _points(x, y)


def _shells_text(photo: PhotoElectric) -> str:
    """The K shell, then all others as one, numbered from 0.

    The number is an index into the binding energies of `_bindings_text`; counted from 1, K electrons would
    get the binding energy of L electrons.
    """
    k_barn = photo.high_barn * photo.k_fraction
    other = np.concatenate([photo.low, photo.high])
    other_barn = np.concatenate([photo.low_barn, photo.high_barn - k_barn])
    text = ""
    for shell, (x, barn) in enumerate([(photo.high, k_barn), (other, other_barn)]):
        text += f"{x[0]:.9e} {x[-1]:.9e} {len(x)} {shell}\n" + _points(x, barn * x**3)
    return text


def _bindings_text(photo: PhotoElectric) -> str:
    bindings = [photo.k_edge] if photo.l_edge is None else [photo.k_edge, photo.l_edge]
    lines = [f"{len(bindings)} {len(bindings)} {NO_PARAMETRISATION}"]
    lines += [f"{binding:.9e} 0 0 0 0 0 0" for binding in bindings]
    return "\n".join(lines) + "\n"


def table_directory() -> Path:
    """The cache folder of the tables: below XDG_CACHE_HOME, named by a digest of their sources."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} xraydb {metadata.version('xraydb')}".encode())
    for name in SOURCES:
        digest.update(resources.files(__package__).joinpath("data", name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: a path that is not absolute is ignored
    if not cache.is_absolute():
        cache = Path.home() / ".cache"
    return cache / "caloforge" / f"em-tables-{digest.hexdigest()[:16]}"


def write_tables(elements: Iterable[int]) -> Path:
    """Write the tables of the elements that are not in the cache yet.

    The list of nuclear states, which Geant4 requires, is written empty. Several processes may do so at once:
    files are written atomically, and always with the same text.

    Args:
        elements: Atomic numbers.

    Returns:
        The directory to be used as G4LEDATA.

    Raises:
        SimulationError: An atomic number without a table.
        OutputError: The cache cannot be written.
    """
    wanted = sorted(set(elements))
    if wrong := [z for z in wanted if not 1 <= z <= MAX_Z]:
        raise SimulationError(f"no electromagnetic tables for Z = {wrong[0]}, expected 1 to {MAX_Z}")
    root = table_directory()
    try:
        with _WRITE_LOCK:
            _write_missing(root, wanted)
    except OSError as error:
        raise OutputError(
            f"{error.filename or root}: the electromagnetic tables cannot be written ({error.strerror}); "
            "set XDG_CACHE_HOME to a directory that can be written"
        ) from error
    return root


def _write_missing(root: Path, wanted: list[int]) -> None:
    for folder in ("brem_SB", "epics2017/phot", "epics2017/rayl", "complete"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if not (states := root / NUCLEAR_STATES).exists():
        _write_atomically(states, "")
    for z in wanted:
        # marks an element whose tables are complete; written last
        mark = root / "complete" / str(z)
        if mark.exists():
            continue
        for name, text in table_texts(z).items():
            _write_atomically(root / name, text)
        _write_atomically(mark, "")


def _write_atomically(path: Path, text: str) -> None:
    """Write a file atomically; other processes may write the same one at the same time."""
    temporary = partial_path(path)
    try:
        temporary.write_text(text, encoding="ascii")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

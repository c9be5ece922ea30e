"""Import of geant4-pybind, with an environment in which it finds its data sets and prompts for nothing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from caloforge.errors import MissingDependencyError
from caloforge.fullsim.em_tables import NUCLEAR_STATES, element_files, table_directory, write_tables
from caloforge.geometry import Detector
from caloforge.geometry.materials import elements as all_elements

# data sets of Geant4 11.4. All must be set before the import, or geant4-pybind prompts on standard input
# for permission to download them. Electromagnetic physics reads G4LEDATA and G4ENSDFSTATEDATA only.
DATA_VARIABLES = (
    "G4NEUTRONHPDATA",
    "G4LEDATA",
    "G4LEVELGAMMADATA",
    "G4RADIOACTIVEDATA",
    "G4PARTICLEXSDATA",
    "G4PIIDATA",
    "G4REALSURFACEDATA",
    "G4SAIDXSDATA",
    "G4ABLADATA",
    "G4INCLDATA",
    "G4ENSDFSTATEDATA",
    "G4CHANNELINGDATA",
)
# data sets that the hadronic reference lists read
HADRONIC_VARIABLES = ("G4LEDATA", "G4PARTICLEXSDATA", "G4LEVELGAMMADATA", "G4SAIDXSDATA", "G4ENSDFSTATEDATA")
# directory that holds all data sets, each in a folder of its own
DATA_ROOT = "GEANT4_DATA_DIR"


def load_geant4(elements: Iterable[int] = (), hadronic: bool = False, full_em: bool = False) -> ModuleType:
    """Import `geant4_pybind`, with tables for the given elements in place.

    What the user has set is never changed: with G4LEDATA or GEANT4_DATA_DIR in the environment Geant4 reads
    the user's data sets and no tables are written. The environment passes to child processes.

    Args:
        elements: Atomic numbers in the geometry; hydrogen, which is Geant4's vacuum, is added.
        hadronic: Whether a hadronic physics list is wanted, which needs the user's data sets.
        full_em: Whether an electromagnetic constructor is wanted that needs the user's G4LEDATA.

    Raises:
        MissingDependencyError: geant4-pybind is not installed, or data sets that are needed are not there.
        OutputError: The tables cannot be written.
        SimulationError: An element without tables.
    """
    if importlib.util.find_spec("geant4_pybind") is None:
        raise MissingDependencyError("Geant4 is not installed; run: pip install geant4-pybind")
    check_data(elements, hadronic, full_em)
    if DATA_ROOT not in os.environ:
        _set_defaults(elements)
    with _without_ci_variable():
        return importlib.import_module("geant4_pybind")


def check_data(elements: Iterable[int] = (), hadronic: bool = False, full_em: bool = False) -> None:
    """Check the data sets that environment variables of the user name; Geant4 aborts where they are wrong.

    Args:
        elements: Atomic numbers in the geometry; hydrogen is added.
        hadronic: Whether a hadronic physics list is wanted.
        full_em: Whether an electromagnetic constructor is wanted that needs the user's G4LEDATA.

    Raises:
        MissingDependencyError: A variable that names no directory, or one without the files that are read.
    """
    if hadronic:
        _check_named("hadronic physics lists", HADRONIC_VARIABLES)
    if full_em:
        _check_named("this electromagnetic physics", ("G4LEDATA",))
    root = os.environ.get(DATA_ROOT)
    if root is not None and not Path(root).is_dir():
        raise MissingDependencyError(
            f"{DATA_ROOT} is set to {root}, which is no directory; correct it, or unset it to use the "
            "electromagnetic tables of caloforge"
        )
    _check_files("G4LEDATA", "G4EMLOW", element_files({1, *elements}))
    _check_files("G4ENSDFSTATEDATA", "G4ENSDFSTATE", [NUCLEAR_STATES])


def atomic_numbers(detector: Detector) -> set[int]:
    """Z of every element in a detector."""
    return {all_elements()[symbol][0] for m in detector.material_map().values() for symbol in m.fractions}


@contextlib.contextmanager
def stdout_discarded() -> Iterator[None]:
    """Discard what Geant4 writes to standard output, such as its banner.

    Geant4 writes from C++, so the file descriptor is redirected, for the whole process. Its warnings and
    errors on standard error are kept.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("w") as sink:
            os.dup2(sink.fileno(), 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def _without_ci_variable() -> Iterator[None]:
    """Unset CI: with CI=true geant4-pybind downloads without asking and cleans a folder in the user's home.

    It fails where that folder does not exist, even if no data set is missing.
    """
    value = os.environ.pop("CI", None)
    try:
        yield
    finally:
        if value is not None:
            os.environ["CI"] = value


def _set_defaults(elements: Iterable[int]) -> None:
    """Set each data-set variable that the user has not set, to the directory of caloforge's tables."""
    own_data = _set_by_user("G4LEDATA")
    directory = write_tables(() if own_data else {1, *elements})
    for variable in DATA_VARIABLES:
        os.environ.setdefault(variable, str(directory))


def uses_own_tables() -> bool:
    """Whether Geant4 reads caloforge's electromagnetic tables and not the user's data sets."""
    return DATA_ROOT not in os.environ and not _set_by_user("G4LEDATA")


def _set_by_user(variable: str) -> bool:
    """Whether the user set a variable, and not `_set_defaults` in this process or a parent of it."""
    return os.environ.get(variable) not in (None, str(table_directory()))


def _check_named(what: str, variables: tuple[str, ...]) -> None:
    if DATA_ROOT in os.environ:
        return
    missing = [v for v in variables if not _set_by_user(v) or not Path(os.environ[v]).is_dir()]
    if missing:
        raise MissingDependencyError(
            f"{what}: data sets that Geant4 distributes are needed, and {', '.join(missing)} is not set to a "
            f"directory. Download them (geant4.org, about 2 GB) and set {DATA_ROOT} to the directory with "
            "them, or set fullsim.physics to G4EmStandardPhysics"
        )


def _check_files(variable: str, name: str, files: list[str]) -> None:
    """Refuse a data set of the user that lacks files that Geant4 reads with every physics list."""
    if _set_by_user(variable):
        place, folders = f"{variable} is set to {os.environ[variable]}", [Path(os.environ[variable])]
    elif DATA_ROOT in os.environ:
        root = Path(os.environ[DATA_ROOT])
        place, folders = f"{DATA_ROOT} is set to {root}", sorted(root.glob(f"{name}[0-9]*"))
    else:
        return
    variable = place.partition(" ")[0]
    missing = [next((file for file in files if not (folder / file).is_file()), None) for folder in folders]
    if folders and None in missing:
        return
    if not folders:
        what = f"where no folder {name}* is"
    elif not folders[0].is_dir():
        what = "which is no directory"
    else:
        what = f"which lacks {missing[0]}: not the data set {name} of this version of Geant4, or a part of it"
    raise MissingDependencyError(
        f"{place}, {what}; correct it, or unset {variable} to use the electromagnetic tables of caloforge"
    )

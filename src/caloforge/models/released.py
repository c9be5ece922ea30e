"""Locating models, released or on disk, and reading their cards. Imports nothing slow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloforge.beam import PARTICLES
from caloforge.errors import DataError, ModelError, nearest
from caloforge.files import read_regular
from caloforge.geometry.mesh import IMPACT
from caloforge.names import is_path, shipped_name
from caloforge.run_directory import CARD, CHECKPOINTS, MODEL
from caloforge.units import format_energy

FORMAT = "caloforge-model"
FORMAT_VERSION = 1
# bytes; a card with long reports has a few hundred thousand
LARGEST_CARD = 2**24
RELEASED = Path(__file__).parents[1] / "pretrained"
# the description of showers to start a training from, which are no model
LIBRARY = "library.json"


def released_models() -> list[str]:
    """Names of the models that come with caloforge."""
    return sorted(card.parent.name for card in RELEASED.glob(f"*/{CARD}"))


def released_libraries() -> list[str]:
    """Names of the libraries of showers that come with caloforge, to start a training from."""
    return sorted(card.parent.name for card in RELEASED.glob(f"*/{LIBRARY}"))


def library_folder(path: Path | str) -> Path | None:
    """The folder of a library of showers, or None where there is none.

    Args:
        path: The folder, or the name of a released library.
    """
    if name := shipped_name(path, released_libraries(), "released library"):
        return RELEASED / name
    return Path(path) if (Path(path) / LIBRARY).is_file() else None


def library_line(card: Mapping[str, Any]) -> str:
    """A library of showers in one line.

    Args:
        card: A library.json.
    """
    ends = _span([format_energy(float(f"{end:.2g}")) for end in card["energy"]])
    return f"{card['showers']} showers of {len(card['detectors'])} detectors, {ends}"


def model_folder(path: Path | str) -> Path:
    """The model directory of a run directory, the path itself, or the directory of a released model.

    The name of a released model wins over a directory of that name, for which write `./NAME`.

    Args:
        path: A run directory, a model directory, or the name of a released model.

    Raises:
        ModelError: None of them; names what is missing, or the nearest name.
    """
    names = released_models()
    if name := shipped_name(path, names, "released model"):
        return RELEASED / name
    if library_folder(path) is not None:
        raise ModelError(
            f"{path}: showers to start a training from, which generate nothing; give a model, or train one "
            f"with caloforge train RUN --data FILE --from {path}"
        )
    hint = "" if is_path(path) else nearest(str(path), names)
    path = Path(path)
    for folder in (path, path / MODEL):
        if (folder / CARD).is_file():
            return folder
    if not path.exists():
        raise ModelError(
            f"{path}: no such directory, and no released model of this name; give a run directory, a model "
            f"directory, or a name from caloforge list. {hint}".rstrip()
        )
    if (path / CHECKPOINTS).is_dir():
        raise ModelError(
            f"{path}: this training has not finished an evaluation yet, there is no model; continue it with "
            "caloforge train ... --resume"
        )
    raise ModelError(f"{path}: no {CARD} in it; give a run directory or a model directory")


def read_card(path: Path | str) -> dict[str, Any]:
    """Read the card (model.json) of a model.

    Args:
        path: A run directory, a model directory, or the name of a released model.

    Raises:
        ModelError: There is none, or it is damaged or of another format version.
    """
    card_path = model_folder(path) / CARD
    try:
        card = json.loads(read_regular(card_path, LARGEST_CARD))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{card_path}: cannot be read as JSON; take another copy") from error
    except DataError as error:
        raise ModelError(str(error)) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ModelError(f"{card_path}: not the description of a caloforge model")
    if card.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{card_path}: format version {card.get('format_version')}, this caloforge reads "
            f"{FORMAT_VERSION}; install the caloforge that wrote it or train again"
        )
    return card


def claimed_ranges(card: Mapping[str, Any]) -> dict[str, Any]:
    """The ranges that a model is made for, from a card."""
    facts = card["facts"]
    ranges: dict[str, Any] = facts.get("claimed") or facts["ranges"]
    return ranges


def trained_conditions(card: Mapping[str, Any]) -> dict[str, str]:
    """The range that a model is made for as text: particles, energy, angles, impact points if they vary.

    Args:
        card: A model.json.
    """
    ranges = claimed_ranges(card)
    names = {number: name for name, number in PARTICLES.items()}
    particles = ", ".join(names.get(number, f"PDG {number}") for number in ranges["pdg_ids"])
    # rounded: the extremes of a sample lie slightly inside the limits of its beam
    energy = _span([format_energy(float(f"{value:.3g}")) for value in ranges["energy"]])
    angles = {key: _span([f"{math.degrees(v):.4g} deg" for v in ranges[key]]) for key in ("theta", "phi")}
    impacts = {key: _span([f"{v:.4g} mm" for v in ranges[key]]) for key in IMPACT if key in ranges}
    return {"particles": particles, "energy": energy, **angles, **impacts}


def _span(limits: list[str]) -> str:
    return " to ".join(dict.fromkeys(limits))


def one_line(card: Mapping[str, Any]) -> str:
    """Family, detector, particles and energies of a model in one line."""
    found = trained_conditions(card)
    return f"{card['family']}, {card['detector']['name']}, {found['particles']}, {found['energy']}"

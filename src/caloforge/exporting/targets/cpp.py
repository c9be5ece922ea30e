"""Target `cpp`: the plain graph with a header-only generator in C++, a model for Geant4, and CMake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from caloforge.errors import ModelError
from caloforge.exporting.contract import Contract, plain_contract
from caloforge.models.base import ShowerModel


def contract(model: ShowerModel) -> Contract:
    """The plain contract, with the sources.

    Raises:
        ModelError: The mesh is ragged, or the layers are not known.
    """
    detector = model.detector
    if not detector.layers:
        raise ModelError(
            f"the C++ generator places cells at their depths, but the layers of {detector.name} are not "
            "known; take --target onnx"
        )
    return replace(plain_contract(model), texts=_sources)


def _sources(document: Mapping[str, Any]) -> dict[str, str]:
    del document
    return dict(_texts(resources.files("caloforge.exporting") / "cpp", ""))


def _texts(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.is_dir():
            found += _texts(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, entry.read_text(encoding="utf-8")))
    return found

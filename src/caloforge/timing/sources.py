"""What is compared: the published networks, the frozen library, trained models; and on which backends."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from caloforge.models.store import read_card

# electrons as the published networks were trained on
PUBLISHED_BEAM = {"energy": {"kind": "flat", "min": "10 GeV", "max": "500 GeV"}}
# backend -> the package it needs
BACKENDS = {"torch": "torch"}
# what each is tried with
PRECISIONS = {"torch": ("fp32", "bf16")}


@dataclass(frozen=True)
class Source:
    """One thing that makes showers.

    Attributes:
        name: In the tables.
        kind: "published", "library" or "model".
        source: What `engines.open_engine` builds it from.
        exportable: Whether it runs on other backends than torch.
        trained: Whether its showers mean something, so that writing them to a file does.
    """

    name: str
    kind: str
    source: dict[str, Any]
    exportable: bool = True
    trained: bool = True


def installed_backends() -> tuple[str, ...]:
    """Backends whose packages are installed."""
    return tuple(name for name, package in BACKENDS.items() if importlib.util.find_spec(package) is not None)


PUBLISHED = (
    Source(
        "3DGAN, orthogonal incidence",
        "published",
        {"preset": "orthogonal", "detector": "clic-ecal-25"},
        trained=False,
    ),
    Source(
        "3DGAN, variable angle", "published", {"preset": "angle", "detector": "clic-ecal-51"}, trained=False
    ),
)


def trained(name: str) -> Source:
    """A trained model, by its path or name.

    Raises:
        ModelError: There is none.
    """
    card = read_card(name)
    return Source(name, "model", {"model": name}, exportable=card["family"] != "frozen")

"""What is compared: the published networks, the frozen library, trained models; and on which backends."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from caloforge.generation.runtimes import PACKAGES, PRECISIONS
from caloforge.models.released import read_card

# electrons as the published networks were trained on
PUBLISHED_BEAM = {"energy": {"kind": "flat", "min": "10 GeV", "max": "500 GeV"}}
# the arithmetics that need no calibration: any network runs in them
PLAIN = ("fp32", "bf16")


@dataclass(frozen=True)
class Source:
    """One thing that makes showers.

    Attributes:
        name: In the tables.
        kind: "published", "library" or "model".
        source: What `engines.open_engine` builds it from.
        precisions: Arithmetics to try.
        exportable: Whether it runs on other backends than torch.
        compilable: Whether it runs on Numba.
        trained: Whether its showers mean something, so that writing them to a file does.
    """

    name: str
    kind: str
    source: dict[str, Any]
    precisions: tuple[str, ...] = PLAIN
    exportable: bool = True
    compilable: bool = False
    trained: bool = True

    def engines(self, backends: tuple[str, ...]) -> list[tuple[str, str]]:
        """Backend and precision of every way it can run."""
        if not self.exportable:
            return [("torch", "fp32")]
        able = [name for name in backends if name != "numba" or self.compilable]
        return [(name, p) for name in able for p in PRECISIONS[name] if p in self.precisions]


def installed_backends() -> tuple[str, ...]:
    """Backends whose packages are installed."""
    return tuple(name for name, needed in PACKAGES.items() if all(map(find_spec, needed)))


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


def library(path: str, name: str = "frozen library") -> Source:
    """A frozen library of the showers of a file."""
    return Source(name, "library", {"library": path}, exportable=False)


def trained(name: str) -> Source:
    """A trained model, by its path or name; in arithmetics that its card allows besides the plain ones.

    Raises:
        ModelError: There is none.
    """
    card = read_card(name)
    allowed = (*PLAIN, *card["facts"].get("precisions", ()))
    family = card["family"]
    return Source(
        name,
        "model",
        {"model": name},
        precisions=allowed,
        exportable=family != "frozen",
        compilable=family == "layered",
    )

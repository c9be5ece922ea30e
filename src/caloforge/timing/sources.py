"""Sources of showers in the benchmark: published networks, a frozen library and trained models."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from caloforge.generation.plan import Plan, packages_of
from caloforge.generation.runtimes import BACKENDS
from caloforge.models.released import read_card

# the beam of the showers that the published networks were trained on
PUBLISHED_BEAM = {"energy": {"kind": "flat", "min": "10 GeV", "max": "500 GeV"}}
# precisions that need no calibration
UNCALIBRATED = ("fp32", "bf16")


@dataclass(frozen=True)
class Source:
    """A source of showers.

    Attributes:
        name: Name in the tables.
        kind: "published", "library" or "model".
        source: The `source` of a job for `generators.open_engine`.
        precisions: Precisions to measure.
        exportable: Whether it runs on other backends than torch.
        compilable: Whether it runs on Numba.
        trained: Whether it is trained; only then is the generation to disk measured.
    """

    name: str
    kind: str
    source: dict[str, Any]
    precisions: tuple[str, ...] = UNCALIBRATED
    exportable: bool = True
    compilable: bool = False
    trained: bool = True

    def engines(self, backends: tuple[str, ...]) -> list[tuple[str, str]]:
        """All combinations of backend and precision on which it runs."""
        if not self.exportable:
            return [("torch", "fp32")]
        able = [name for name in backends if name != "numba" or self.compilable]
        return [
            (name, p)
            for name in able
            for p in BACKENDS.get(name, "backend").precisions
            if p in self.precisions
        ]


def installed_backends() -> tuple[str, ...]:
    """Backends whose packages are installed."""
    return tuple(name for name in BACKENDS.usable() if all(map(find_spec, packages_of(Plan(name)))))


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
    """Frozen library made of the showers of a file."""
    return Source(name, "library", {"library": path}, exportable=False)


def trained(name: str) -> Source:
    """Trained model, by path or name, with the further precisions that its card allows.

    Raises:
        ModelError: There is no such model.
    """
    card = read_card(name)
    allowed = (*UNCALIBRATED, *card["facts"].get("precisions", ()))
    family = card["family"]
    return Source(
        name,
        "model",
        {"model": name},
        precisions=allowed,
        exportable=family != "frozen",
        compilable=family == "layered",
    )

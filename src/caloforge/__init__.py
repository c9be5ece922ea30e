"""caloforge: from a calorimeter description to a fast, validated, deployable shower generator.

Every verb of the command line is a function here with the same name and keywords:

    import caloforge

    caloforge.simulate("clic-electron", n=200, out="truth.h5", workers=2)
    caloforge.train("clic-electron", data="truth.h5", out="runs/first")
    caloforge.generate("runs/first", out="gen.h5", like="truth.h5")
    caloforge.validate("truth.h5", "gen.h5", out="report")

Importing the package is cheap: torch and Geant4 are loaded by the verbs that need them.
"""

from importlib import import_module
from typing import Any

from caloforge._version import __version__

# verb or class -> module that has it
_PUBLIC = {
    "benchmark": "caloforge.commands.benchmark",
    "benchmark_scaling": "caloforge.commands.benchmark",
    "card": "caloforge.commands.card",
    "check": "caloforge.commands.check",
    "cite": "caloforge.commands.cite",
    "config_schema": "caloforge.commands.config",
    "config_show": "caloforge.commands.config",
    "convert": "caloforge.commands.convert",
    "demo": "caloforge.commands.demo",
    "doctor": "caloforge.commands.doctor",
    "generate": "caloforge.commands.generate",
    "import_": "caloforge.commands.convert",
    "init": "caloforge.commands.init",
    "inspect": "caloforge.commands.inspect",
    "list_": "caloforge.commands.init",
    "simulate": "caloforge.commands.simulate",
    "submit": "caloforge.commands.submit",
    "train": "caloforge.commands.train",
    "tune": "caloforge.commands.tune",
    "validate": "caloforge.commands.validate",
    "CaloforgeError": "caloforge.errors",
    "Detector": "caloforge.geometry",
    "RunConfig": "caloforge.run",
    "ShowerBatch": "caloforge.showers",
    "ShowerFile": "caloforge.showers",
    "ShowerWriter": "caloforge.showers",
    "load_detector": "caloforge.geometry",
    "load_model": "caloforge.models.store",
    "load_run": "caloforge.run",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'caloforge' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

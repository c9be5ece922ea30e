"""caloforge: from a calorimeter description to a fast, validated, deployable shower generator.

Every verb of the command line is a function here with the same name and keywords:

    import caloforge

    caloforge.simulate("clic-electron", n=2000, out="train.h5", workers=2)
    caloforge.simulate("clic-electron", n=500, out="truth.h5", workers=2, seed=1)
    caloforge.train("clic-electron", data="train.h5", out="runs/first")
    caloforge.generate("runs/first", out="generated.h5", like="truth.h5")
    caloforge.validate("truth.h5", "generated.h5", out="report")

The released model makes showers at once, and `caloforge.plot` draws them:

    showers = caloforge.generate("clic-electron", n=100, energy="50 GeV")
    caloforge.plot.mean_shower(showers)

Importing the package is cheap: torch and Geant4 are loaded by the verbs that need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from caloforge._version import __version__

if TYPE_CHECKING:
    from caloforge import plot
    from caloforge.commands.benchmark import benchmark, benchmark_scaling
    from caloforge.commands.benchmark_resources import benchmark_resources
    from caloforge.commands.card import card
    from caloforge.commands.check import check
    from caloforge.commands.cite import cite
    from caloforge.commands.config import config_schema, config_show
    from caloforge.commands.convert import convert, import_
    from caloforge.commands.demo import demo
    from caloforge.commands.doctor import doctor
    from caloforge.commands.export import export
    from caloforge.commands.generate import generate
    from caloforge.commands.init import init, list_
    from caloforge.commands.inspect import inspect
    from caloforge.commands.join import join
    from caloforge.commands.simulate import simulate
    from caloforge.commands.simulate_events import simulate_events
    from caloforge.commands.submit import submit
    from caloforge.commands.train import train
    from caloforge.commands.tune import tune
    from caloforge.commands.validate import validate
    from caloforge.errors import CaloforgeError
    from caloforge.geometry import Detector, load_detector
    from caloforge.models.store import load_model
    from caloforge.run import RunConfig, load_run
    from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter

__all__ = [
    "CaloforgeError",
    "Detector",
    "RunConfig",
    "ShowerBatch",
    "ShowerFile",
    "ShowerWriter",
    "__version__",
    "benchmark",
    "benchmark_resources",
    "benchmark_scaling",
    "card",
    "check",
    "cite",
    "config_schema",
    "config_show",
    "convert",
    "demo",
    "doctor",
    "export",
    "generate",
    "import_",
    "init",
    "inspect",
    "join",
    "list_",
    "load_detector",
    "load_model",
    "load_run",
    "plot",
    "simulate",
    "simulate_events",
    "submit",
    "train",
    "tune",
    "validate",
]

# names and the module of each, where it is not `caloforge.commands.NAME`
_MODULES = {
    "CaloforgeError": "caloforge.errors",
    "Detector": "caloforge.geometry",
    "RunConfig": "caloforge.run",
    "ShowerBatch": "caloforge.showers",
    "ShowerFile": "caloforge.showers",
    "ShowerWriter": "caloforge.showers",
    "benchmark_resources": "caloforge.commands.benchmark_resources",
    "benchmark_scaling": "caloforge.commands.benchmark",
    "config_schema": "caloforge.commands.config",
    "config_show": "caloforge.commands.config",
    "import_": "caloforge.commands.convert",
    "list_": "caloforge.commands.init",
    "load_detector": "caloforge.geometry",
    "load_model": "caloforge.models.store",
    "load_run": "caloforge.run",
}


# type checkers see the imports above: with this they would take any name for one
if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'caloforge' has no attribute {name!r}")
        if name == "plot":
            return import_module("caloforge.plot")
        module = _MODULES.get(name, f"caloforge.commands.{name}")
        value = getattr(import_module(module), name)
        if not module.startswith("caloforge.commands."):
            return value
        from caloforge._signatures import readable

        return readable(value)


def __dir__() -> list[str]:
    return sorted(__all__)

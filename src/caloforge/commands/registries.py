"""All registries that plug-ins extend, and the state of the installed plug-ins."""

from __future__ import annotations

from typing import Any

from caloforge.errors import PluginError
from caloforge.plugins import Registry, added_to


def registries() -> list[Registry[Any]]:
    """Model families, samplers, formats, backends and targets; imports neither torch nor Optuna."""
    from caloforge.exporting.registry import TARGETS
    from caloforge.foreign_formats import FORMATS
    from caloforge.generation.runtimes import BACKENDS
    from caloforge.models.registry import FAMILIES
    from caloforge.tuning.samplers.config import SAMPLERS

    return [FAMILIES, SAMPLERS, FORMATS, BACKENDS, TARGETS]


def added_names() -> dict[str, str]:
    """The package of each name that plug-ins add; a name has its kind before it: "sampler sobol"."""
    names = {f"{r.kind} {name}": package for r in registries() for name, package in r.added().items()}
    # the registry of metrics takes a moment to import
    return names | {f"metric {name}": package for name, package in added_to("caloforge.metrics").items()}


def broken() -> list[str]:
    """The error of each plug-in that cannot be used, one line each."""
    from caloforge.metrics.registry import METRICS

    found = []
    for registry in [*registries(), METRICS]:
        for name in registry.added():
            try:
                registry.get(name, registry.kind)
            except PluginError as error:
                found.append(str(error))
    return found

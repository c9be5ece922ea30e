"""Loading a stored model on a backend, without torch if possible. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.generation.compiled import as_loaded_model, read_compiled, store_compiled
from caloforge.generation.plan import LoadedModel, Plan
from caloforge.models.store import StoredModel

if TYPE_CHECKING:
    from caloforge.models.base import ShowerModel


def open_model(model: ShowerModel | StoredModel, plan: Plan) -> LoadedModel:
    """Load a model on a backend.

    A stored model needs no torch if a checked compiled model of it is in the cache folder.

    Raises:
        ConfigError, MissingDependencyError: The plan cannot be executed on this machine.
        ModelError: The model is damaged, cannot run on the backend, or generates other showers there than
            with torch.
    """
    plan.check()
    if isinstance(model, StoredModel) and plan.backend == "numba" and model.compilable:
        compiled = read_compiled(model)
        if compiled is None:
            from caloforge.generation.engine import compile_and_check

            compiled = compile_and_check(model.load())
            store_compiled(model, compiled)
        return as_loaded_model(compiled, model, plan)
    from caloforge.generation.engine import load_on_backend

    return load_on_backend(model.load() if isinstance(model, StoredModel) else model, plan)

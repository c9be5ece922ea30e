"""Automatic choice of backend and precision: Numba, a stored measurement or a new one."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from caloforge.errors import CaloforgeError, ConfigError, nearest
from caloforge.files import cache_folder, write_text
from caloforge.generation.compiled import is_compiled, is_stored
from caloforge.generation.opening import open_model
from caloforge.generation.plan import CUDA_BATCH, Plan, packages_of
from caloforge.generation.runtimes import BACKENDS, BUILT_IN, Precision
from caloforge.models.store import StoredModel
from caloforge.provenance import cpu, digest_json, package_version

if TYPE_CHECKING:
    from caloforge.models.base import ShowerModel

PrecisionWish = Literal["auto", "fp32", "bf16", "int8"]
Say = Callable[[str], None]
# jobs shorter than this many seconds with torch are not worth compiling or measuring
MIN_SECONDS = 10.0
# lower precision must be faster by this factor, which exceeds the noise of a measurement
MIN_GAIN = 1.1
VERSIONS = ("caloforge", "torch", "onnxruntime", "openvino")


def choices_file() -> Path:
    """File with the stored choices; may be deleted at any time."""
    return cache_folder() / "backends.json"


def all_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def plan_for(
    model: ShowerModel | StoredModel,
    count: int,
    *,
    backend: str = "auto",
    precision: PrecisionWish = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    say: Say = lambda _: None,
) -> Plan:
    """Choose how to run a model, for every argument that is "auto" or None.

    Backend "auto" takes Numba if the family has a compiled form that is already compiled or worth compiling;
    otherwise the installed backend that was measured to be fastest for this model and machine. The precision
    is fp32 unless the model card states that its physics was checked for another one. A measurement takes
    seconds, is done once, and only if the job is long enough; shorter jobs run on torch.

    Args:
        model: The model.
        count: Number of showers to generate.
        backend: "auto", or a name of `BACKENDS`.
        precision: Precision, or "auto".
        batch_size: Showers per pass; by default the fastest.
        threads: Number of threads; by default one per core.
        device: "cpu", or a GPU, with torch only.
        say: Called with messages about steps that take time.

    Raises:
        ConfigError, MissingDependencyError: The arguments cannot be satisfied on this machine.
    """
    threads = all_cores() if threads is None else threads
    fixed = Plan(
        backend="torch" if backend == "auto" else backend,
        precision="fp32" if precision == "auto" else precision,
        batch_size=1 if batch_size is None else batch_size,
        threads=threads,
        device=device,
    )
    if backend == "auto":
        able = [name for name, entry in BUILT_IN.items() if fixed.precision in entry.precisions]
        if not able:
            raise ConfigError(
                f"precision: got {precision!r}. {nearest(str(precision), ('auto', *get_args(Precision)))}"
            )
        fixed = replace(fixed, backend=able[0])
    fixed.check()
    if device != "cpu":
        return replace(fixed, batch_size=batch_size or CUDA_BATCH)
    found = None
    if backend == "auto" and fixed.precision == "fp32" and model.compilable:
        found = _numba_plan(model, fixed, count, say)
    if found is None and "auto" in (backend, precision) and backend != "numba":
        plans = candidates(_loaded(model), fixed, backend, precision)
        found = _fastest_measured(_loaded(model), plans, count, say)
    found = found or replace(fixed, batch_size=BACKENDS.get(fixed.backend, "backend").batch)
    return replace(found, batch_size=batch_size or found.batch_size)


def _numba_plan(model: ShowerModel | StoredModel, plan: Plan, count: int, say: Say) -> Plan | None:
    """Plan for Numba; None if torch would finish before it is compiled, or it cannot be compiled."""
    found = replace(plan, backend="numba", batch_size=BUILT_IN["numba"].batch)
    if isinstance(model, StoredModel) and is_stored(model):
        return found
    if not is_compiled(model.family):
        if _seconds_with_torch(_loaded(model), plan) * count < MIN_SECONDS * plan.threads:
            return None
        say("compiling machine code for this processor, about 15 s, once on this machine")
    try:
        open_model(model, found)
    except CaloforgeError as error:
        say(f"{error}; choosing something else")
        return None
    return found


def _seconds_with_torch(model: ShowerModel, plan: Plan) -> float:
    from caloforge.generation.backend_benchmark import seconds_with_torch
    from caloforge.models.parity import sample_inputs

    torch_plan = replace(plan, backend="torch", precision="fp32")
    return seconds_with_torch(model, torch_plan, sample_inputs(model), (2,))[2]


def _loaded(model: ShowerModel | StoredModel) -> ShowerModel:
    return model.load() if isinstance(model, StoredModel) else model


def candidates(model: ShowerModel, plan: Plan, backend: str, precision: PrecisionWish) -> list[Plan]:
    """Plans to measure: installed backends with the allowed precisions."""
    allowed = model.facts.precisions if precision == "auto" else (plan.precision,)
    plans = [
        replace(plan, backend=name, precision=supported)
        for name, entry in BACKENDS.usable().items()
        for supported in entry.precisions
        if backend in ("auto", name)
        and name != "numba"
        and (name == "torch" or model.exportable)
        and supported in allowed
        # bf16 in torch is hundreds of times slower than fp32 on processors without support for it
        and (name, supported) != ("torch", "bf16")
    ]
    return [plan for plan in plans if all(find_spec(package) for package in packages_of(plan))]


def _fastest_measured(model: ShowerModel, plans: list[Plan], count: int, say: Say) -> Plan | None:
    """The fastest plan, stored or measured now; None if the job is too short or no plan works."""
    if len(plans) < 2:
        return None
    key = _key(model, plans)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return _stored_plan(plans, _read()[key["digest"]]["choice"])
    if _seconds_with_torch(model, plans[0]) * count < MIN_SECONDS * plans[0].threads:
        return None
    from caloforge.generation.backend_benchmark import measure_plans

    seconds = measure_plans(model, plans, say)
    if not seconds:
        return None
    best = fastest(seconds)
    _store_choice(key, seconds, best)
    return best


def fastest(seconds: dict[Plan, float]) -> Plan:
    """The fastest plan; fp32 unless a lower precision is faster by `MIN_GAIN`."""
    ranked = sorted(seconds, key=seconds.__getitem__)
    exact = [plan for plan in ranked if plan.precision == "fp32"]
    if exact and seconds[exact[0]] < MIN_GAIN * seconds[ranked[0]]:
        return exact[0]
    return ranked[0]


def _key(model: ShowerModel, plans: list[Plan]) -> dict[str, Any]:
    from caloforge.generation.engine import state_digest

    name, flags = cpu()
    facts = {
        "model": state_digest(model),
        "cpu": name,
        "flags": digest_json(sorted(flags))[:16],
        "threads": plans[0].threads,
        "versions": {package: package_version(package) for package in VERSIONS} | BACKENDS.added(),
        "among": sorted(f"{plan.backend} {plan.precision}" for plan in plans),
    }
    return {"digest": digest_json(facts)[:16], **facts}


def _stored_plan(plans: list[Plan], known: dict[str, Any]) -> Plan:
    (plan,) = [p for p in plans if (p.backend, p.precision) == (known["backend"], known["precision"])]
    return replace(plan, batch_size=max(1, int(known["batch_size"])))


def _read() -> dict[str, Any]:
    try:
        document = json.loads(choices_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _store_choice(key: dict[str, Any], seconds: dict[Plan, float], best: Plan) -> None:
    entry = {
        **key,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "ms_per_shower": {
            f"{plan.backend} {plan.precision} batch {plan.batch_size}": round(1e3 * value, 4)
            for plan, value in seconds.items()
        },
        "choice": asdict(best),
    }
    # if the cache cannot be written, the next run measures again
    with contextlib.suppress(CaloforgeError, OSError):
        choices_file().parent.mkdir(parents=True, exist_ok=True)
        write_text(choices_file(), json.dumps({**_read(), key["digest"]: entry}, indent=1))

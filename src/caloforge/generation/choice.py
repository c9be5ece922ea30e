"""Choosing a backend by measurement, once for a model on a machine, and remembering it."""

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
from typing import Any, Literal, cast, get_args

from caloforge.errors import CaloforgeError, ConfigError, nearest
from caloforge.export.graph import condition_of, sample_inputs
from caloforge.files import cache_folder, write_text
from caloforge.generation.conditions import Columns
from caloforge.generation.network import (
    BATCH,
    CUDA_BATCH,
    Plan,
    graph_of,
    open_network,
    packages_of,
    state_digest,
)
from caloforge.generation.runtimes import PRECISIONS, Arrays, Backend, Precision
from caloforge.generation.trial import measure, try_runtime
from caloforge.models.base import ShowerModel
from caloforge.provenance import cpu, digest_json, package_version

BackendWish = Literal["auto", "torch", "numba", "onnx", "openvino"]
PrecisionWish = Literal["auto", "fp32", "bf16", "int8"]
# seconds of work with torch from which the measurement, about ten seconds, is worth it
WORTH = 10.0
# backends that neither hang nor crash, and are measured in this process
HERE = ("torch", "numba")
# batch sizes that are tried
BATCHES = (1, 8, 32)
# a larger gain than the noise of a measurement, or the exact arithmetic is kept
GAIN = 1.1
VERSIONS = ("caloforge", "torch", "numba", "onnxruntime", "openvino")


def choices_file() -> Path:
    """Where choices are remembered; may be deleted at any time."""
    return cache_folder() / "backends.json"


def all_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def plan_for(
    model: ShowerModel,
    count: int,
    *,
    backend: BackendWish = "auto",
    precision: PrecisionWish = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda _: None,
) -> Plan:
    """How to run a model, where the caller left it open.

    `auto` takes what was measured to be fastest, here and for this model, among what is installed. The
    arithmetic is fp32 unless the model's card says that its physics was checked for another one. Measuring
    happens once, and only where the work is worth it; shorter work runs on torch.

    Args:
        model: The model.
        count: Showers that are wanted.
        backend: What computes.
        precision: Arithmetic.
        batch_size: Showers in a pass; the default is what was fastest.
        threads: Cores; the default is all.
        device: "cpu" or a GPU, which torch alone knows.
        say: Told what takes time.

    Raises:
        ConfigError, MissingDependencyError: What is asked for cannot be done here.
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
        able = [name for name, known in PRECISIONS.items() if fixed.precision in known]
        if not able:
            raise ConfigError(
                f"precision: got {precision!r}. {nearest(str(precision), ('auto', *get_args(Precision)))}"
            )
        fixed = replace(fixed, backend=cast(Backend, able[0]))
    fixed.check()
    default = CUDA_BATCH if device != "cpu" else BATCH[fixed.backend]
    if device == "cpu" and "auto" in (backend, precision):
        plans = candidates(model, fixed, backend, precision)
        found = _measured(model, plans, count, say)
        if found is not None:
            return replace(found, batch_size=batch_size or found.batch_size)
    return replace(fixed, batch_size=batch_size or default)


def candidates(model: ShowerModel, plan: Plan, backend: BackendWish, precision: PrecisionWish) -> list[Plan]:
    """What may be chosen among: installed, and of an arithmetic that is allowed."""
    allowed = model.facts.precisions if precision == "auto" else (plan.precision,)
    plans = [
        replace(plan, backend=cast(Backend, name), precision=arithmetic)
        for name, known in PRECISIONS.items()
        for arithmetic in known
        if backend in ("auto", name)
        and _able(model, name)
        and arithmetic in allowed
        # in bf16 torch is hundreds of times slower than in fp32 on processors that do not have it
        and (name, arithmetic) != ("torch", "bf16")
    ]
    return [plan for plan in plans if all(find_spec(package) for package in packages_of(plan))]


def _able(model: ShowerModel, backend: str) -> bool:
    """Whether a model has the form that a backend runs."""
    if backend == "numba":
        return model.compilable
    return backend == "torch" or model.exportable


def _measured(model: ShowerModel, plans: list[Plan], count: int, say: Callable[[str], None]) -> Plan | None:
    """The fastest plan, remembered or measured now; None where that is not worth it, or nothing works."""
    if len(plans) < 2:
        return None
    key = _key(model, plans)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return _matching(plans, _read()[key["digest"]]["choice"])
    inputs = sample_inputs(model)
    torch_plan = replace(plans[0], backend="torch", precision="fp32")
    reference = _seconds_here(model, torch_plan, inputs, (2,))[2]
    if reference * count < WORTH * torch_plan.threads:
        return None
    say("measuring which backend is fastest for this model; the answer is remembered")
    seconds = measure_plans(model, plans, inputs)
    if not seconds:
        return None
    best = fastest(seconds)
    _remember(key, seconds, best)
    return best


def measure_plans(model: ShowerModel, plans: list[Plan], inputs: Arrays) -> dict[Plan, float]:
    """CPU seconds for a shower of every plan that works, at each batch size."""
    seconds: dict[Plan, float] = {}
    for plan in plans:
        try:
            found = _seconds_of(model, plan, inputs)
        except CaloforgeError:
            continue
        seconds |= {replace(plan, batch_size=batch): value for batch, value in found.items()}
    # what makes other showers is no choice, however fast
    ranked = sorted(seconds, key=seconds.__getitem__)
    broken = {plan.backend + plan.precision for plan in _best_of_each(ranked) if not _right(model, plan)}
    return {plan: value for plan, value in seconds.items() if plan.backend + plan.precision not in broken}


def _seconds_of(model: ShowerModel, plan: Plan, inputs: Arrays) -> dict[int, float]:
    if plan.backend in HERE:
        return _seconds_here(model, plan, inputs, BATCHES)
    job = {
        "backend": plan.backend,
        "graph": str(graph_of(model, plan.precision)),
        "precision": plan.precision,
        "threads": plan.threads,
        "cache": str(cache_folder() / "openvino"),
        "batches": BATCHES,
    }
    return try_runtime(job, inputs)


def _best_of_each(ranked: list[Plan]) -> list[Plan]:
    return list({plan.backend + plan.precision: plan for plan in reversed(ranked)}.values())


def _right(model: ShowerModel, plan: Plan) -> bool:
    if plan.backend in HERE:
        # compared with torch before it was measured
        return True
    try:
        open_network(model, plan)
    except CaloforgeError:
        return False
    return True


def fastest(seconds: dict[Plan, float]) -> Plan:
    """The plan with the shortest time; exact arithmetic where the other is not clearly faster."""
    ranked = sorted(seconds, key=seconds.__getitem__)
    exact = [plan for plan in ranked if plan.precision == "fp32"]
    if exact and seconds[exact[0]] < GAIN * seconds[ranked[0]]:
        return exact[0]
    return ranked[0]


def _seconds_here(
    model: ShowerModel, plan: Plan, inputs: Arrays, batches: tuple[int, ...]
) -> dict[int, float]:
    """Of what runs in this process."""
    generate = open_network(model, plan).worker()

    def run(arrays: Arrays) -> Any:
        given = condition_of(model, arrays)
        columns = Columns(*(getattr(given, name).numpy() for name in ("energy", "theta", "phi", "pdg_id")))
        noise: Any = arrays["noise"]
        return generate(columns, lambda start, stop: noise[start:stop])

    # the first pass prepares memory and kernels
    run({name: value[:1] for name, value in inputs.items()})
    return {batch: measure(run, inputs, batch, plan.threads) for batch in batches}


def _key(model: ShowerModel, plans: list[Plan]) -> dict[str, Any]:
    name, flags = cpu()
    facts = {
        "model": state_digest(model),
        "cpu": name,
        "flags": digest_json(sorted(flags))[:16],
        "threads": plans[0].threads,
        "versions": {package: package_version(package) for package in VERSIONS},
        "among": sorted(f"{plan.backend} {plan.precision}" for plan in plans),
    }
    return {"digest": digest_json(facts)[:16], **facts}


def _matching(plans: list[Plan], known: dict[str, Any]) -> Plan:
    (plan,) = [p for p in plans if (p.backend, p.precision) == (known["backend"], known["precision"])]
    return replace(plan, batch_size=max(1, int(known["batch_size"])))


def _read() -> dict[str, Any]:
    try:
        document = json.loads(choices_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _remember(key: dict[str, Any], seconds: dict[Plan, float], best: Plan) -> None:
    entry = {
        **key,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "ms_per_shower": {
            f"{plan.backend} {plan.precision} batch {plan.batch_size}": round(1e3 * value, 4)
            for plan, value in seconds.items()
        },
        "choice": asdict(best),
    }
    # a cache that cannot be written costs the next run a measurement, nothing else
    with contextlib.suppress(CaloforgeError, OSError):
        choices_file().parent.mkdir(parents=True, exist_ok=True)
        write_text(choices_file(), json.dumps({**_read(), key["digest"]: entry}, indent=1))

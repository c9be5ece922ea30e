"""`caloforge check`: finds the errors of a run before hours are spent on it."""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from caloforge.beam import ANGLE_SLACK, BeamConfig
from caloforge.commands.options import FilePath, Showers
from caloforge.commands.outcome import Outcome
from caloforge.errors import CaloforgeError, DataError
from caloforge.geometry import CartesianMesh
from caloforge.geometry.containment import largest_share_beside_mesh
from caloforge.number_format import duration, percent, size
from caloforge.run import RunConfig, load_run
from caloforge.units import format_angle

# compressed bytes over raw bytes of an electromagnetic shower file, rounded up
FILE_COMPRESSION = 0.25
# of the energy of inclined showers that may lie beside the mesh without a warning
LARGEST_SHARE = 0.05


def check(
    run: str,
    *,
    data: FilePath | None = None,
    n: Annotated[Showers, Parameter(name=["-n", "--n"])] = 10_000,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
) -> Outcome:
    """Check a run before spending time on it.

    Args:
        run: A run.yaml, or the name of a recipe.
        data: The shower file to train on; without it the training step uses random showers.
        n: Number of showers that will be simulated: for the estimates, and to train on without `--data`.
        set_: Change a setting of the run: KEY=VALUE, repeatable.
    """
    config = load_run(run, set_ or [])
    data = None if data is None else Path(data)
    steps: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("configuration", lambda: {"text": f"run '{config.name}', every setting is known"}),
        ("detector", lambda: _detector(config)),
    ]
    # an imported detector without materials can be trained on, but not simulated
    if config.detector.layers or data is None:
        steps.append(("full simulation", lambda: _fullsim(config, n)))
    if data is not None:
        steps.append(("data", lambda: _data(config, data)))
    steps.append(("training step", lambda: _training(config, data, n)))
    results: dict[str, Any] = {}
    lines, failed = [], []
    for number, (name, action) in enumerate(steps, 1):
        try:
            facts = action()
        except CaloforgeError as error:
            facts = {"text": str(error), "error": type(error).__name__}
            failed.append(name)
        mark = "FAILED" if "error" in facts else "ok"
        lines.append(f"{number}. {name:<16} {mark:<7} {facts['text']}")
        results[name] = facts
    if not failed and (expected := _expected(config, results.get("data", {}).get("n", n))):
        lines.append(expected["text"])
        results["expected"] = expected
    from caloforge.validation.conditions import MIN_SHOWERS

    if n < MIN_SHOWERS:
        lines.append(f"note: {n} showers are too few to validate with, which takes {MIN_SHOWERS} and more")
    lines.append(f"{len(failed)} of {len(steps)} checks failed" if failed else "ready to run")
    return Outcome("\n".join(lines), exit_code=2 if failed else 0, failed=failed, steps=results)


def _detector(config: RunConfig) -> dict[str, Any]:
    detector = config.detector
    if not detector.layers:
        text = f"{detector.name}: showers {detector.shower_shape}, a mesh without material (not simulated)"
        return {"text": text, "shape": list(detector.shower_shape)}
    facts = {
        "shape": list(detector.shower_shape),
        "radiation_lengths": round(detector.radiation_lengths, 2),
        "moliere_radius_mm": round(detector.moliere_radius, 2),
    }
    text = (
        f"{detector.name}: showers {detector.shower_shape}, {facts['radiation_lengths']} X0 deep, "
        f"mesh {detector.mesh.half_extent() / detector.moliere_radius:.1f} Molière radii wide on each side"
    )
    if isinstance(detector.mesh, CartesianMesh) and _inclined(config.beam):
        share, theta, phi = largest_share_beside_mesh(
            detector, config.beam.theta_range, config.beam.phi_range, config.beam.energy_range[1]
        )
        facts["beside_mesh"] = share
        warning = "warning: " if share > LARGEST_SHARE else ""
        text += (
            f"; {warning}about {percent(share)} of the energy is lost beside it at theta "
            f"{format_angle(theta)}, phi {format_angle(phi)}"
        )
        if share > LARGEST_SHARE:
            text += "; take more cells, or smaller angles"
    return {"text": text, **facts}


def _inclined(beam: BeamConfig) -> bool:
    angles = (*(theta - math.pi / 2 for theta in beam.theta_range), *beam.phi_range)
    return max(map(abs, angles)) > ANGLE_SLACK


def _fullsim(config: RunConfig, n: int) -> dict[str, Any]:
    from caloforge.fullsim.campaign import preflight
    from caloforge.validation.conditions import MIN_SHOWERS

    per_shower = preflight(config.detector, config.beam, config.fullsim)
    n_bytes = int(n * 4 * int(np.prod(config.detector.shower_shape)) * FILE_COMPRESSION)
    cores = len(os.sched_getaffinity(0))
    text = (
        f"Geant4 starts; about {duration(per_shower)} a shower, so {n} showers take about "
        f"{duration(n * per_shower / cores)} on {cores} cores and {size(n_bytes)}"
    )
    if n < MIN_SHOWERS:
        text += f"; note: {n} showers cannot be validated, which takes {MIN_SHOWERS} or more"
    return {"text": text, "seconds_per_shower": per_shower, "file_bytes": n_bytes}


def _data(config: RunConfig, data: Path) -> dict[str, Any]:
    from caloforge.showers import ShowerFile
    from caloforge.showers.response_check import ResponseCheck

    with ShowerFile(data) as file:
        if file.detector.geometry_digest != config.detector.geometry_digest:
            raise DataError(
                f"{data}: made in {file.detector.name} {file.detector.shower_shape}, the run describes "
                f"{config.detector.name} {config.detector.shower_shape}"
            )
        energy, meaning = file.column("incident_energy"), file.energy_meaning
        particles = sorted({int(code) for code in file.column("pdg_id")})
        first = ResponseCheck(data, file.detector, file.energy_meaning)
        first.add(file.read(0, 200))
    text = (
        f"{len(energy)} showers, {energy.min() / 1e3:.4g} to {energy.max() / 1e3:.4g} GeV, "
        f"particles {particles}, response {percent(first.response, 3)} ({meaning})"
    )
    return {"text": text, "n": len(energy), "response": first.response, "particles": particles}


def _training(config: RunConfig, data: Path | None, n: int) -> dict[str, Any]:
    from caloforge.showers import ShowerFile
    from caloforge.training.data_split import check_count
    from caloforge.training.preflight import try_step

    start = time.perf_counter()
    if data is not None:
        with ShowerFile(data) as file:
            n = len(file)
    check_count(n, config.training, origin=f"-n {n}" if data is None else str(data))
    trial = try_step(config.model, config.training, config.detector, config.beam, data, seed=config.seed)
    text = (
        f"{trial.parameters} parameters; forward and backward of a batch of {config.training.batch_size} in "
        f"{duration(trial.seconds)} ({trial.precision}), about {size(trial.memory_bytes)} of memory, "
        f"{size(trial.checkpoint_bytes)} a checkpoint"
    )
    return {"text": text, "seconds_per_step": trial.seconds, "checked_in": time.perf_counter() - start}


def _expected(config: RunConfig, n: int) -> dict[str, Any]:
    """What a training on n showers gives, by the curves that come with caloforge; empty without any."""
    from caloforge.models.registry import family_name
    from caloforge.timing.resources.curves import curves_for, expectation
    from caloforge.training.data_split import check_count

    nearest = curves_for(config.detector, config.beam.pdg_id, family_name(config.model))
    found = None if nearest is None else expectation(nearest[0], n)
    if nearest is None or found is None:
        return {}
    (document, same), trees, training = nearest, found.trees, config.training
    batches = max(1, check_count(n, training) // training.batch_size)
    steps = min(training.max_steps or math.inf, training.epochs * batches) if found.steps else 1
    seconds = found.step_seconds * steps
    identity = document["identity"]
    text = (
        f"expected of {n} showers: boosted trees {trees.mean:.2f} ± {trees.error:.2f} (0.5: as Geant4), "
        f"{found.how} with {identity['beam']['particle']} in {identity['detector']}"
        + (f" after {found.steps:.0f} steps (this run has {steps:.0f})" if found.steps else "")
        + f"; the training takes about {duration(seconds)} of CPU time there ({document['machine']['cpu']})"
    )
    if not same:
        text += f"; {config.detector.name} may differ: caloforge benchmark resources measures it"
    return {"text": text, "trees": trees.mean, "spread": trees.error, "how": found.how, "same_detector": same}

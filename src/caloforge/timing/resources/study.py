"""A study of resources: one training for each number of showers, settings and seed, each judged alike.

Every finished training is a row in `points/` of the output folder. So a study that was killed goes on where
it was, and one that is finished takes further numbers of showers, seeds or settings.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge import provenance
from caloforge.beam import BeamConfig
from caloforge.conditions import Conditions
from caloforge.errors import CaloforgeError, ConfigError, DataError, Interrupted, OutputError
from caloforge.files import check_writable, write_text, writing
from caloforge.fullsim.config import FullSimConfig
from caloforge.geometry import Detector
from caloforge.models.registry import ModelConfig, family_name
from caloforge.models.training_metadata import TrainedRange, facts_of_beam
from caloforge.showers import ShowerFile
from caloforge.showers.file_pattern import pattern_name
from caloforge.timing.machine import machine
from caloforge.timing.resources.judgement import read_showers
from caloforge.timing.resources.point import Point, measure_point
from caloforge.timing.resources.simulation import simulation_time
from caloforge.training.config import TrainingConfig
from caloforge.training.data_split import min_showers
from caloforge.validation.conditions import MIN_SHOWERS
from caloforge.validation.observed_sample import Sample, check_unseen

FORMAT, FORMAT_VERSION = "caloforge-resources", 1
STUDY, POINTS, LOCK = "study.json", "points", "lock"

Report = Callable[[int, int, str], object]


@dataclass(frozen=True)
class Plan:
    """Settings of a study.

    Attributes:
        name: Name of the run.
        detector: Its detector.
        beam: Its beam.
        fullsim: Its full simulation, which is timed.
        model: Its model section.
        training: Its training section.
        data: Shower file to train on, or several as a pattern.
        truth: Shower file that judges.
        showers: Numbers of showers to train on.
        seeds: Number of trainings of each, with other showers and weights.
        settings: What was changed in the run, KEY=VALUE.
        cnn: Also train the CNN that judges every cell.
        timed: Geant4 showers whose time is measured; 0 for none.
    """

    name: str
    detector: Detector
    beam: BeamConfig
    fullsim: FullSimConfig
    model: ModelConfig
    training: TrainingConfig
    data: Path
    truth: Path
    showers: tuple[int, ...]
    seeds: int = 3
    settings: tuple[str, ...] = ()
    cnn: bool = False
    timed: int = 20

    def points(self) -> list[Point]:
        """Every training; all numbers of showers with the first seed, then with the next."""
        sections = [self.model.model_dump(mode="json"), self.training.model_dump(mode="json")]
        digest = hashlib.sha256(json.dumps([sections, self.cnn], sort_keys=True).encode()).hexdigest()[:8]
        counts = sorted(set(self.showers))
        return [
            Point(count, seed, digest, timed=count == counts[-1] and seed == 0)
            for seed in range(self.seeds)
            for count in counts
        ]


def check_plan(plan: Plan) -> None:
    """Check everything that can be checked before a shower is trained on.

    Raises:
        DataError: Files of another detector, too few showers in one, or showers that are in both.
        ConfigError: Too few or too many showers asked for, or a truth outside the range of the run.
    """
    for path in (plan.data, plan.truth):
        with ShowerFile(path) as file:
            count = len(file)
            if file.detector.geometry_digest != plan.detector.geometry_digest:
                raise DataError(
                    f"{path}: its detector is {file.detector.name} {file.detector.shower_shape}, the run "
                    f"describes {plan.detector.name} {plan.detector.shower_shape}; give the run of these "
                    "showers"
                )
            if path is plan.truth:
                claim = facts_of_beam(plan.beam, plan.detector.mesh, plan.training.range).claim
                _check_range(claim, Conditions.of(file), path)
                if count < MIN_SHOWERS:
                    raise DataError(f"{path}: {count} showers are too few to judge with; take {MIN_SHOWERS}")
            elif count < max(plan.showers):
                raise DataError(
                    f"{path}: holds {count} showers, --showers asks for {max(plan.showers)}; ask for "
                    "fewer, or simulate more"
                )
    if min(plan.showers) < (fewest := min_showers(plan.training)):
        raise ConfigError(f"--showers {min(plan.showers)}: too few to train on; expected at least {fewest}")


def _check_range(claim: TrainedRange, conditions: Conditions, path: Path) -> None:
    try:
        claim.check(conditions)
    except ConfigError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: {reason}; judge with showers of the beam of the run") from None


def run_study(plan: Plan, out: Path, *, resume: bool, report: Report = lambda *_: None) -> dict[str, Any]:
    """Train, generate and judge every point; returns the document of resources.json.

    Args:
        plan: Settings of the study.
        out: Folder of the study, locked while it runs.
        resume: Whether a study in it goes on.
        report: Called with (points done, all points, what is being done).

    Raises:
        DataError, ConfigError: See `check_plan`; or another study is in the folder.
        OutputError: The folder is in use, holds something else, or cannot be written.
        TrainingError: A training failed.
        Interrupted: SIGINT or SIGTERM came; finished trainings are kept.
    """
    check_plan(plan)
    with _study_folder(out, resume=resume):
        report(0, 1, "reading showers")
        truth = read_showers(plan.truth, "truth")
        check_unseen(truth, read_showers(plan.data, "training"))
        study = _open_study(plan, truth, out)
        points = plan.points()
        for done, point in enumerate(points):
            row = out / POINTS / f"{point.name}.json"
            if row.is_file():
                continue

            def tell(what: str, done: int = done, point: Point = point) -> None:
                report(done, len(points), f"{point.showers} showers, seed {point.seed}: {what}")

            folder = row.with_suffix("")
            shutil.rmtree(folder, ignore_errors=True)
            with writing(folder):
                folder.mkdir(parents=True)
            try:
                found = measure_point(plan, point, truth, folder, tell)
            except Interrupted as error:
                hint = "the same command with --resume"
                raise Interrupted(f"stopped; finished trainings are in {out}. Continue: {hint}") from error
            write_text(row, json.dumps({"settings": list(plan.settings), **found}, indent=1))
            shutil.rmtree(folder)
        report(len(points), len(points), "")
        return _document(plan, study, out)


@contextlib.contextmanager
def _study_folder(out: Path, *, resume: bool) -> Iterator[None]:
    """Create and lock the folder of a study."""
    if out.exists():
        if not (out / STUDY).is_file() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out} exists already and holds no study of resources; choose another name")
        if not resume and (out / STUDY).is_file():
            raise OutputError(
                f"{out} holds a study already; --resume to go on with it, or choose another name"
            )
    check_writable(out)
    with writing(out):
        (out / POINTS).mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{out}: another process works on this study now") from error
        yield


def _open_study(plan: Plan, truth: Sample, out: Path) -> dict[str, Any]:
    """What all points share: read, or measured and written where the study is new."""
    identity = {
        "detector": plan.detector.name,
        "geometry": plan.detector.geometry_digest,
        "beam": plan.beam.model_dump(mode="json"),
        "family": family_name(plan.model),
        "data": _file_facts(plan.data),
        "truth": _file_facts(plan.truth),
    }
    path, command = out / STUDY, provenance.command_line()
    if path.is_file():
        study: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        changed = list(provenance.differences(study["identity"], identity))
        if changed:
            raise ConfigError(
                f"{out}: this study was begun with another configuration: {changed[0]}; its points cannot be "
                "compared with new ones: undo the change, or choose another -o"
            )
        if command not in study["commands"]:
            study["commands"].append(command)
            write_text(path, json.dumps(study, indent=1))
        return study
    seconds = None
    if plan.timed and plan.detector.layers:
        # a machine without Geant4 can still train
        with contextlib.suppress(CaloforgeError):
            seconds = simulation_time(plan.detector, plan.beam, plan.fullsim, plan.timed)
    study = {
        "run": plan.name,
        "shape": list(plan.detector.shower_shape),
        "pdg_id": plan.beam.pdg_id,
        "energy": [float(truth.conditions.energy.min()), float(truth.conditions.energy.max())],
        "machine": machine(),
        "identity": identity,
        "geant4_cpu_seconds": seconds,
        "commands": [command],
    }
    write_text(path, json.dumps(study, indent=1))
    return study


def _file_facts(path: Path) -> dict[str, Any]:
    with ShowerFile(path) as file:
        energy = file.column("incident_energy")
    return {
        "file": pattern_name(path),
        "showers": len(energy),
        "digest": hashlib.sha256(energy.tobytes()).hexdigest()[:16],
    }


def _document(plan: Plan, study: dict[str, Any], out: Path) -> dict[str, Any]:
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / POINTS).glob("*.json"))]
    rows.sort(key=lambda row: (row["settings"], row["showers"], row["seed"]))
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **provenance.collect(),
        **study,
        "mesh": plan.detector.mesh.kind,
        "points": rows,
    }

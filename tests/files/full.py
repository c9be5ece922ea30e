"""Verbs on a full disk, for test_full_disks.py: `python full.py HOW SOURCE FOLDER`.

HOW is "prepare", which makes what the verbs read; then "limit" (of the size of files) or "disk", the small
file system that FOLDER is. Prints a line of JSON for each try.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from toy import DETECTOR, MODEL, make_showers

from caloforge.cli import main
from caloforge.geometry import load_detector
from caloforge.showers import ShowerWriter

FAMILIES = {
    "gan3d": MODEL,
    "layered": {"family": "layered", "preset": "debug", "likelihood_steps": 4, "matching_steps": 4},
    "frozen": {"family": "frozen", "preset": "debug"},
}


def prepare(folder):
    """Everything that the verbs read, for a group."""
    os.umask(0o027)
    (folder / "toy.yaml").write_text(json.dumps(DETECTOR))
    for name, count in (("train.h5", 120), ("truth.h5", 100)):
        with ShowerWriter(folder / name, load_detector(DETECTOR), {}) as writer:
            writer.append(make_showers(count))
    for family, model in FAMILIES.items():
        document = {
            "name": "toy",
            "detector": DETECTOR,
            "beam": {"energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}},
            "model": model,
            "training": {
                "batch_size": 12,
                "precision": "fp32",
                "threads": 1,
                "epochs": 1,
                "evaluation": {"share": 0.2, "showers": 24},
            },
        }
        (folder / f"{family}.yaml").write_text(json.dumps(document))
        train = ["train", folder / f"{family}.yaml", "--data", folder / "train.h5"]
        assert run([*train, "-o", folder / f"run-{family}"]) == (0, "")
    assert run(["convert", folder / "truth.h5", "--to", "3dgan", "-o", folder / "foreign.h5"])[0] == 0


def tries(folder):
    """(name, limits in KB, command)."""
    simulate = ["simulate", folder / "gan3d.yaml", "-n", "4", "-o", "out.h5"]
    yield "simulate", (1, 4), simulate
    for family in FAMILIES:
        train = ["train", folder / f"{family}.yaml", "--data", folder / "train.h5", "-o", "out"]
        yield f"train {family}", (1, 8), train
        generate = ["generate", folder / f"run-{family}", "--like", folder / "truth.h5", "-o", "out.h5"]
        yield f"generate {family}", (16,), [*generate, "--backend", "torch"]
    yield "generate by machine code", (16,), ["generate", folder / "run-layered", *generate[2:]]
    yield "convert", (8, 64), ["convert", folder / "truth.h5", "--to", "3dgan", "-o", "out.h5"]
    source = ["import", folder / "foreign.h5", "--format", "3dgan", "--detector", folder / "toy.yaml"]
    yield "import", (16,), [*source, "-o", "out.h5"]
    yield "join", (16,), ["join", folder / "train.h5", folder / "truth.h5", "-o", "out.h5"]
    yield "inspect", (4,), ["inspect", "clic-ecal-25", "-o", "out"]
    yield "init", (0,), ["init", "demo", "-o", "out.yaml"]
    report = ["validate", folder / "truth.h5", folder / "train.h5", "-o", "out", "--no-classifier"]
    yield "validate", (64,), [*report, "--workers", "1"]


def run(arguments):
    """Exit code, and what came on standard error."""
    arguments = [str(word) for word in arguments]
    if arguments[0] not in ("inspect", "init"):
        arguments.append("--no-progress")
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    return code, errors.getvalue()


@contextlib.contextmanager
def limit_of_files(kilobytes, _folder):
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def full_disk(kilobytes, folder):
    """Leave so much room."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - 1024 * kilobytes)))
    try:
        yield
    finally:
        ballast.unlink()


def everything(how, source, folder):
    room = limit_of_files if how == "limit" else full_disk
    place = folder / "place"
    place.mkdir()
    os.chdir(place)
    for name, limits, command in tries(source):
        for kilobytes in limits:
            with room(kilobytes, folder):
                code, errors = run(command)
            left = sorted(path.name for path in place.iterdir())
            found = {"name": name, "room": kilobytes, "code": code, "errors": errors, "left": left}
            if name.split()[0] in ("simulate", "train"):
                found["resumed"] = run([*command, "--resume"])
            print(json.dumps(found), file=sys.__stdout__, flush=True)
            for path in place.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    warnings.simplefilter("error")
    how, source, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if how == "prepare":
        prepare(source)
    else:
        everything(how, source, folder)

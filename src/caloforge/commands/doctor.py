"""`caloforge doctor`."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from caloforge._version import __version__
from caloforge.commands.outcome import Outcome
from caloforge.commands.registries import broken
from caloforge.provenance import CPU_FLAGS, cpu, package_version

# required distributions, and the verbs that cannot run without them
REQUIRED = {
    "numpy": "every verb",
    "h5py": "every verb",
    "pydantic": "every verb",
    "torch": "train, generate, check, demo",
    "accelerate": "train, demo",
    "safetensors": "train, generate, demo",
    "scikit-learn": "validate, demo",
    "numba": "generate, demo",
    "matplotlib": "validate, inspect, demo",
    "geant4-pybind": "simulate, check, demo",
    "xraydb": "simulate, check, demo",
}
# optional distributions: (extra that installs it, purpose)
OPTIONAL = {
    "tensorboard": ("track", "train with the tensorboard tracker"),
    "mlflow": ("track", "train with the mlflow tracker"),
    "onnx": ("onnx", "generate on onnx and openvino"),
    "onnxscript": ("onnx", "generate on onnx and openvino"),
    "onnxruntime": ("onnx", "generate on onnx, and in int8"),
    "openvino": ("onnx", "generate on openvino"),
    "qonnx": ("fpga", "export --target qonnx"),
    "pyhepmc": ("events", "simulate-events of HepMC files"),
    "uproot": ("events", "simulate-events of EDM4hep files, and into ROOT files"),
    "ray": ("tune", "tune"),
    "optuna": ("tune", "tune"),
    "plotly": ("tune", "tune"),
    "cmaes": ("tune", "tune with cma-es"),
}
GEANT4_TIMEOUT = 60


def doctor() -> Outcome:
    """Show versions, the hardware, whether Geant4 starts, and missing dependencies by verb."""
    packages = {name: package_version(name) for name in REQUIRED}
    optional = {name: package_version(name) for name in OPTIONAL}
    machine = _machine()
    geant4 = _geant4()
    missing = [
        f"{name} is missing ({verbs} cannot run): pip install --force-reinstall caloforge"
        for name, verbs in REQUIRED.items()
        if packages[name] is None
    ]
    missing += [
        f"{name} is not installed ({purpose}): pip install 'caloforge[{extra}]'"
        for name, (extra, purpose) in OPTIONAL.items()
        if optional[name] is None
    ]
    missing += broken()
    if "error" in geant4:
        missing.append(f"simulate cannot run: {geant4['error']}")
    facts: dict[str, Any] = {
        "caloforge": __version__,
        "python": platform.python_version(),
        "packages": packages | optional,
        "machine": machine,
        "geant4": geant4,
        "missing": missing,
    }
    return Outcome(_text(facts), **facts)


def _machine() -> dict[str, Any]:
    model, flags = cpu()
    threads, gpus = _torch()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": model,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": threads,
        "gpus": gpus,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
    }


def _torch() -> tuple[int | None, list[str]]:
    """Number of threads of torch, and its GPUs; (None, []) where torch is missing or broken."""
    try:
        import torch
    except (ImportError, OSError):
        return None, []
    return torch.get_num_threads(), [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _geant4() -> dict[str, Any]:
    """Start Geant4 in a child process, since a broken installation could crash this one."""
    code = """
import sys
from caloforge.errors import CaloforgeError
from caloforge.fullsim.geant4_import import load_geant4
try:
    load_geant4()
except CaloforgeError as error:
    sys.exit(str(error))
"""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, fixed arguments
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=GEANT4_TIMEOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"Geant4 did not start within {GEANT4_TIMEOUT} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"Geant4 does not start: {last}"}
    return {"starts": True, "geant4-pybind": package_version("geant4-pybind")}


def _text(facts: dict[str, Any]) -> str:
    machine, geant4 = facts["machine"], facts["geant4"]
    lines = [
        f"caloforge {facts['caloforge']}, Python {facts['python']}",
        f"{machine['cpu']} ({', '.join(machine['cpu_flags']) or 'no vector flags known'}), "
        f"{machine['cores']} cores, {machine['memory_gb']} GB memory, {machine['disk_free_gb']} GB disk free",
        f"GPUs: {', '.join(machine['gpus']) or 'none'}",
        f"Geant4: {'starts' if geant4.get('starts') else geant4['error']}",
        *(f"  {name:<14} {version or 'not installed'}" for name, version in facts["packages"].items()),
    ]
    lines += (
        ["missing:", *(f"  {entry}" for entry in facts["missing"])]
        if facts["missing"]
        else ["nothing is missing"]
    )
    return "\n".join(lines)

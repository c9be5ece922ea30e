"""The machine that figures are measured on, and its quietest core."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from caloforge.provenance import CPU_FLAGS, cpu, package_version

PACKAGES = ("torch", "numba", "onnxruntime", "openvino", "geant4-pybind", "numpy", "h5py")
# how long the cores are watched before one is chosen, s
WATCH = 0.3


def machine() -> dict[str, Any]:
    """CPU, the flags that matter, cores, memory, load and versions; JSON-compatible."""
    model, flags = cpu()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": model,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
    }


def quietest_core() -> int:
    """The core, of those this process may use, that idled most just now."""
    allowed = os.sched_getaffinity(0)
    before = _idle()
    time.sleep(WATCH)
    after = _idle()
    return max(sorted(allowed), key=lambda core: after.get(core, 0) - before.get(core, 0))


def _idle() -> dict[int, int]:
    """Idle time of each core so far, in ticks of the kernel; empty where it does not tell."""
    path = Path("/proc/stat")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    cores = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    return {int(fields[0][3:]): int(fields[4]) for fields in cores}

"""Description of the machine of a benchmark, and its least busy core."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from caloforge.provenance import CPU_FLAGS, cpu, package_version

PACKAGES = ("torch", "numba", "onnxruntime", "openvino", "geant4-pybind", "numpy", "h5py")
# seconds over which the idle time of the cores is measured
IDLE_SECONDS = 0.3


def machine() -> dict[str, Any]:
    """CPU with its vector flags, cores, memory, load and package versions; JSON-compatible."""
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
    """The least busy of the cores that this process may use."""
    allowed = os.sched_getaffinity(0)
    before = _idle()
    time.sleep(IDLE_SECONDS)
    after = _idle()
    return max(sorted(allowed), key=lambda core: after.get(core, 0) - before.get(core, 0))


def _idle() -> dict[int, int]:
    """Idle time of each core in kernel ticks; empty without /proc/stat."""
    path = Path("/proc/stat")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    cores = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    return {int(fields[0][3:]): int(fields[4]) for fields in cores}

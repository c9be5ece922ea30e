"""Provenance of an output: versions, command, seed and digests, stored in everything caloforge writes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caloforge._version import __version__

# instruction sets on which the speed of a precision depends
CPU_FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "sve",
)


def package_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu() -> tuple[str, set[str]]:
    """Model name and flags of the CPU, from /proc/cpuinfo; "unknown" and none where there is no such file."""
    model, flags = platform.processor() or "unknown", set[str]()
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
            elif key.strip() == "model name":
                model = value.strip()
    return model, flags


def command_line() -> str:
    """The command line of this process, the program without its path."""
    if not sys.argv:
        return ""
    program = Path(sys.argv[0])
    # python -m caloforge
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def collect(*, packages: tuple[str, ...] = (), **facts: Any) -> dict[str, Any]:
    """The provenance of an output made by this process: what is needed to reproduce it.

    Args:
        packages: Distributions whose versions matter for the result.
        facts: Further entries (engine, seed, physics list, ...); must be JSON-compatible.
    """
    return {
        "caloforge": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: package_version(name) for name in packages},
        **facts,
    }


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON-compatible value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """The differences between two JSON documents, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{path}.{index}")
    elif old != new:
        yield f"{path}: {_short(old)} then, {_short(new)} now"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."

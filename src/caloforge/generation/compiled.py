"""Cache of compiled models, which were checked against torch on this machine. Imports no torch.

Each is stored in the cache folder as safetensors, by a digest of everything that determines the machine code
(processor, versions, sources) and by the model. It was compared with torch before it was written.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from caloforge.errors import CaloforgeError
from caloforge.files import cache_folder, write_bytes
from caloforge.generation.plan import LoadedModel, Plan
from caloforge.models.compiled_model import CompiledModel
from caloforge.models.registry import FAMILIES, compiled_class_of
from caloforge.models.store import StoredModel
from caloforge.provenance import cpu, digest_json, package_version

if TYPE_CHECKING:
    from caloforge.models.base import ShowerModel

CHECKSUM = "crc32"


def code_folder(family: str) -> Path:
    """Folder of the compiled models of a family, for this processor and these versions."""
    name, flags = cpu()
    sources = _sources(family)
    key = {
        "cpu": name,
        # Numba keeps its machine code beside the sources, or in a folder of its own
        "location": [str(sources[0].parent.resolve()), os.environ.get("NUMBA_CACHE_DIR")],
        "flags": sorted(flags),
        "versions": {package: package_version(package) for package in ("caloforge", "numba", "llvmlite")},
        "sources": [zlib.crc32(path.read_bytes()) for path in sources],
    }
    return cache_folder() / "compiled" / f"{family}-{digest_json(key)[:16]}"


def _sources(family: str) -> list[Path]:
    """Source files of a family: those of its package, or the single file of a module outside a package."""
    config = FAMILIES.get(family, "family").config
    file = Path(inspect.getfile(config))
    package = inspect.getmodule(config).__package__  # type: ignore[union-attr]
    return sorted(file.parent.rglob("*.py")) if package else [file]


def is_compiled(family: str) -> bool:
    """Whether the machine code of a family was compiled on this machine before."""
    return any(code_folder(family).glob("*.safetensors"))


def read_compiled(model: StoredModel) -> CompiledModel | None:
    """Read the compiled model; None if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    kind = compiled_class_of(model.config)
    try:
        with safe_open(_path(model), framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            stored = (file.metadata() or {}).get(CHECKSUM)
        if stored != _checksum(arrays):
            return None
        return kind.from_arrays(arrays, model.detector, model.facts)
    except (OSError, SafetensorError, KeyError):
        return None


def is_stored(model: StoredModel) -> bool:
    """Whether there is a compiled model on disk, which may be damaged."""
    return _path(model).is_file()


def store_compiled(model: StoredModel, compiled: CompiledModel) -> None:
    """Write a compiled model; if that fails, the next process compiles it again."""
    from safetensors.numpy import save

    arrays, path = compiled.arrays(), _path(model)
    data = save(arrays, {CHECKSUM: _checksum(arrays)})
    with contextlib.suppress(CaloforgeError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # not save_file: its error on a full disk is not an OSError
        write_bytes(path, data)


def _path(model: StoredModel) -> Path:
    return code_folder(model.family) / f"{model.digest[:16]}.safetensors"


def _checksum(arrays: dict[str, NDArray[Any]]) -> str:
    # compiled loops do not check bounds, so damaged arrays must be detected before
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].tobytes(), total)
    return str(total)


def as_loaded_model(compiled: CompiledModel, model: StoredModel | ShowerModel, plan: Plan) -> LoadedModel:
    """Wrap a compiled model as a loaded model."""
    return LoadedModel(plan, model.detector, model.energy_meaning, compiled.noise_shape, lambda: compiled)

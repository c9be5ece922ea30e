"""`ShowerBatch`: showers and their incident conditions, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import MissingDependencyError
from caloforge.geometry import Detector
from caloforge.geometry.mesh import IMPACT
from caloforge.units import format_energy, format_length

Floats = NDArray[np.float32]
# arrays of a batch with one entry per shower
COLUMNS = (
    "showers",
    "incident_energy",
    "incident_theta",
    "incident_phi",
    "pdg_id",
    "seconds",
    *IMPACT,
)


@dataclass(frozen=True)
class Hits:
    """The hits (voxels with energy) of N showers as flat lists, shower after shower.

    Attributes:
        count: (N,) hits of each shower.
        index: (hits, axes) voxel index: layer, row, column, or one number for ragged meshes.
        energy: (hits,) MeV.
    """

    count: NDArray[np.int64]
    index: NDArray[np.int64]
    energy: Floats


@dataclass
class ShowerBatch:
    """N showers. All arrays share their first axis.

    Attributes:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels); energy per voxel, MeV.
        incident_energy: (N,) kinetic energy, MeV.
        incident_theta: (N,) rad; pi/2 is orthogonal incidence.
        incident_phi: (N,) rad.
        pdg_id: (N,) PDG number of the incident particle.
        seconds: (N,) wall time per shower, or None where it was not measured.
        detector: Their detector, or None where it is not known; figures need it.
        impact_x: (N,) where the track crosses the front of the detector's layer `axis_layer`, from the axis
            of the mesh, mm; 0 by default.
        impact_y: (N,) the same along y.
    """

    showers: Floats
    incident_energy: Floats
    incident_theta: Floats
    incident_phi: Floats
    pdg_id: NDArray[np.int32]
    seconds: Floats | None = None
    detector: Detector | None = None
    impact_x: Floats = None  # type: ignore[assignment]  # zeros, see __post_init__
    impact_y: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in IMPACT:
            if getattr(self, name) is None:
                setattr(self, name, np.zeros(len(self.showers), np.float32))
        for name in ("showers", "incident_energy", "incident_theta", "incident_phi", *IMPACT):
            setattr(self, name, np.asarray(getattr(self, name), np.float32))
        self.pdg_id = np.asarray(self.pdg_id, np.int32)
        if self.seconds is not None:
            self.seconds = np.asarray(self.seconds, np.float32)
        for name in COLUMNS:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.showers):
                raise ValueError(f"{name}: got {len(value)} entries for {len(self.showers)} showers")

    def __len__(self) -> int:
        return len(self.showers)

    def __getitem__(self, index: int | slice | NDArray[np.integer] | NDArray[np.bool_]) -> ShowerBatch:
        """Select showers by index, slice or array; an integer gives a batch of one."""
        rows = slice_of_one(index, len(self)) if isinstance(index, int | np.integer) else index
        values: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[rows] for name in COLUMNS
        }
        return ShowerBatch(**values, detector=self.detector)

    def __repr__(self) -> str:
        return f"<ShowerBatch: {', '.join(self._facts().values())}>"

    def _repr_html_(self) -> str:
        return html_table("ShowerBatch", self._facts())

    def _facts(self) -> dict[str, str]:
        facts = {"showers": f"{len(self)} of {' x '.join(map(str, self.showers.shape[1:]))} voxels"}
        if len(self):
            facts["energy"] = range_text(self.incident_energy, format_energy)
            facts["particle"] = "PDG " + ", ".join(map(str, np.unique(self.pdg_id)))
            facts |= impact_facts(self.impact_x, self.impact_y)
        if self.detector is not None:
            facts["detector"] = self.detector.name
        return facts

    @classmethod
    def concatenate(cls, batches: Sequence[ShowerBatch]) -> ShowerBatch:
        """Join batches; `seconds` is kept where all have it, `detector` where it is the same in all."""
        arrays: dict[str, Any] = {}
        for name in COLUMNS:
            values = [getattr(batch, name) for batch in batches]
            arrays[name] = None if any(v is None for v in values) else np.concatenate(values)
        detectors = [batch.detector for batch in batches]
        same = all(detector is detectors[0] or detector == detectors[0] for detector in detectors)
        return cls(**arrays, detector=detectors[0] if same else None)

    def visible_energy(self) -> Floats:
        """(N,) sum over the voxels, MeV."""
        total: Floats = self.showers.reshape(len(self), -1).sum(axis=1, dtype=np.float64).astype(np.float32)
        return total

    def hits(self, threshold: float = 0.0) -> Hits:
        """The voxels above a threshold in MeV, as flat lists.

        `awkward.unflatten(hits.energy, hits.count)` makes a ragged array of them; see `to_awkward`.
        """
        found = np.nonzero(self.showers > threshold)
        count = np.bincount(found[0], minlength=len(self))
        return Hits(count, np.stack(found[1:], axis=1), self.showers[found])

    def to_awkward(self, threshold: float = 0.0) -> Any:
        """An Awkward Array of N records: the conditions, and ragged lists of hits.

        Each hit has `energy` in MeV and a voxel index: `layer`, `row`, `column` (`layer`, `sector`, `ring` in
        a cylindrical mesh are the same numbers), or `voxel` for ragged meshes.

        Args:
            threshold: Voxels above it are hits, MeV.

        Raises:
            MissingDependencyError: Awkward Array is not installed.
        """
        try:
            import awkward as ak
        except ImportError as error:
            raise MissingDependencyError("to_awkward: awkward not installed: pip install awkward") from error
        hits = self.hits(threshold)
        axes = ("layer", "row", "column") if self.showers.ndim == 4 else ("voxel",)
        record = ak.zip({"energy": hits.energy, **dict(zip(axes, hits.index.T, strict=True))})
        columns = {name: getattr(self, name) for name in COLUMNS[1:] if name != "seconds"}
        return ak.zip({**columns, "hits": ak.unflatten(record, hits.count)}, depth_limit=1)


def slice_of_one(index: int | np.integer[Any], count: int) -> slice:
    """The slice of one shower; a negative index counts from the end.

    Raises:
        IndexError: There is no such shower.
    """
    if not -count <= index < count:
        raise IndexError(f"shower {index} was asked for, there are {count} (0 to {count - 1})")
    start = int(index) % count
    return slice(start, start + 1)


def range_text(values: NDArray[Any], text: Callable[[float], str]) -> str:
    """Text of the lowest and highest value, or of the only one."""
    ends = (float(f"{end:.4g}") for end in (values.min(), values.max()))
    return " to ".join(dict.fromkeys(text(end) for end in ends))


def impact_facts(x: NDArray[Any], y: NDArray[Any]) -> dict[str, str]:
    """Text of the range of impact points by name; empty where all lie on the axis."""
    if not (np.any(x) or np.any(y)):
        return {}
    ends = (range_text(values, format_length) for values in (x, y))
    return {"impact": "x {}, y {}".format(*ends)}


def html_table(title: str, facts: dict[str, str]) -> str:
    """An HTML table of facts, for notebooks."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table><caption style='text-align:left'>{escape(title)}</caption>{rows}</table>"

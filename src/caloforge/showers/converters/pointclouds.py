"""Import and export of the point clouds of `showerdata` (AllShowers).

`showers` (N,), each a flat float32 row of points (x, y, layer, energy) or (x, y, layer, energy, time) in mm
and GeV; `energies` (N, 1) GeV; `directions` (N, 3), unit vectors with z the depth; `pdg` (N,); and, for
readers that want arrays, `num_points` (N,), `shower_ids` (N,) and `shape` (N, most points, 4 or 5). Showers
with impact points are written with `impact_x` and `impact_y` (N,) in mm, which showerdata does not read.

At export every voxel with energy becomes a point at its centre; at import points are binned into the voxels
of a detector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError, DataError
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, RaggedMesh
from caloforge.showers.batch import Floats, ShowerBatch
from caloforge.showers.converters.common import (
    INT32,
    ForeignFile,
    Progress,
    Source,
    pdg_number,
    read_impacts,
    write_impacts,
)
from caloforge.showers.file import ShowerFile
from caloforge.showers.hdf5_writer import new_hdf5
from caloforge.showers.response_check import ResponseCheck

FORMAT_NAME = "showerdata"
MEV_PER_GEV = 1000.0
# version of showerdata whose layout is written
LAYOUT_VERSION = "0.7.0"
COLUMNS = ("x", "y", "layer", "energy")
# allowed deviation of a layer number from an integer, since models write it as a real number
LAYER_TOLERANCE = 0.05
# largest fraction of the energy outside the mesh; above it the detector is considered wrong
MAX_OUTSIDE_FRACTION = 0.5


@dataclass(frozen=True)
class _Sample:
    """The checked contents of a file without its points; columns are (N,), MeV, rad and mm.

    `width`: numbers per point.
    """

    path: Path
    width: int
    energy: Floats
    theta: Floats
    phi: Floats
    pdg_id: NDArray[np.int32]
    impacts: dict[str, Any]


def open_pointclouds(paths: Sequence[Path], detector: Detector | None, particle: str | None) -> Source:
    """Open files of showerdata.

    Args:
        paths: Files of one detector, appended in order.
        detector: Detector whose voxels the points are binned into.
        particle: Incident particle; by default what the files say.

    Raises:
        DataError: Files of another layout, or points outside of the detector.
        ConfigError: No detector, one of a ragged mesh, or an unknown particle.
    """
    if detector is None:
        raise ConfigError(
            "--format showerdata: points need voxels to be put into; give --detector, a preset or a YAML file"
        )
    if isinstance(detector.mesh, RaggedMesh):
        raise ConfigError(
            f"--detector: the mesh of {detector.name} is ragged, points need a cartesian or a cylindrical one"
        )
    pdg_id = pdg_number(particle) if particle else None
    samples = [_read_header(Path(path), pdg_id) for path in paths]
    return Source(
        detector=detector,
        energy_meaning="visible",
        total=sum(len(sample.energy) for sample in samples),
        facts={
            "files": [{"name": sample.path.name, "showers": len(sample.energy)} for sample in samples],
        },
        batches=_batches(samples, detector),
    )


def _read_header(path: Path, pdg_id: int | None) -> _Sample:
    with ForeignFile(path, FORMAT_NAME) as file:
        if not file.has("showers", "energies", "directions") or not file.numbers("showers").lengths:
            raise DataError(
                f"{path}: not a showerdata file: found {file.found()}; expected showers (N,) of rows of "
                "different "
                "lengths, energies (N, 1), directions (N, 3) and pdg (N,)"
            )
        energy, directions = file.column("energies"), file.column("directions")
        count = file.numbers("showers").shape[0]
        if energy.size != count or directions.shape != (count, 3):
            raise DataError(f"{path}: the shapes do not fit each other: {file.found()}")
        theta, phi = _angles(path, directions)
        return _Sample(
            path,
            _width(file),
            file.energies(energy.ravel(), MEV_PER_GEV),
            theta,
            phi,
            _particles(file, count, pdg_id),
            read_impacts(file, count),
        )


def _width(file: ForeignFile) -> int:
    """Numbers per point: 4 or 5."""
    shape = file.column("shape") if file.has("shape") else np.array([0, 0, 4])
    if shape.shape != (3,) or shape[2] not in (4, 5):
        raise DataError(f"{file.path}: shape is {shape.tolist()}, expected points of 4 or 5 numbers")
    return int(shape[2])


def _angles(path: Path, directions: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Theta from the y axis and phi from the depth axis of unit vectors, both (N,) rad."""
    length = np.linalg.norm(directions, axis=1)
    bad = ~((directions[:, 2] > 0) & (np.abs(length - 1) < 0.01))
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{path}: {bad.sum()} of {len(bad)} directions are none, first in number {first}: got "
            f"{directions[first].tolist()}, expected unit vectors with z, the depth, above 0"
        )
    theta = np.arccos(np.clip(directions[:, 1] / length, -1, 1))
    return theta.astype(np.float32), np.arctan2(directions[:, 0], directions[:, 2]).astype(np.float32)


def _particles(file: ForeignFile, count: int, pdg_id: int | None) -> NDArray[np.int32]:
    if pdg_id is not None:
        return np.full(count, pdg_id, np.int32)
    if not file.has("pdg"):
        raise ConfigError(f"{file.path}: which particle is this? The file does not say; give --particle")
    codes = file.column("pdg").ravel()
    if len(codes) != count or (np.abs(codes) > INT32).any() or (codes == 0).any():
        raise DataError(f"{file.path}: pdg holds no PDG numbers of {count} particles")
    return codes.astype(np.int32)


def _batches(samples: list[_Sample], detector: Detector) -> Iterator[ShowerBatch]:
    for sample in samples:
        check = ResponseCheck(sample.path, detector, "visible")
        with ForeignFile(sample.path, FORMAT_NAME) as file:
            stored = file.numbers("showers")
            outside = inside = 0.0
            for part in file.parts(stored, _rows(detector)):
                rows = file.read(stored, part.start, part.stop)
                showers = np.zeros((len(rows), *detector.shower_shape), np.float32)
                for number, row in enumerate(rows, part.start):
                    lost = _bin_points(showers[number - part.start], row, sample, number, detector)
                    outside += lost
                inside += float(showers.sum(dtype=np.float64))
                if outside > MAX_OUTSIDE_FRACTION * (inside + outside):
                    raise DataError(
                        f"{sample.path}: {outside / (inside + outside):.0%} of the energy lies outside the "
                        "mesh of "
                        f"{detector.name}; expected x and y in mm around the shower axis, and layers from 0 "
                        "to "
                        f"{detector.n_layers - 1}"
                    )
                batch = ShowerBatch(
                    showers,
                    sample.energy[part],
                    sample.theta[part],
                    sample.phi[part],
                    sample.pdg_id[part],
                    **{name: values[part] for name, values in sample.impacts.items()},
                )
                check.add(batch)
                yield batch


def _rows(detector: Detector) -> int:
    """Number of showers of a block of 64 MB."""
    return max(1, 2**24 // int(np.prod(detector.shower_shape)))


def _bin_points(
    shower: Floats, row: NDArray[np.float32], sample: _Sample, number: int, detector: Detector
) -> float:
    """Add the points of a shower to its voxels; returns the energy outside the mesh, MeV."""
    where = f"{sample.path}: shower {number}"
    if row.ndim != 1 or row.size % sample.width:
        raise DataError(f"{where} has {row.size} numbers, expected points of {sample.width}")
    # signalling NaNs warn when they are converted
    with np.errstate(invalid="ignore"):
        points = row.reshape(-1, sample.width)[:, :4].astype(np.float64)
    if not np.isfinite(points).all():
        raise DataError(f"{where} holds NaN or infinite values")
    x, y, depth, energy = points.T
    # points without energy are padding
    x, y, depth, energy = (values[energy != 0] for values in (x, y, depth, energy))
    layer = np.rint(depth)
    if (np.abs(depth - layer) > LAYER_TOLERANCE).any():
        raise DataError(
            f"{where}: the third number of a point is {depth[0]:g}, expected the number of a layer"
        )
    rows, columns = _cells(detector.mesh, x, y)
    nz, ny, nx = shower.shape
    good = (layer >= 0) & (layer < nz) & (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    index = tuple(values[good].astype(np.intp) for values in (layer, rows, columns))
    # overflows become infinite, and are refused
    with np.errstate(over="ignore"):
        np.add.at(shower, index, energy[good] * MEV_PER_GEV)
    return float(energy[~good].sum()) * MEV_PER_GEV


def _cells(mesh: Any, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Second and third voxel index of each point; out of range for points outside the mesh."""
    if isinstance(mesh, CartesianMesh):
        return np.floor(y / mesh.cell_y + mesh.ny / 2), np.floor(x / mesh.cell_x + mesh.nx / 2)
    sector = np.floor((np.arctan2(y, x) + np.pi) / (2 * np.pi) * mesh.nphi)
    # pi belongs to the last sector
    return np.minimum(sector, mesh.nphi - 1), np.floor(np.hypot(x, y) / mesh.cell_r)


def write_pointclouds(showers: ShowerFile, out: Path, *, force: bool, progress: Progress | None) -> None:
    """Write a shower file as the point clouds of showerdata.

    Args:
        showers: An open shower file.
        out: The file to write.
        force: Replace an existing file.
        progress: Called with (done, total).

    Raises:
        DataError: Showers that the layout cannot hold.
        OutputError: The file exists without `force`, or cannot be written.
    """
    mesh = showers.detector.mesh
    if not isinstance(mesh, CartesianMesh | CylindricalMesh):
        raise DataError(
            f"{showers.path}: points need a place in mm, which the layers of a ragged mesh have not; use "
            "--to "
            "calochallenge"
        )
    if showers.energy_meaning != "visible":
        raise DataError(
            f"{showers.path}: showerdata holds visible energy, these showers are {showers.energy_meaning}"
        )
    x, y = (values.astype(np.float32) for values in mesh.positions())
    total = len(showers)
    theta, phi = (showers.column(f"incident_{name}").astype(np.float64) for name in ("theta", "phi"))
    direction = [np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)]
    with new_hdf5(out, force=force) as output:
        file = output.file
        file.attrs["showerdata_version"] = LAYOUT_VERSION
        file["energies"] = showers.column("incident_energy")[:, None] / np.float32(MEV_PER_GEV)
        file["directions"] = np.stack(direction, axis=1).astype(np.float32)
        file["pdg"], file["shower_ids"] = showers.column("pdg_id"), np.arange(total, dtype=np.int32)
        write_impacts(file, showers)
        rows = file.create_dataset("showers", (total,), h5py.vlen_dtype(np.float32))
        counts = np.empty(total, np.int32)
        done = 0
        for batch in showers.iterate():
            for number, shower in enumerate(batch.showers, done):
                points = _points(shower, x, y, f"{showers.path}: shower {number}")
                counts[number] = len(points)
                rows[number] = points.reshape(-1)
            done += len(batch)
            output.check()
            if progress is not None:
                progress(done, total)
        file["num_points"] = counts
        file["shape"] = np.array([total, counts.max(), len(COLUMNS)], np.int32)


def _points(shower: Floats, x: Floats, y: Floats, where: str) -> Floats:
    """The points of a shower, (points, 4), ordered by layer."""
    if (shower < 0).any():
        raise DataError(f"{where} has voxels below zero, which showerdata refuses")
    layer, second, third = np.nonzero(shower)
    energy = shower[layer, second, third] / np.float32(MEV_PER_GEV)
    return np.stack([x[second, third], y[second, third], layer.astype(np.float32), energy], axis=1)

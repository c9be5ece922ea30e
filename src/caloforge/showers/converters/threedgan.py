"""Import and export of the two HDF5 layouts of CERN's 3DGAN samples.

In both, `ECAL` is (N, x, y, z) with z the depth, and the incidence lies in the y-z plane, theta measured from
the y axis: the frame of caloforge with phi = 0.

Fixed angle (`EleEscan_*.h5`): `ECAL` in GeV; `target` (N, 2) or (N, 1, 5), columns particle number and energy
in GeV; orthogonal incidence. Variable angle (`*scan_RandomAngle_*.h5`, `Ele_VarAngleMeas_*.h5`): `ECAL` in
50 x GeV; `energy` in GeV, `theta` in rad, `pdgID`. Showers with impact points are written with `impact_x` and
`impact_y` (N,) in mm, which the 3DGAN scripts do not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.geometry import CartesianMesh, Detector, load_detector
from caloforge.showers.batch import Floats, ShowerBatch
from caloforge.showers.converters.common import (
    ANGLE_TOLERANCE,
    ORTHOGONAL,
    PARTICLES,
    ForeignFile,
    Progress,
    Source,
    check_angles,
    check_no_azimuth,
    new_showers,
    pdg_number,
    read_impacts,
    write_impacts,
)
from caloforge.showers.file import ShowerFile
from caloforge.showers.hdf5_writer import new_hdf5
from caloforge.showers.response_check import ResponseCheck

MEV_PER_GEV = 1000.0
# MeV per unit of ECAL; the variable-angle samples hold 50 x GeV
FIXED_SCALE = MEV_PER_GEV
VARIABLE_SCALE = MEV_PER_GEV / 50
FILE_NAMES = {"Ele": 11, "Gamma": 22, "Pi0": 111, "ChPi": 211}
# detectors of the published samples by (nz, ny, nx)
DETECTORS = {(25, 25, 25): "clic-ecal-25", (25, 51, 51): "clic-ecal-51"}


@dataclass(frozen=True)
class _Sample:
    """The checked contents of a file without its showers.

    `shape` is (nz, ny, nx) and `scale` MeV per unit of ECAL; the columns are (N,), MeV, rad and mm.
    """

    path: Path
    layout: str
    shape: tuple[int, ...]
    scale: float
    energy: Floats
    theta: Floats
    pdg_id: NDArray[np.int32]
    impacts: dict[str, Any]


def open_3dgan(paths: Sequence[Path], detector: Detector | None, particle: str | None) -> Source:
    """Open 3DGAN files.

    Args:
        paths: Files of either layout, appended in order.
        detector: Detector of the showers; by default that of the published samples of this shape.
        particle: Incident particle; by default from the contents or the name of the file.

    Raises:
        DataError: A file of another layout, shape, unit or detector.
        ConfigError: An unknown particle.
    """
    pdg_id = pdg_number(particle) if particle else None
    samples = [_read_header(Path(path), pdg_id) for path in paths]
    shape = samples[0].shape
    if detector is None:
        if shape not in DETECTORS:
            nz, ny, nx = shape
            raise DataError(
                f"{samples[0].path}: got images of {nx} x {ny} x {nz} cells (x, y, z), expected 25 x 25 x 25 "
                "or 51 x 51 x 25; for a detector of your own give --detector"
            )
        detector = load_detector(DETECTORS[shape])
    for sample in samples:
        if sample.shape != detector.shower_shape or not isinstance(detector.mesh, CartesianMesh):
            raise DataError(
                f"{sample.path}: its showers are {sample.shape} (z, y, x), the detector {detector.name} has "
                f"{detector.shower_shape} ({detector.mesh.kind})"
            )
    files = [
        {"name": sample.path.name, "layout": sample.layout, "showers": len(sample.energy)}
        for sample in samples
    ]
    return Source(
        detector=detector,
        energy_meaning="visible",
        total=sum(len(sample.energy) for sample in samples),
        facts={"files": files},
        batches=_batches(samples, detector),
    )


def _read_header(path: Path, pdg_id: int | None) -> _Sample:
    with ForeignFile(path, "3DGAN") as file:
        angle = next((name for name in ("theta", "mtheta") if file.has(name)), None)
        if file.has("ECAL", "energy") and angle:
            layout, scale = f"variable angle ({angle})", VARIABLE_SCALE
            energy, theta = file.column("energy").ravel(), file.column(angle).ravel()
            stored = file.column("pdgID").ravel() if file.has("pdgID") else np.zeros(len(energy))
        elif file.has("ECAL", "target"):
            layout, scale = "fixed angle", FIXED_SCALE
            stored, energy = _target(file)
            theta = np.full(len(energy), ORTHOGONAL, np.float64)
        else:
            raise DataError(
                f"{path}: not a 3DGAN file: found {file.found()}; expected ECAL with target (fixed angle), "
                "or ECAL with energy and theta (variable angle)"
            )
        shape = file.numbers("ECAL").shape
        if len(shape) == 5 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 4 or not len(energy) == len(theta) == len(stored) == shape[0]:
            raise DataError(f"{path}: the shapes do not fit each other: {file.found()}")
        return _Sample(
            path,
            layout,
            shape[:0:-1],
            scale,
            file.energies(energy, MEV_PER_GEV),
            check_angles(path, theta),
            _particles(path, stored, pdg_id),
            read_impacts(file, len(energy)),
        )


def _target(file: ForeignFile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Particle numbers and energies in GeV from `target`."""
    target = file.column("target")
    if target.ndim == 3 and target.shape[1] == 1:
        target = target[:, 0]
    if target.ndim != 2 or target.shape[1] < 2:
        raise DataError(
            f"{file.path}: target has the shape {file.numbers('target').shape}, expected (N, 2) or (N, 1, "
            "5): "
            "particle number, energy in GeV"
        )
    return target[:, 0], target[:, 1]


def _particles(path: Path, stored: NDArray[np.float64], pdg_id: int | None) -> NDArray[np.int32]:
    """PDG numbers from the option, else from the column of the file, else from the name of the file."""
    if pdg_id is None and np.isin(stored, list(PARTICLES.values())).all():
        return stored.astype(np.int32)
    token = path.name.split("_")[0].split(".")[0].replace("Escan", "")
    pdg_id = FILE_NAMES.get(token) if pdg_id is None else pdg_id
    if pdg_id is None:
        raise DataError(
            f"{path}: which particle is this? The name of the file starts with none of "
            f"{', '.join(FILE_NAMES)}; give --particle, one of {', '.join(PARTICLES)}"
        )
    return np.full(len(stored), pdg_id, np.int32)


def _batches(samples: list[_Sample], detector: Detector) -> Iterator[ShowerBatch]:
    for sample in samples:
        check = ResponseCheck(sample.path, detector, "visible")
        with ForeignFile(sample.path, "3DGAN") as file:
            for part, block in file.blocks("ECAL", sample.scale):
                images = block.reshape(len(block), *sample.shape[::-1])
                batch = ShowerBatch(
                    showers=images.transpose(0, 3, 2, 1),
                    incident_energy=sample.energy[part],
                    incident_theta=sample.theta[part],
                    incident_phi=np.zeros(len(images), np.float32),
                    pdg_id=sample.pdg_id[part],
                    **{name: values[part] for name, values in sample.impacts.items()},
                )
                check.add(batch)
                yield batch


def write_3dgan(showers: ShowerFile, out: Path, *, force: bool, progress: Progress | None) -> None:
    """Write a shower file in the 3DGAN layout that can hold it.

    Variable angle where an incidence is not orthogonal or the window has 51 x 51 cells, else fixed angle.
    `mtheta` is not written: the 3DGAN scripts measure it in the images where it is absent.

    Args:
        showers: An open shower file.
        out: The file to write.
        force: Replace an existing file.
        progress: Called with (done, total).

    Raises:
        DataError: Showers that the layouts cannot hold.
        OutputError: The file exists without `force`, or cannot be written.
    """
    detector = showers.detector
    _check_expressible(showers)
    theta = showers.column("incident_theta")
    orthogonal = bool((np.abs(theta - ORTHOGONAL) < ANGLE_TOLERANCE).all())
    variable = not orthogonal or detector.shower_shape[1:] == (51, 51)
    scale = VARIABLE_SCALE if variable else FIXED_SCALE
    total = len(showers)
    # float64: the conversion from MeV to GeV and back is exact
    energy = showers.column("incident_energy").astype(np.float64) / MEV_PER_GEV
    pdg_id = showers.column("pdg_id")
    with new_hdf5(out, force=force) as output:
        file = output.file
        if variable:
            file["energy"], file["theta"], file["pdgID"] = energy, theta, pdg_id
            file["eta"] = -np.log(np.tan(theta.astype(np.float64) / 2))
        else:
            file["target"] = np.stack([pdg_id, energy], axis=1)
        write_impacts(file, showers)
        images = new_showers(file, "ECAL", (total, *detector.shower_shape[::-1]))
        done = 0
        for batch in showers.iterate():
            images[done : done + len(batch)] = batch.showers.transpose(0, 3, 2, 1) / np.float32(scale)
            done += len(batch)
            output.check()
            if progress is not None:
                progress(done, total)


def _check_expressible(showers: ShowerFile) -> None:
    mesh = showers.detector.mesh
    if not isinstance(mesh, CartesianMesh):
        raise DataError(
            f"{showers.path}: the 3DGAN layouts hold cartesian cells, this mesh is {mesh.kind}; "
            "use --to calochallenge"
        )
    if showers.energy_meaning != "visible":
        raise DataError(
            f"{showers.path}: the 3DGAN layouts hold visible energy, these showers are "
            f"{showers.energy_meaning}"
        )
    check_no_azimuth(showers, "3DGAN")

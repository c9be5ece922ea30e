"""Import and export of the HDF5 layout of Geant4's Par04 example, LEMURS and CaloDiT.

`showers` (N, r, phi, z) and `incident_energy` (N,), both MeV; `incident_theta` and `incident_phi` (N,), rad,
where they are written. The mesh lies around the direction of the particle, as a cylindrical mesh of
caloforge does: ring 0 at the axis, sector 0 from -pi, z the depth. Theta is measured from the beam axis,
which is the y axis of caloforge. A barrel is symmetric in the azimuth around the beam, so that `incident_phi`
is ignored.

Par04's own script writes visible energy, that of LEMURS divides it by the sampling fraction; the response
decides which it is (see `infer_energy_meaning`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from caloforge.errors import ConfigError, DataError
from caloforge.geometry import CylindricalMesh, Detector, load_detector
from caloforge.showers.batch import Floats, ShowerBatch
from caloforge.showers.converters.binning import dataset_detector, sampling_fraction_to_undo
from caloforge.showers.converters.common import (
    ORTHOGONAL,
    ForeignFile,
    Progress,
    Source,
    check_angles,
    check_no_azimuth,
    infer_energy_meaning,
    new_showers,
    pdg_number,
    single_particle,
    stored_particle,
)
from caloforge.showers.file import EnergyMeaning, ShowerFile
from caloforge.showers.hdf5_writer import new_hdf5
from caloforge.showers.response_check import ResponseCheck

FORMAT_NAME = "Par04"


@dataclass(frozen=True)
class _Sample:
    """The checked contents of a file without its showers; `shape` is (nz, nphi, nr).

    `meaning` and `pdg_id` are those of files that caloforge wrote, else None.
    """

    path: Path
    shape: tuple[int, ...]
    energy: Floats
    theta: Floats
    meaning: EnergyMeaning | None
    pdg_id: int | None


def open_par04(
    paths: Sequence[Path], detector: Detector | None, particle: str | None, *, visible: bool
) -> Source:
    """Open Par04 files.

    Args:
        paths: Files of one detector, appended in order.
        detector: Detector of the showers; by default the silicon-tungsten one of Par04 with this mesh.
        particle: Incident particle, which the files do not store.
        visible: Undo the sampling-fraction correction, where there is one.

    Raises:
        DataError: Files of another layout or shape.
        ConfigError: No or an unknown particle, or an unknown sampling fraction.
    """
    samples = [_read_header(Path(path)) for path in paths]
    first = samples[0]
    detector = detector or _usual_detector(first)
    for sample in samples:
        if sample.shape != detector.shower_shape or not isinstance(detector.mesh, CylindricalMesh):
            raise DataError(
                f"{sample.path}: its showers are {sample.shape} (z, phi, r), the detector {detector.name} "
                "has "
                f"{detector.shower_shape} ({detector.mesh.kind})"
            )
    pdg_id = _particle(first, particle)
    meaning = first.meaning or _recognise(first, detector, pdg_id)
    facts: dict[str, Any] = {
        "files": [{"name": sample.path.name, "showers": len(sample.energy)} for sample in samples]
    }
    scale = sampling_fraction_to_undo(detector, meaning != "visible", visible)
    if scale is not None:
        meaning, facts["sampling_fraction"] = "visible", scale
    return Source(
        detector=detector,
        energy_meaning=meaning,
        total=sum(len(sample.energy) for sample in samples),
        facts=facts,
        batches=_batches(samples, detector, meaning, scale or 1.0, pdg_id),
    )


def _read_header(path: Path) -> _Sample:
    with ForeignFile(path, FORMAT_NAME) as file:
        if not file.has("showers", "incident_energy"):
            raise DataError(
                f"{path}: not a Par04 file: found {file.found()}; expected showers (N, r, phi, z) and "
                "incident_energy (N,)"
            )
        energy = file.column("incident_energy").ravel()
        theta = np.full(len(energy), ORTHOGONAL, np.float64)
        if file.has("incident_theta"):
            theta = file.column("incident_theta").ravel()
        shape = file.numbers("showers").shape
        if len(shape) != 4 or not len(energy) == len(theta) == shape[0]:
            raise DataError(f"{path}: the shapes do not fit each other: {file.found()}")
        stored = file.attribute("energy_meaning")
        return _Sample(
            path,
            shape[:0:-1],
            file.energies(energy, 1.0),
            check_angles(path, theta),
            next((name for name in get_args(EnergyMeaning) if name == stored), None),
            stored_particle(file),
        )


def _usual_detector(sample: _Sample) -> Detector:
    usual = (load_detector("par04-siw"), dataset_detector("3")[0])
    for detector in usual:
        if detector.shower_shape == sample.shape:
            return detector
    shapes = " or ".join(str(detector.shower_shape) for detector in usual)
    raise DataError(
        f"{sample.path}: got showers of {sample.shape} cells (z, phi, r), expected {shapes}; for a detector "
        "of "
        "your own give --detector"
    )


def _particle(sample: _Sample, particle: str | None) -> int:
    if particle is not None:
        return pdg_number(particle)
    if sample.pdg_id is None:
        raise ConfigError(f"{sample.path}: which particle is this? The layout does not say; give --particle")
    return sample.pdg_id


def _recognise(sample: _Sample, detector: Detector, pdg_id: int) -> EnergyMeaning:
    with ForeignFile(sample.path, FORMAT_NAME) as file:
        pdg_ids = np.full(len(sample.energy), pdg_id, np.int32)
        return infer_energy_meaning(file, "showers", sample.energy, detector, pdg_ids)


def _batches(
    samples: list[_Sample], detector: Detector, meaning: EnergyMeaning, scale: float, pdg_id: int
) -> Iterator[ShowerBatch]:
    for sample in samples:
        check = ResponseCheck(sample.path, detector, meaning)
        with ForeignFile(sample.path, FORMAT_NAME) as file:
            for part, block in file.blocks("showers", scale):
                batch = ShowerBatch(
                    showers=block.transpose(0, 3, 2, 1),
                    incident_energy=sample.energy[part],
                    incident_theta=sample.theta[part],
                    incident_phi=np.zeros(len(block), np.float32),
                    pdg_id=np.full(len(block), pdg_id, np.int32),
                )
                check.add(batch)
                yield batch


def write_par04(showers: ShowerFile, out: Path, *, force: bool, progress: Progress | None) -> None:
    """Write a shower file in the Par04 layout; energies keep their meaning.

    The attributes `energy_meaning` and `pdg_id` of the new file are read back by `caloforge import`.

    Args:
        showers: An open shower file.
        out: The file to write.
        force: Replace an existing file.
        progress: Called with (done, total).

    Raises:
        DataError: Showers that the layout cannot hold.
        OutputError: The file exists without `force`, or cannot be written.
    """
    detector = showers.detector
    if not isinstance(detector.mesh, CylindricalMesh):
        raise DataError(
            f"{showers.path}: the Par04 layout holds rings and sectors that are alike in all layers, this "
            "mesh is "
            f"{detector.mesh.kind}"
        )
    check_no_azimuth(showers, FORMAT_NAME)
    pdg_id = single_particle(showers, FORMAT_NAME)
    total = len(showers)
    with new_hdf5(out, force=force) as output:
        file = output.file
        file.attrs["energy_meaning"], file.attrs["pdg_id"] = showers.energy_meaning, pdg_id
        for name in ("incident_energy", "incident_theta", "incident_phi"):
            file[name] = showers.column(name)
        cells = new_showers(file, "showers", (total, *detector.shower_shape[::-1]))
        done = 0
        for batch in showers.iterate():
            cells[done : done + len(batch)] = batch.showers.transpose(0, 3, 2, 1)
            done += len(batch)
            output.check()
            if progress is not None:
                progress(done, total)

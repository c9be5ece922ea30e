"""Import and export of the HDF5 layout of the CaloChallenge.

`incident_energies` (N, 1) and `showers` (N, n_voxels), both MeV; the voxels in the order layer, alpha, r with
r fastest; one kind of particle, orthogonal incidence. The energies of sets 2 and 3 are divided by the
sampling fraction 0.033 of the Par04 stack, those of set 1 are calibrated by ATLAS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from caloforge.errors import ConfigError, DataError
from caloforge.geometry import CartesianMesh, Detector
from caloforge.showers.batch import Floats, ShowerBatch
from caloforge.showers.converters.binning import (
    DATASETS,
    dataset_detector,
    known_sampling_fraction,
    read_binning,
    sampling_fraction_to_undo,
)
from caloforge.showers.converters.common import (
    ANGLE_TOLERANCE,
    ORTHOGONAL,
    ForeignFile,
    Progress,
    Source,
    infer_energy_meaning,
    new_showers,
    pdg_number,
    single_particle,
    stored_particle,
)
from caloforge.showers.file import EnergyMeaning, ShowerFile
from caloforge.showers.hdf5_writer import new_hdf5
from caloforge.showers.response_check import ResponseCheck

CORRECTED: EnergyMeaning = "sampling-fraction corrected"


@dataclass(frozen=True)
class _Sample:
    """The checked contents of a file without its showers. `meaning` and `pdg_id` may be None."""

    path: Path
    voxels: int
    energy: Floats
    meaning: EnergyMeaning | None
    pdg_id: int | None


def open_calochallenge(
    paths: Sequence[Path],
    detector: Detector | None,
    particle: str | None,
    *,
    dataset: str | None,
    binning: Path | None,
    visible: bool,
) -> Source:
    """Open CaloChallenge files.

    Args:
        paths: Files of one data set, appended in order.
        detector: Detector of the showers; by default that of the data set.
        particle: Incident particle; by default that of the file, the data set or the binning.
        dataset: A key of `DATASETS`; recognised by the number of voxels by default.
        binning: A binning XML, for other data than the challenge's.
        visible: Undo the sampling-fraction correction.

    Raises:
        DataError: Files of another layout or of another data set.
        ConfigError: Options that exclude each other, an unknown particle, or an unknown sampling fraction.
    """
    samples = [_read_header(Path(path)) for path in paths]
    detector, usual = _choose(samples[0], detector, dataset, binning)
    expected = math.prod(detector.shower_shape)
    for sample in samples:
        if sample.voxels != expected:
            raise DataError(
                f"{sample.path}: showers of {sample.voxels} voxels, but {detector.name} has {expected} "
                f"{detector.shower_shape}"
            )
        if (sample.meaning, sample.pdg_id) != (samples[0].meaning, samples[0].pdg_id):
            raise DataError(
                f"{sample.path}: of another particle or energy meaning than {samples[0].path.name}"
            )
    first = samples[0]
    pdg_id = _particle(first, particle, usual)
    meaning = first.meaning or _recognise(first, detector, pdg_id)
    facts: dict[str, Any] = {
        "files": [{"name": sample.path.name, "showers": len(sample.energy)} for sample in samples]
    }
    scale = sampling_fraction_to_undo(detector, meaning == CORRECTED, visible)
    if scale is not None:
        meaning, facts["sampling_fraction"] = "visible", scale
    return Source(
        detector=detector,
        energy_meaning=meaning,
        total=sum(len(sample.energy) for sample in samples),
        facts=facts,
        batches=_batches(samples, detector, meaning, scale or 1.0, pdg_id),
    )


def _recognise(sample: _Sample, detector: Detector, pdg_id: int) -> EnergyMeaning:
    with ForeignFile(sample.path, "CaloChallenge") as file:
        pdg_ids = np.full(len(sample.energy), pdg_id, np.int32)
        return infer_energy_meaning(file, "showers", sample.energy, detector, pdg_ids)


def _read_header(path: Path) -> _Sample:
    with ForeignFile(path, "CaloChallenge") as file:
        energy = file.column("incident_energies")
        shape = file.numbers("showers").shape
        if energy.shape not in ((shape[0], 1), (shape[0],)) or len(shape) != 2:
            raise DataError(
                f"{path}: not a CaloChallenge file: found {file.found()}; expected incident_energies "
                "(N, 1) and showers (N, voxels)"
            )
        return _Sample(
            path,
            shape[1],
            file.energies(energy.ravel(), 1.0),
            next(
                (name for name in get_args(EnergyMeaning) if name == file.attribute("energy_meaning")), None
            ),
            stored_particle(file),
        )


def _choose(
    sample: _Sample, detector: Detector | None, dataset: str | None, binning: Path | None
) -> tuple[Detector, int | None]:
    """The detector, and the particle of the data set or binning, if any."""
    options = {"--detector": detector, "--dataset": dataset, "--binning": binning}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} both say what the voxels are; give one of them")
    if detector is not None:
        return detector, None
    if binning is not None:
        return read_binning(Path(binning))
    if dataset is None:
        dataset = next((name for name, voxels in DATASETS.items() if voxels == sample.voxels), None)
    if dataset is None:
        known = ", ".join(f"{voxels} ({name})" for name, voxels in DATASETS.items())
        raise DataError(
            f"{sample.path}: showers of {sample.voxels} voxels, the data sets have {known}; for data "
            "of your own give --binning XML or --detector"
        )
    return dataset_detector(dataset)


def _particle(sample: _Sample, particle: str | None, usual: int | None) -> int:
    if particle is not None:
        return pdg_number(particle)
    pdg_id = usual if sample.pdg_id is None else sample.pdg_id
    if pdg_id is None:
        raise ConfigError(f"{sample.path}: which particle is this? Give --particle")
    return pdg_id


def _batches(
    samples: list[_Sample], detector: Detector, meaning: EnergyMeaning, scale: float, pdg_id: int
) -> Iterator[ShowerBatch]:
    for sample in samples:
        check = ResponseCheck(sample.path, detector, meaning)
        with ForeignFile(sample.path, "CaloChallenge") as file:
            for part, block in file.blocks("showers", scale):
                batch = ShowerBatch(
                    showers=block.reshape(len(block), *detector.shower_shape),
                    incident_energy=sample.energy[part],
                    incident_theta=np.full(len(block), ORTHOGONAL),
                    incident_phi=np.zeros(len(block), np.float32),
                    pdg_id=np.full(len(block), pdg_id, np.int32),
                )
                check.add(batch)
                yield batch


def write_calochallenge(showers: ShowerFile, out: Path, *, force: bool, progress: Progress | None) -> None:
    """Write a shower file in the CaloChallenge layout.

    Visible energy of the Par04 silicon-tungsten stack is divided by its sampling fraction, as in sets 2 and
    3. The attributes `energy_meaning`, `pdg_id` and `sampling_fraction` of the new file say what was done.

    Args:
        showers: An open shower file.
        out: The file to write.
        force: Replace an existing file.
        progress: Called with (done, total).

    Raises:
        DataError: Showers that the layout cannot hold.
        OutputError: The file exists without `force`, or cannot be written.
    """
    pdg_id = _check_expressible(showers)
    meaning, fraction = showers.energy_meaning, None
    if meaning == "visible":
        fraction = known_sampling_fraction(showers.detector)
        meaning = "visible" if fraction is None else CORRECTED
    total, voxels = len(showers), math.prod(showers.detector.shower_shape)
    with new_hdf5(out, force=force) as output:
        file = output.file
        file.attrs["energy_meaning"] = meaning
        file.attrs["pdg_id"] = pdg_id
        if fraction is not None:
            file.attrs["sampling_fraction"] = fraction
        file["incident_energies"] = showers.column("incident_energy")[:, None]
        flat = new_showers(file, "showers", (total, voxels))
        done = 0
        for batch in showers.iterate():
            flat[done : done + len(batch)] = batch.showers.reshape(len(batch), voxels) / np.float32(
                fraction or 1
            )
            done += len(batch)
            output.check()
            if progress is not None:
                progress(done, total)


def _check_expressible(showers: ShowerFile) -> int:
    """Check that the layout can hold the showers; returns their PDG number."""
    if isinstance(showers.detector.mesh, CartesianMesh):
        raise DataError(
            f"{showers.path}: the CaloChallenge layout holds rings and sectors, this mesh is cartesian; "
            "use --to 3dgan"
        )
    tilt = np.maximum(
        np.abs(showers.column("incident_theta") - ORTHOGONAL), np.abs(showers.column("incident_phi"))
    )
    if (tilt > ANGLE_TOLERANCE).any():
        raise DataError(
            f"{showers.path}: the CaloChallenge layout has no angles, shower {int(np.argmax(tilt))} is not "
            "orthogonal; expected theta = pi/2 and phi = 0 everywhere"
        )
    return single_particle(showers, "CaloChallenge")

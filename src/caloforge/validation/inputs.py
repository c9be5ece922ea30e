"""The shower files of a validation: compatibility checks, names, and measurement of the observables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.geometry import Detector
from caloforge.output import readable
from caloforge.showers import ShowerFile
from caloforge.showers.joined_provenance import engine_of
from caloforge.validation import compatibility as same
from caloforge.validation.conditions import Bin
from caloforge.validation.observed_sample import Sample, check_unseen, joined, read_sample

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Input:
    """A shower file of the validation.

    Attributes:
        path: The shower file.
        name: Its name in the report.
        conditions: Of all its showers.
        provenance: Where it came from.
        spectra: Compatibility of its incident spectrum with that of the truth.
        keep: (N,) mask of the showers used, or None for all.
    """

    path: Path
    name: str
    conditions: Conditions
    provenance: dict[str, Any]
    spectra: same.Spectra
    keep: NDArray[np.bool_] | None = None

    @property
    def taken(self) -> Conditions:
        """Conditions of the showers that are used."""
        return self.conditions if self.keep is None else self.conditions[self.keep]


@dataclass(frozen=True)
class Inputs:
    """The files of a validation, all of one detector.

    Attributes:
        detector: Their detector.
        energy_meaning: What their voxels hold; see `ShowerFile.energy_meaning`.
        files: The truth first, then the samples to judge.
        training: Files that the generators were trained on.
    """

    detector: Detector
    energy_meaning: str
    files: tuple[Input, ...]
    training: tuple[Input, ...] = ()

    def notes(self) -> list[str]:
        """Notes on the selection of showers."""
        return [
            f"{file.name}: its incident spectrum differs from the truth's; thinned to the truth's spectrum, "
            f"{int(file.keep.sum())} of {len(file.keep)} showers are used."
            for file in self.files
            if file.keep is not None
        ]


def admit(
    truth: Path | str,
    generated: Sequence[Path | str],
    *,
    second: Path | str | None = None,
    training: Sequence[Path | str] = (),
    reweight: bool = False,
    seed: int = 0,
) -> Inputs:
    """Open every file and check that they can be compared.

    Args:
        truth: Shower file of the full simulation.
        generated: Shower files to judge.
        second: Another shower file of the full simulation, which comes last.
        training: Shower files that the generators were trained on; their incident spectrum is free.
        reweight: Thin a sample whose incident spectrum differs, instead of refusing it.
        seed: Seed of the thinning.

    Raises:
        DataError: Another detector, mesh, energy meaning, particle or incident spectrum; too few showers.
    """
    extra = () if second is None else (second,)
    with ExitStack() as stack:
        files = [stack.enter_context(ShowerFile(path)) for path in (truth, *generated, *extra)]
        reference, first = Conditions.of(files[0]).double(), files[0]
        same.check_enough(first.path, len(first))
        admitted = []
        for file, name in zip(files, _names(files), strict=True):
            conditions = Conditions.of(file).double()
            same.check_same_detector(first, file)
            same.check_particles(first.path, reference, file.path, conditions)
            spectra = same.compare_spectra(reference, conditions)
            if not spectra.agree and not reweight:
                raise same.refuse_spectra(file.path, spectra)
            keep = None if spectra.agree else same.thin_to(reference, conditions, file.path, seed=seed)
            entry = Input(file.path, name, conditions, file.provenance, spectra, keep)
            same.check_enough(file.path, len(entry.taken))
            admitted.append(entry)
        known = tuple(_training_input(first, reference, path) for path in training)
        return Inputs(first.detector, first.energy_meaning, tuple(admitted), known)


def _training_input(truth: ShowerFile, reference: Conditions, path: Path | str) -> Input:
    with ShowerFile(path) as file:
        same.check_same_detector(truth, file)
        conditions = Conditions.of(file)
        spectra = same.compare_spectra(reference, conditions)
        return Input(file.path, readable(file.path.stem), conditions, file.provenance, spectra)


def _names(files: list[ShowerFile]) -> list[str]:
    """Geant4 for a full simulation by it, file stems otherwise; a number after names that come twice."""
    engine = engine_of(files[0].provenance)
    wanted = [
        "Geant4" if "geant4" in engine.lower() else "truth",
        *(readable(f.path.stem) for f in files[1:]),
    ]
    names: list[str] = []
    for name in wanted:
        count, unique = 2, name
        while unique in names:
            unique, count = f"{name} ({count})", count + 1
        names.append(unique)
    return names


def read_samples(
    inputs: Inputs, bins: Sequence[Bin], *, threshold: float, workers: int, progress: Progress
) -> tuple[list[Sample], Sample | None]:
    """Observe all files, several at once.

    Args:
        inputs: The files.
        bins: Mean showers are kept for each.
        threshold: Voxels above it are hits, MeV.
        workers: Threads; reading and summing release the interpreter lock.
        progress: Called with ("read showers", done, total).

    Returns:
        The samples of `inputs.files`, and all training showers as one sample, None without.

    Raises:
        DataError: Damaged files, values that are not finite, energies in another unit, showers of the truth
            among those of the training.
    """
    files = (*inputs.files, *inputs.training)
    impacts = inputs.files[0].conditions.off_axis
    total, done = sum(len(file.conditions) for file in files), 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress("read showers", done, total)

    def read(file: Input) -> Sample:
        return read_sample(
            file.path,
            file.name,
            bins,
            threshold=threshold,
            impacts=impacts,
            keep=file.keep,
            progress=count,
        )

    with ThreadPoolExecutor(workers) as pool:
        samples = list(pool.map(read, files))
    truth, split = samples[0], len(inputs.files)
    for sample in samples[1:]:
        same.check_units(truth.path, _response(truth), sample.path, _response(sample))
    for sample in samples[split:]:
        check_unseen(truth, sample)
    return samples[:split], joined(samples[split:]) if inputs.training else None


def _response(sample: Sample) -> float:
    return float(sample.values["response"].mean(dtype=np.float64))

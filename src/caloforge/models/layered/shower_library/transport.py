"""Showers of a library as those of a new detector, of which a few showers are known, Eq. 28 and 29."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.models.layered.shower_library.bin_sample import BinSample
from caloforge.models.layered.shower_library.detector_family import DetectorFamily, Moments, Spreads
from caloforge.models.layered.shower_library.hit_scores import hits_of_scores, scores_of_hits
from caloforge.models.layered.shower_library.polynomials import EnergyScale, shrunk_means

Floats = NDArray[np.float64]
LARGEST_SCORE = 4.0
# degree of the means that scores have left
REST_DEGREE = 5
# a remainder that is not known is that of one of so many showers on either side in energy
NEAR = 3
# spreads of positions are scaled by at most this
LARGEST_FACTOR = 3.0


def transported(family: DetectorFamily, sample: BinSample, rng: np.random.Generator) -> BinSample:
    """The showers of all detectors of a family as those of the detector of a sample.

    Args:
        family: What the detectors of the library share.
        sample: A few showers of the new detector, energies in units of its median response.
        rng: Makes numbers of hits continuous.
    """
    library, whole = family.sample, slice(None)
    found = family.moments(library, family.differences)
    groups = [family.spreads(library, found, family.group == k) for k in range(family.group.max() + 1)]
    theirs = Spreads(
        *(
            np.stack(part)[family.group]
            for part in zip(*((g.response, g.hit_energy, g.hits) for g in groups), strict=True)
        )
    )
    scores = _scores(family, library, found, theirs, rng)
    difference = family.differences_of(sample)
    own = family.moments(sample, family.powers(sample.energy) @ difference)
    spreads = family.spreads(sample, own, whole)
    scores = _with_means_of(
        (scores, library), (_scores(family, sample, own, spreads, rng), sample), len(family.cells)
    )
    there = family.moments(library, family.powers(library.energy) @ difference)
    energies, hits = np.split(scores[:, 1:], 2, axis=1)
    return BinSample(
        library.energy,
        there.response + scores[:, 0] * spreads.response * there.response_spread,
        there.hit_energy + energies * spreads.hit_energy * there.energy_spread,
        hits_of_scores(hits, there.hits, there.dispersion * spreads.hits**2, family.cells),
        np.ones_like(library.known),
        _positions(library, sample),
    )


def _scores(
    family: DetectorFamily, sample: BinSample, found: Moments, spreads: Spreads, rng: np.random.Generator
) -> Floats:
    """What is left of showers, (N, 1 + 2 F), about standard normal."""
    size, order = len(family.cells), np.argsort(sample.energy)
    uniform = rng.random(sample.hits.shape)
    hits = scores_of_hits(sample.hits, uniform, found.hits, found.dispersion * spreads.hits**2, family.cells)
    hits = filled_in(hits, sample.known, order, rng)
    energies = filled_in(found.residuals[:, 1 : 1 + size] / spreads.hit_energy, sample.filled, order, rng)
    response = found.residuals[:, 0] / spreads.response
    return np.concatenate([response[:, None], energies, hits.clip(-LARGEST_SCORE, LARGEST_SCORE)], axis=1)


def _with_means_of(library: tuple[Floats, BinSample], own: tuple[Floats, BinSample], size: int) -> Floats:
    """Scores of the library with the means that those of the sample have, as functions of the energy."""
    energies = np.concatenate([library[1].energy, own[1].energy])
    scale, means = EnergyScale(float(energies.min()), float(energies.max())), []
    for scores, sample in (library, own):
        design = scale.powers(sample.energy, REST_DEGREE)
        weights = (np.ones((len(scores), 1)), sample.filled.astype(float), sample.known.astype(float))
        parts = np.split(scores, [1, 1 + size], axis=1)
        means.append(
            np.concatenate(
                [shrunk_means(part, weight, design) for part, weight in zip(parts, weights, strict=True)],
                axis=1,
            )
        )
    change: Floats = library[0] + scale.powers(library[1].energy, REST_DEGREE) @ (means[1] - means[0])
    return change


def filled_in(
    values: Floats, known: NDArray[np.bool_], order: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Values (N, F) that are not known are those of one of the six known ones nearest in energy.

    Args:
        values: (N, F).
        known: (N, F).
        order: (N,) rows in the order of energy.
        rng: Chooses.
    """
    values, known = values[order], known[order]
    for column in np.flatnonzero(~known.all(0)):
        there, missing = np.flatnonzero(known[:, column]), np.flatnonzero(~known[:, column])
        if len(there) == 0:
            values[:, column] = rng.normal(size=len(values))
            continue
        place = np.searchsorted(there, missing) + rng.integers(-NEAR, NEAR, len(missing))
        values[missing, column] = values[there[place.clip(0, len(there) - 1)], column]
    return np.asarray(values[np.argsort(order)])


def _positions(library: BinSample, sample: BinSample) -> Floats:
    """Positions of the library's showers with the spread of the sample's, as a power of the energy."""
    found = library.position.copy()
    design = np.stack([np.ones_like(library.energy), np.log(library.energy)], axis=1)
    for columns in (slice(0, 2), slice(2, 4)):
        lines = []
        for one in (library, sample):
            powers = np.stack([np.ones_like(one.energy), np.log(one.energy)], axis=1)
            squares = np.log((one.position[:, columns] ** 2).mean(1) + 1e-8)
            lines.append(np.linalg.lstsq(powers, squares, rcond=None)[0])
        factor = np.exp(design @ (lines[1] - lines[0]) / 2).clip(1 / LARGEST_FACTOR, LARGEST_FACTOR)
        found[:, columns] *= factor[:, None]
    return found

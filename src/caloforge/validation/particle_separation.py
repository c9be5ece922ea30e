"""How well boosted trees tell particles apart: on generated showers as on those of full simulation?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

from caloforge.metrics.tree_classifier import Separation, separation
from caloforge.observables import high_level_features
from caloforge.validation import formatting
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import Bin
from caloforge.validation.energy_bands import BAND_SHOWERS, MAX_PER_BAND
from caloforge.validation.observed_sample import Sample
from caloforge.validation.report_model import Table

PARTICLES, METRIC = "particles", "particle_auc"


@dataclass(frozen=True)
class ParticlePair:
    """Two particles, told apart in full simulation and in a generated sample.

    Attributes:
        generator: Name of the sample.
        pair: Both particles.
        found: Both areas, and their difference.
    """

    generator: str
    pair: Bin
    found: Separation


def particle_bands(samples: Sequence[Sample], bins: Sequence[Bin]) -> list[Bin]:
    """The particles of which every sample has at least `BAND_SHOWERS` showers; none where there is one."""
    particles = [where for where in bins if where.axis == "particle"]
    return [b for b in particles if all(b.select(s.conditions).sum() >= BAND_SHOWERS for s in samples)]


def particle_pairs(
    truth: Sample,
    generated: Sequence[Sample],
    particles: Sequence[Bin],
    *,
    seed: int,
    workers: int = 1,
    tell: Callable[[str, int, int], object] = lambda *_: None,
) -> list[ParticlePair]:
    """Train boosted trees on pairs of particles of the truth, and apply them to every sample.

    Args:
        truth: Full simulation.
        generated: The samples to judge.
        particles: From `particle_bands`.
        seed: Seed of folds, trees and bootstrap.
        workers: Threads; trees release the interpreter lock.
        tell: Called with ("trees by particle", done, total).
    """
    features = {s.name: high_level_features(s.values, s.conditions.energy) for s in (truth, *generated)}
    jobs = [(sample, pair) for sample in generated for pair in combinations(particles, 2)]

    def train(job: tuple[Sample, tuple[Bin, Bin]]) -> ParticlePair:
        sample, pair = job
        full, fast = (tuple(features[s.name][b.select(s.conditions)] for b in pair) for s in (truth, sample))
        first, second = pair
        both = Bin(
            f"{first.key}-or-{second.label}",
            f"{first.label} or {second.label}",
            "particle",
            first.low,
            second.high,
        )
        found = separation(full, fast, seed=seed, max_per_class=MAX_PER_BAND)
        return ParticlePair(sample.name, both, found)

    result = []
    with ThreadPoolExecutor(workers) as pool:
        for done, found in enumerate(pool.map(train, jobs), start=1):
            result.append(found)
            tell("trees by particle", done, len(jobs))
    return result


def pair_differences(pairs: Sequence[ParticlePair]) -> list[Difference]:
    """The differences of the areas for the verdict."""
    return [Difference(p.generator, PARTICLES, METRIC, p.pair, p.found.shift) for p in pairs]


def pair_table(generator: str, pairs: Sequence[ParticlePair]) -> Table | None:
    """One row per pair of particles; None for a sample of one particle."""
    rows = tuple(
        (
            p.pair.label,
            formatting.with_error(p.found.full.value, p.found.full.uncertainty, METRIC),
            formatting.with_error(p.found.fast.value, p.found.fast.uncertainty, METRIC),
            formatting.with_error(p.found.shift.value, p.found.shift.uncertainty, METRIC),
            formatting.format_number(p.found.shift.floor, METRIC),
        )
        for p in pairs
        if p.generator == generator
    )
    note = "Areas of trees that are trained on full simulation to tell two particles apart."
    head = ("particles", "full simulation", generator, "difference", "of two full simulations")
    return Table("whole", f"{generator}: particles told apart", head, rows, note=note) if rows else None

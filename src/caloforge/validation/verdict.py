"""From differences to a verdict: what fails, where, by how much, and what the samples cannot decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from caloforge.metrics.resampling import Metric
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import INCLUSIVE
from caloforge.validation.thresholds import ThresholdSet

Status = Literal["pass", "fail", "undecided", "shown"]
# metrics that can be negative: their size is compared with the threshold
SIGNED = {"mean_shift", "mean_offset", "width_shift", "bin_deviation", "bin_offset", "correlation_shift"}
# metrics that are above zero for equal distributions too: what exceeds the floor is compared
DISTANCES = {
    "wasserstein", "separation_power", "kolmogorov_smirnov", "profile_deviation", "near_copies",
    "fpd", "kpd", "merit_p", "merit_e", "merit_s", "merit_sum",
}  # fmt: skip
# metrics that equal distributions share with their floor: a fall below it is compared
SHARES = {"precision", "recall", "coverage"}
# what equal distributions share with their floor: a distance to either side is compared
SIMILARITIES = {"ssim", "ssim_generated"}
# ratios, 1 for equal distributions
RATIOS = {"density", "neighbour_spacing"}


@dataclass(frozen=True)
class Judgement:
    """A difference and what follows from it.

    Attributes:
        difference: What was measured.
        threshold: What is tolerated, or None where the metric does not decide.
        status: "fail": beyond the threshold, and not by chance. "undecided": these samples could not tell a
            difference as large as the threshold from none. "shown": no threshold.
        sigma: By how many standard errors the value lies beyond the threshold; negative within. Fewer where
            few showers carry the variance, see `equivalent_sigma`.
        sees: The smallest value that would have failed, given the sample sizes.
    """

    difference: Difference
    threshold: float | None
    status: Status
    sigma: float
    sees: float


@dataclass(frozen=True)
class Verdict:
    """The verdict on one generator.

    Attributes:
        generator: Its name.
        judgements: Every difference, judged.
        trials: How many comparisons decide.
        critical: A value fails when it is beyond its threshold by more than this many standard errors.
    """

    generator: str
    judgements: tuple[Judgement, ...]
    trials: int
    critical: float

    @property
    def passed(self) -> bool:
        """Whether nothing fails."""
        return not self.failures

    @property
    def failures(self) -> list[Judgement]:
        """What fails, the most significant first."""
        failed = [j for j in self.judgements if j.status == "fail"]
        return sorted(failed, key=lambda j: -j.sigma)

    @property
    def undecided(self) -> list[Judgement]:
        """Comparisons these samples are too small for."""
        return [j for j in self.judgements if j.status == "undecided"]


def judge(generator: str, differences: Sequence[Difference], thresholds: ThresholdSet) -> Verdict:
    """Compare every difference with its threshold.

    Many comparisons are made, so that some are off by two or three standard errors in any sample. A value
    fails only when it exceeds its threshold by so many standard errors that chance would do that in one of
    the comparisons with the probability `thresholds.false_alarm` (Bonferroni: they count as independent,
    which is cautious).

    Args:
        generator: Name of the sample.
        differences: Of this sample.
        thresholds: What is tolerated.
    """
    limits = [thresholds.threshold(d.metric, d.observable, inclusive=d.bin is INCLUSIVE) for d in differences]
    trials = sum(limit is not None for limit in limits)
    critical = critical_sigma(trials, thresholds.false_alarm)
    judgements = [
        _judge(difference, limit, critical) for difference, limit in zip(differences, limits, strict=True)
    ]
    return Verdict(generator, tuple(judgements), trials, critical)


def critical_sigma(trials: int, false_alarm: float) -> float:
    """Standard errors that by chance one of `trials` comparisons exceeds with probability `false_alarm`."""
    return NormalDist().inv_cdf(1 - false_alarm / max(trials, 1) / 2)


def equivalent_sigma(t: float, dof: float) -> float:
    """Standard errors of a normal variate as improbable as t of Student's distribution.

    D. L. Wallace, Ann. Math. Stat. 30 (1959) 1124: good to a few percent from one degree of freedom on.
    """
    if math.isinf(dof):
        return t
    size = (8 * dof + 1) / (8 * dof + 3) * math.sqrt(dof * math.log1p(t * t / dof))
    return math.copysign(size, t)


def student_sigma(sigma: float, dof: float) -> float:
    """The inverse of `equivalent_sigma`."""
    if math.isinf(dof):
        return sigma
    exponent = (sigma * (8 * dof + 3) / (8 * dof + 1)) ** 2 / dof
    # beyond the range of floats no value would be significant
    return math.sqrt(dof * math.expm1(exponent)) if exponent < 700 else math.inf


def _judge(difference: Difference, threshold: float | None, critical: float) -> Judgement:
    if threshold is None:
        return Judgement(difference, None, "shown", float("nan"), float("nan"))
    result = difference.result
    size, limit = _size_and_limit(difference.metric, result, threshold)
    error = result.uncertainty
    if not np.isfinite(size):
        return Judgement(difference, threshold, "fail", float("inf"), limit)
    # a number without an error, such as negative energy, decides as it stands
    sigma = math.inf if size > limit else -math.inf
    if error > 0:
        sigma = equivalent_sigma((size - limit) / error, difference.dof)
    reach = student_sigma(critical, difference.dof) * error
    sees = limit + reach
    status: Status = "pass"
    if sigma > critical:
        status = "fail"
    elif error > 0 and reach > max(threshold, 1e-12):
        status = "undecided"
    return Judgement(difference, threshold, status, sigma, sees)


def _size_and_limit(metric: str, result: Metric, threshold: float) -> tuple[float, float]:
    if metric in SIGNED:
        return abs(result.value), threshold
    if metric in DISTANCES:
        return result.value, threshold + result.floor
    if metric in SHARES:
        return result.floor - result.value, threshold
    if metric in RATIOS:
        return abs(result.value - 1), threshold
    if metric in SIMILARITIES:
        return abs(result.value - result.floor), threshold
    return result.value, threshold

"""Statistical verdict: comparison of every difference with its threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from caloforge.metrics.registry import metrics
from caloforge.metrics.resampling import Metric
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import INCLUSIVE
from caloforge.validation.thresholds import ThresholdSet

Status = Literal["pass", "fail", "undecided", "shown"]
State = Literal["within", "not within", "undecided"]


@dataclass(frozen=True)
class Judgement:
    """A difference compared with its threshold.

    Attributes:
        difference: The measurement.
        threshold: The tolerated size, or None where the metric does not decide.
        status: "fail": beyond the threshold, and not by chance. "pass": within the threshold, shown at the
            confidence of the threshold set. "undecided": neither. "shown": no threshold.
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
        trials: Number of comparisons with a threshold.
        critical: A value fails when it is beyond its threshold by more than this many standard errors.
        assured: A value passes when it is below its threshold by at least this many standard errors.
        showers: In the truth and in this sample.
    """

    generator: str
    judgements: tuple[Judgement, ...]
    trials: int
    critical: float
    assured: float
    showers: tuple[int, int]

    @property
    def state(self) -> State:
        """Within: all comparisons pass. Not within: one fails. Undecided: anything else."""
        if self.failures:
            return "not within"
        return "within" if self.trials and not self.undecided else "undecided"

    @property
    def passed(self) -> bool:
        """Whether every comparison shows that the sample is within its threshold."""
        return self.state == "within"

    @property
    def failures(self) -> list[Judgement]:
        """Failing comparisons, the most significant first."""
        failed = [j for j in self.judgements if j.status == "fail"]
        return sorted(failed, key=lambda j: -j.sigma)

    @property
    def undecided(self) -> list[Judgement]:
        """Undecided comparisons, the one that needs most showers first."""
        waiting = [j for j in self.judgements if j.status == "undecided"]
        return sorted(waiting, key=lambda j: -self._growth(j))

    @property
    def showers_needed(self) -> int | None:
        """Showers of each sample that would decide every comparison, two digits; None where no number does.

        Errors fall with the root of the number of showers. The estimate is for a generator that equals full
        simulation: all of its comparisons then pass, but for the probability of a false alarm. Where the
        errors are already that small, the difference found is taken for the true one.
        """
        both = 2 / sum(1 / n for n in self.showers)
        wanted = [
            min(both * growth, math.inf if most is None or math.isinf(growth) else most)
            for j, most in ((j, j.difference.most) for j in self.undecided)
            # a metric that uses no more showers than there are gains nothing from others
            if (growth := self._growth(j)) and (most is None or most > both)
        ]
        largest = max(wanted, default=math.inf)
        if math.isinf(largest):
            return None
        step = int(10 ** max(0, math.floor(math.log10(largest)) - 1))
        return step * math.ceil(largest / step)

    def _growth(self, judgement: Judgement) -> float:
        """Factor by which the samples must grow to decide one comparison."""
        d = judgement.difference
        error, threshold = d.result.uncertainty, judgement.threshold or 0.0
        margin = threshold - 0.5 if metrics()[d.metric].threshold == "area" else threshold
        if not math.isfinite(error) or margin <= 0:
            return math.inf
        times = ((self.assured + self.critical) * error / margin) ** 2
        if times > 1:
            return times
        size, limit = _size_and_limit(d.metric, d.result, threshold)
        wanted = self.critical if size > limit else self.assured
        return (wanted * error / abs(size - limit)) ** 2 if size != limit else math.inf


def worst_state(verdicts: Sequence[Verdict]) -> State:
    """The worst state of several samples."""
    order: tuple[State, ...] = ("within", "undecided", "not within")
    return max((verdict.state for verdict in verdicts), key=order.index)


def judge(
    generator: str, differences: Sequence[Difference], thresholds: ThresholdSet, showers: tuple[int, int]
) -> Verdict:
    """Compare every difference with its threshold.

    Many comparisons are made, so that some are off by two or three standard errors in any sample. A value
    fails only when it exceeds its threshold by so many standard errors that chance would do that in one of
    the comparisons with the probability `thresholds.false_alarm` (Bonferroni: they count as independent,
    which is cautious).

    A value passes when its confidence limit at `thresholds.confidence` is within the threshold. A sample is
    within when all pass; one that is beyond any of its thresholds passes there with a probability of at most
    1 - confidence, however many comparisons there are (R. L. Berger, Technometrics 24 (1982) 295).

    Args:
        generator: Name of the sample.
        differences: Of this sample.
        thresholds: What is tolerated.
        showers: In the truth and in this sample.
    """
    limits = [thresholds.threshold(d.metric, d.observable, inclusive=d.bin is INCLUSIVE) for d in differences]
    trials = sum(limit is not None for limit in limits)
    critical = critical_sigma(trials, thresholds.false_alarm)
    assured = NormalDist().inv_cdf(thresholds.confidence)
    judgements = [
        _judge(difference, limit, critical, assured)
        for difference, limit in zip(differences, limits, strict=True)
    ]
    return Verdict(generator, tuple(judgements), trials, critical, assured, showers)


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


def _judge(difference: Difference, threshold: float | None, critical: float, assured: float) -> Judgement:
    if threshold is None:
        return Judgement(difference, None, "shown", float("nan"), float("nan"))
    result = difference.result
    size, limit = _size_and_limit(difference.metric, result, threshold)
    error = result.uncertainty
    if not np.isfinite(size):
        return Judgement(difference, threshold, "fail", float("inf"), limit)
    if not np.isfinite(error):
        return Judgement(difference, threshold, "undecided", float("nan"), float("inf"))
    # a number without an error, such as negative energy, decides as it stands
    sigma = math.inf if size > limit else -math.inf
    if error > 0:
        sigma = equivalent_sigma((size - limit) / error, difference.dof)
    sees = limit + student_sigma(critical, difference.dof) * error
    status: Status = "undecided"
    if sigma > critical:
        status = "fail"
    elif sigma <= -assured:
        status = "pass"
    return Judgement(difference, threshold, status, sigma, sees)


def _size_and_limit(metric: str, result: Metric, threshold: float) -> tuple[float, float]:
    """What is compared with the threshold, and the threshold, by the kind of the metric."""
    match metrics()[metric].threshold:
        case "magnitude":
            return abs(result.value), threshold
        case "excess":
            # above zero for equal distributions too
            return result.value, threshold + result.floor
        case "deficit":
            return result.floor - result.value, threshold
        case "ratio":
            return abs(result.value - 1), threshold
        case "similarity":
            return abs(result.value - result.floor), threshold
        case _:
            return result.value, threshold

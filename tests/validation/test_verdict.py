"""Threshold sets and the verdict: what fails, what is undecided, and the trial factor."""

import math

import numpy as np
import pytest
import yaml

from caloforge.errors import ConfigError
from caloforge.metrics.resampling import Metric
from caloforge.validation import load_thresholds, threshold_sets
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import INCLUSIVE, Bin
from caloforge.validation.thresholds import ThresholdSet
from caloforge.validation.verdict import critical_sigma, judge

LOW = Bin("energy-50", "50 GeV", "energy", 45e3, 55e3)


def judged(metric, value, error, floor=0.0, *, threshold=0.01, where=INCLUSIVE, trials=1):
    thresholds = ThresholdSet(name="t", inclusive={metric: threshold}, bins={metric: threshold})
    difference = Difference("gan", "hits", metric, where, Metric(value, error, floor))
    verdict = judge("gan", [difference] * trials, thresholds)
    return verdict.judgements[0], verdict


def test_a_shift_beyond_threshold_and_chance_fails():
    judgement, verdict = judged("mean_shift", -0.02, 0.001)
    assert (judgement.status, judgement.sigma) == ("fail", pytest.approx(10))
    assert not verdict.passed and verdict.failures == [judgement]


def test_a_shift_within_the_threshold_passes_whatever_its_significance():
    assert judged("mean_shift", 0.009, 1e-5)[0].status == "pass"


def test_a_shift_beyond_the_threshold_by_chance_is_undecided():
    judgement, verdict = judged("mean_shift", 0.03, 0.02)
    assert judgement.status == "undecided" and verdict.passed
    # the smallest shift that would have failed: the threshold and 1.96 standard errors
    assert judgement.sees == pytest.approx(0.01 + 0.02 * 1.95996, rel=1e-4)


def test_distances_are_allowed_their_floor():
    assert judged("wasserstein", 0.055, 0.002, floor=0.05)[0].status == "pass"
    assert judged("wasserstein", 0.08, 0.002, floor=0.05)[0].status == "fail"


def test_shares_fail_below_their_floor_and_ratios_away_from_one():
    assert judged("coverage", 0.90, 0.005, floor=0.97)[0].status == "fail"
    assert judged("coverage", 0.98, 0.002, floor=0.97)[0].status == "pass"
    assert judged("neighbour_spacing", 0.5, 0.01, floor=1.02)[0].status == "fail"


def test_a_number_without_error_decides_as_it_stands():
    assert judged("negative_energy", 0.0, 0.0, threshold=0.0)[0].status == "pass"
    assert judged("negative_energy", 1e-6, 0.0, threshold=0.0)[0].status == "fail"


def test_a_value_that_is_not_finite_fails():
    assert judged("mean_shift", math.inf, 0.1)[0].status == "fail"


def test_the_trial_factor_raises_the_bar():
    # Bonferroni: two-sided 5 % over n comparisons
    assert critical_sigma(1, 0.05) == pytest.approx(1.959964, rel=1e-6)
    assert critical_sigma(1000, 0.05) == pytest.approx(4.0556, rel=1e-3)
    # 3 standard errors beyond the threshold: proof alone, chance among a thousand
    assert judged("mean_shift", 0.04, 0.01)[0].status == "fail"
    assert judged("mean_shift", 0.04, 0.01, trials=1000)[0].status != "fail"


def test_the_false_alarm_rate_is_what_it_says():
    """2 000 perfect generators, 50 independent comparisons each."""
    rng = np.random.default_rng(1)
    critical = critical_sigma(50, 0.05)
    failed = (np.abs(rng.normal(size=(2000, 50))) > critical).any(axis=1).mean()
    assert failed == pytest.approx(0.05, abs=0.015)


def test_bins_and_observables_have_thresholds_of_their_own():
    thresholds = ThresholdSet(
        name="t",
        inclusive={"mean_shift": 0.01, "wasserstein": 0.1},
        bins={"mean_shift": 0.05},
        observables={"response": {"mean_shift": 0.002}, "hits": {"mean_shift": None}},
    )
    assert thresholds.threshold("mean_shift", "r1", inclusive=True) == 0.01
    assert thresholds.threshold("mean_shift", "r1", inclusive=False) == 0.05
    assert thresholds.threshold("mean_shift", "response", inclusive=False) == 0.002
    assert thresholds.threshold("mean_shift", "hits", inclusive=True) is None
    assert thresholds.threshold("wasserstein", "r1", inclusive=False) is None


def test_our_sets_exist_and_strict_is_the_stricter():
    assert threshold_sets() == ["3dgan", "strict"]
    strict, loose = (load_thresholds(name, []) for name in ("strict", "3dgan"))
    for metric, threshold in loose.inclusive.items():
        assert strict.inclusive[metric] < threshold


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        ({"name": "mine", "inclusive": {"mean_shfit": 0.1}}, "mean_shift"),
        ({"name": "mine", "inclusive": {"mean_shift": -0.1}}, "greater than or equal to 0"),
        ({"name": "mine", "inclusive": {}, "observables": {"hit": {"mean_shift": 1}}}, "'hits'"),
        ({"name": "mine", "inclusive": {}, "false_alarm": 0.7}, "less than 0.5"),
    ],
)
def test_a_file_of_ones_own_is_checked(tmp_path, document, hint):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=hint):
        load_thresholds(path, ["hits", "response"])


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(ConfigError, match="strict"):
        load_thresholds("stric", [])


def test_a_file_of_ones_own_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ninclusive: {mean_shift: 0.02}\nobservables: {hits: {mean_shift: null}}\n")
    assert load_thresholds(str(path), ["hits"]).threshold("mean_shift", "hits", inclusive=True) is None


def test_undecided_is_no_failure():
    assert LOW.key != INCLUSIVE.key
    _, verdict = judged("mean_shift", 0.0, 0.5, where=LOW)
    assert verdict.passed and len(verdict.undecided) == 1

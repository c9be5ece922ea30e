"""Threshold sets and the verdict: what fails, what is undecided, and the trial factor."""

import math

import numpy as np
import pytest
import toy_showers
import yaml

from caloforge.errors import ConfigError, DataError
from caloforge.metrics.definitions import features
from caloforge.metrics.resampling import Metric
from caloforge.validation import judge_batches, load_thresholds, threshold_sets
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import INCLUSIVE, Bin
from caloforge.validation.thresholds import ThresholdSet
from caloforge.validation.verdict import critical_sigma, judge, worst_state

LOW = Bin("energy-50", "50 GeV", "energy", 45e3, 55e3)


def judged(
    metric, value, error, floor=0.0, *, threshold=0.01, where=INCLUSIVE, trials=1, n=(1000, 1000), most=None
):
    thresholds = ThresholdSet(name="t", inclusive={metric: threshold}, bins={metric: threshold})
    difference = Difference("gan", "hits", metric, where, Metric(value, error, floor), most=most)
    verdict = judge("gan", [difference] * trials, thresholds, n)
    return verdict.judgements[0], verdict


def test_a_shift_beyond_threshold_and_chance_fails():
    judgement, verdict = judged("mean_shift", -0.02, 0.001)
    assert (judgement.status, judgement.sigma) == ("fail", pytest.approx(10))
    assert not verdict.passed and verdict.failures == [judgement]


def test_a_shift_within_the_threshold_passes_whatever_its_significance():
    assert judged("mean_shift", 0.009, 1e-5)[0].status == "pass"


def test_a_shift_beyond_the_threshold_by_chance_is_undecided():
    judgement, verdict = judged("mean_shift", 0.03, 0.02)
    assert judgement.status == "undecided" and verdict.state == "undecided"
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


def test_undecided_is_no_failure_and_no_success():
    assert LOW.key != INCLUSIVE.key
    _, verdict = judged("mean_shift", 0.0, 0.5, where=LOW)
    assert not verdict.failures and len(verdict.undecided) == 1
    assert verdict.state == "undecided" and not verdict.passed


def test_a_pass_is_shown_at_the_confidence_of_the_set():
    # one-sided 95 %: 1.645 standard errors
    assert judged("mean_shift", 0.006, 0.0024)[0].status == "pass"
    assert judged("mean_shift", -0.006, 0.0025)[0].status == "undecided"
    # as many comparisons as one likes: the confidence is that of each
    assert judged("mean_shift", 0.006, 0.0024, trials=1000)[0].status == "pass"


def test_a_sample_beyond_a_threshold_is_called_within_at_most_as_often_as_said():
    """2 000 generators that are off by exactly the threshold, in one of ten comparisons."""
    rng = np.random.default_rng(3)
    within = 0
    for _ in range(2000):
        shifts = rng.normal(0, 0.002, 10)
        shifts[0] += 0.01
        differences = [
            Difference("gan", "hits", "mean_shift", INCLUSIVE, Metric(s, 0.002, 0.0)) for s in shifts
        ]
        verdict = judge(
            "gan", differences, ThresholdSet(name="t", inclusive={"mean_shift": 0.01}), (1000, 1000)
        )
        within += verdict.state == "within"
    assert within / 2000 == pytest.approx(0.05, abs=0.015)


def test_one_failure_outweighs_whatever_is_undecided():
    thresholds = ThresholdSet(name="t", inclusive={"mean_shift": 0.01})
    results = [Metric(0.5, 0.001, 0.0), Metric(0.0, 1.0, 0.0)]
    differences = [Difference("gan", "hits", "mean_shift", INCLUSIVE, r) for r in results]
    verdicts = [
        judge("gan", part, thresholds, (100, 100)) for part in (differences, differences[1:], differences[:1])
    ]
    assert [v.state for v in verdicts] == ["not within", "undecided", "not within"]
    good = judged("mean_shift", 0.0, 0.0001)[1]
    assert worst_state([good]) == "within"
    assert worst_state([good, verdicts[1]]) == "undecided"
    assert worst_state([verdicts[1], verdicts[0], good]) == "not within"


def test_nothing_compared_is_nothing_shown():
    verdict = judge("gan", [], ThresholdSet(name="t", inclusive={}), (1000, 1000))
    assert verdict.state == "undecided" and verdict.showers_needed is None


def test_an_error_that_is_not_known_decides_nothing():
    assert judged("mean_shift", 0.0, math.nan)[0].status == "undecided"


def test_the_number_of_showers_that_decide_is_one_that_does():
    """Equal samples of that many showers are within; of a tenth, hardly ever."""
    _, verdict = judged("mean_shift", 0.003, 0.02, trials=20)
    needed = verdict.showers_needed
    assert needed == pytest.approx(1000 * ((1.645 + verdict.critical) * 2) ** 2, rel=0.06)
    rng = np.random.default_rng(7)

    def share_within(n):
        error = 0.02 * math.sqrt(1000 / n)
        shifts = rng.normal(0, error, (200, 20))
        return np.mean((np.abs(shifts) + 1.645 * error <= 0.01).all(axis=1))

    assert share_within(needed) > 0.94 and share_within(needed / 10) < 0.1
    # samples of different size: the number for equal ones
    assert judged("mean_shift", 0.003, 0.02, trials=20, n=(600, 3000))[1].showers_needed == needed


def test_a_difference_near_its_threshold_needs_as_many_as_it_is_near():
    _, verdict = judged("mean_shift", 0.0099, 0.0001)
    assert verdict.state == "undecided"
    assert verdict.showers_needed == pytest.approx(1000 * 1.645**2, rel=0.06)


def test_where_more_showers_do_not_help_no_number_is_given():
    assert judged("mean_shift", 0.0, 0.1, threshold=0.0)[1].showers_needed is None
    # an area of one half is what equal samples have
    assert judged("classifier_auc", 0.5, 0.02, threshold=0.5)[1].showers_needed is None
    # a metric that looks at so many showers at most
    assert judged("coverage", 0.9, 0.02, floor=0.9, most=1000)[1].showers_needed is None
    assert judged("coverage", 0.9, 0.02, floor=0.9, most=5000)[1].showers_needed == 5000


@pytest.mark.parametrize("name", ["3dgan", "strict"])
def test_few_showers_are_never_within(name, monkeypatch):
    """Equal samples of as few showers as a comparison takes."""
    # half of the time, and without a threshold
    monkeypatch.setattr(features, "frechet_physics_distance", lambda *_, **__: Metric(0.01, 0.01, 0.01))
    truth, equal = toy_showers.batch(100, 1), toy_showers.batch(100, 2)
    verdict = judge_batches(truth, equal, toy_showers.detector(), thresholds=name)
    assert verdict.state == "undecided" and verdict.showers_needed > 1000
    with pytest.raises(DataError, match="expected at least 100"):
        judge_batches(truth[:10], equal[:10], toy_showers.detector(), thresholds=name)

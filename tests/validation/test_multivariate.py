"""Correlations, the response at the mean depth, degrees of freedom."""

import math

import numpy as np
import pytest
import toy_showers
from scipy import stats

from caloforge.metrics.samples import effective_showers
from caloforge.validation.in_memory import _sample, judge_batches
from caloforge.validation.leakage_correction import AT_DEPTH, add_response_at_depth
from caloforge.validation.multivariate import compare_correlations
from caloforge.validation.response import mip_peaks, summarise_response
from caloforge.validation.verdict import equivalent_sigma, student_sigma


def sample(n, seed, name="truth"):
    return _sample(toy_showers.batch(n, seed), name, toy_showers.detector(), 0.3)


def test_correlations_of_equal_samples_agree_within_their_errors():
    found = compare_correlations(sample(1500, 1), [sample(1500, 2, "equal")])
    pulls = [d.result.value / d.result.uncertainty for d in found.differences]
    count = len(found.names)
    assert len(pulls) == count * (count - 1) // 2
    assert np.std(pulls) == pytest.approx(1, abs=0.35)
    assert np.abs(pulls).max() < 4
    assert found.differences[0].at == f"{found.names[1]} and {found.names[0]}"


def test_a_broken_correlation_shows():
    """Depth of one shower with the energy of another."""
    truth, other = sample(1500, 1), sample(1500, 2, "broken")
    order = np.random.default_rng(3).permutation(1500)
    for name in ("r1", "r2", "r3"):
        other.values[name] = other.values[name][order]
    found = compare_correlations(truth, [other])
    worst = max(found.differences, key=lambda d: abs(d.result.value) / d.result.uncertainty)
    assert abs(worst.result.value) > 20 * worst.result.uncertainty
    assert "r1" in worst.at or "r3" in worst.at or "r2" in worst.at


def test_the_depth_is_taken_off_the_response(electrons):
    """25 layers leak: the spread of the response at fixed energy falls to less than half."""
    from caloforge.showers import ShowerFile

    with ShowerFile(electrons) as file:
        batch, detector = file.read(), file.detector
    (found,) = add_response_at_depth([_sample(batch, "truth", detector, 0.3)])
    high = batch.incident_energy > 200e3
    spread = [np.std(found.values[name][high]) for name in ("response", AT_DEPTH.name)]
    assert spread[1] < 0.5 * spread[0]
    assert found.values[AT_DEPTH.name].mean() == pytest.approx(found.values["response"].mean(), rel=1e-4)


def test_effective_showers():
    rng = np.random.default_rng(1)
    # kurtosis 3 of a normal, 9 of an exponential distribution
    assert effective_showers(rng.normal(size=30_000)) == pytest.approx(10_000, rel=0.1)
    assert effective_showers(rng.exponential(size=90_000)) == pytest.approx(10_000, rel=0.2)
    outlier = np.zeros(1000)
    outlier[0] = 1
    assert effective_showers(outlier) == pytest.approx(1, rel=0.01)
    assert np.isinf(effective_showers(np.ones(5)))


@pytest.mark.parametrize("dof", [2, 5, 20, 200])
@pytest.mark.parametrize("t", [0.5, 2.0, 5.0])
def test_equivalent_sigma_against_scipy(dof, t):
    expected = stats.norm.isf(stats.t.sf(t, dof))
    assert equivalent_sigma(t, dof) == pytest.approx(expected, rel=0.03)
    assert equivalent_sigma(-t, dof) == -equivalent_sigma(t, dof)
    assert student_sigma(equivalent_sigma(t, dof), dof) == pytest.approx(t)


def test_hopeless_degrees_of_freedom_never_fail():
    assert student_sigma(30.0, 1.0) == math.inf
    assert equivalent_sigma(1e6, 1.0) < 6


def test_resolution_and_linearity_of_toy_showers():
    """Fluctuations of 3 % at all energies and of 1 MeV voxels: the constant term is found."""
    samples = [sample(3000, 1), sample(3000, 2, "other")]
    found = summarise_response(samples)
    assert [figure.observable for figure in found.figures] == ["resolution", "linearity"]
    constant = float(found.resolution[0].split("constant ")[1].split(" ")[0])
    assert constant == pytest.approx(3.0, abs=0.4)
    assert found.resolution[1].startswith("other:")
    slope = float(found.linearity[0].split("slope ")[1].split(" ")[0])
    assert slope == pytest.approx(2.0, abs=0.05)
    assert len(mip_peaks(samples)) == 2


def test_batches_are_judged_as_files_are():
    detector = toy_showers.detector()
    truth, other = toy_showers.batch(300, 1), toy_showers.batch(300, 2)
    equal = judge_batches(truth, other, detector)
    assert not equal.failures and equal.state == "undecided"
    other.showers *= np.float32(1.15)
    verdict = judge_batches(truth, other, detector)
    assert "response" in {j.difference.observable for j in verdict.failures}

"""The registry: every part of a validation takes its metrics from there."""

import importlib
import pkgutil
import sys

import numpy as np
import pytest
import toy_showers

from caloforge.cards.figures import card_figures
from caloforge.metrics import definitions, registry
from caloforge.metrics.registry import THRESHOLD_KINDS, MetricDefinition, metrics, register
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import SamplePair
from caloforge.tuning.objective import check_figure, needs_classifier
from caloforge.validation import judge_batches, load_thresholds, threshold_sets
from caloforge.validation.formatting import with_error


@pytest.fixture
def registered(monkeypatch):
    """Metrics that a test registers are gone after it."""
    monkeypatch.setattr(registry, "_REGISTERED", {})


def test_every_module_of_definitions_is_collected():
    modules = [m.name for m in pkgutil.iter_modules(definitions.__path__)]
    defined = [
        definition
        for name in modules
        for definition in importlib.import_module(f"{definitions.__name__}.{name}").METRICS
    ]
    assert list(metrics().values()) == defined
    assert len({definition.name for definition in defined}) == len(defined) > 25


def test_a_new_file_is_all_that_a_metric_needs(tmp_path, monkeypatch):
    program = "from caloforge.metrics.registry import MetricDefinition\n"
    program += "METRICS = (MetricDefinition('one_file', 'new', 'a new metric', card='new'),)\n"
    (tmp_path / "one_file_metric.py").write_text(program)
    monkeypatch.setattr(definitions, "__path__", [*definitions.__path__, str(tmp_path)])
    registry._own.cache_clear()
    try:
        assert "one_file" in metrics()
        assert "new" in [figure.label for figure in card_figures()]
    finally:
        registry._own.cache_clear()
        sys.modules.pop("caloforge.metrics.definitions.one_file_metric", None)


def test_definitions_are_complete():
    for definition in metrics().values():
        assert definition.short and definition.label
        assert definition.threshold is None or definition.threshold in THRESHOLD_KINDS
        assert definition.of_observable is None or definition.of_samples is None
        assert not definition.card or definition.of_samples or definition.of_results
    for name in threshold_sets():
        chosen = load_thresholds(name, [])
        assert {*chosen.inclusive, *chosen.bins} <= {m.name for m in metrics().values() if m.threshold}


def low_hits(pair: SamplePair) -> Metric:
    """Mean number of hits of the generated showers over that of the truth, less 1."""
    one, other = (float(s.values["hits"].mean()) for s in (pair.truth, pair.generated))
    return Metric(other / one - 1, 0.01, 0.01)


DEFINITION = MetricDefinition(
    "low_hits", "hits", "mean hits", "percent", "magnitude", of_samples=low_hits, card="mean hits"
)


def test_a_registered_metric_is_everywhere(registered, tmp_path):
    register(DEFINITION)
    thresholds = tmp_path / "own.yaml"
    thresholds.write_text("name: own\ninclusive: {low_hits: 0.05}\n")
    truth, other = toy_showers.batch(200, 1), toy_showers.batch(200, 2)
    other.showers[other.showers < 1] = 0
    verdict = judge_batches(truth, other, toy_showers.detector(), thresholds=str(thresholds))
    (judgement,) = [j for j in verdict.judgements if j.threshold is not None]
    assert judgement.difference.metric == "low_hits" and judgement.status == "fail"
    assert judgement.difference.observable == "shower"
    assert with_error(-0.2, 0.01, "low_hits") == "(−20.0 ± 1.0) %"
    assert ("mean hits", "shower", "low_hits", "percent") in [
        (f.label, f.observable, f.metric, f.unit) for f in card_figures()
    ]
    check_figure("low_hits")
    assert not needs_classifier(["low_hits"]) and needs_classifier(["low_hits", "classifier_auc"])


def test_a_metric_of_observables_is_measured_in_each_bin(registered):
    def largest(pair):
        return (
            Metric(float(pair.generated.max() / pair.truth.max()), 0.1, 1.0)
            if pair.kind == "scalar"
            else None
        )

    register(MetricDefinition("largest", "max", "largest value", of_observable=largest))
    truth, other = toy_showers.batch(400, 1), toy_showers.batch(400, 2)
    verdict = judge_batches(truth, other, toy_showers.detector())
    found = {(j.difference.observable, j.difference.bin.axis) for j in verdict.judgements
             if j.difference.metric == "largest"}  # fmt: skip
    assert {("hits", "inclusive"), ("hits", "energy"), ("r1", "energy")} <= found
    assert not any(name == "layer_energy" for name, _ in found)


def test_a_name_is_taken_once(registered):
    register(DEFINITION)
    for definition in (DEFINITION, metrics()["fpd"]):
        with pytest.raises(ValueError, match="exists already"):
            register(definition)


def test_objectives_that_cannot_be_measured_are_refused():
    for name in ("merit_a", "training_copies", "log_posterior"):
        with pytest.raises(ValueError, match="expected a figure"):
            check_figure(name)


def test_results_are_shared_within_a_pair():
    calls = []

    def table(pair):
        calls.append(pair)
        return np.zeros(3)

    pair = SamplePair(None, None)
    assert pair.shared(table) is pair.shared(table)
    assert len(calls) == 1

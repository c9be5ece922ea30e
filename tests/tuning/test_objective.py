import math

import pytest

from caloforge.config import build
from caloforge.errors import ConfigError
from caloforge.training.config import EvaluationConfig
from caloforge.tuning.objective import Value, combine, evaluations, merit_of, read_figures

METRICS = {
    "generators": {
        "gen": {
            "sample": {"median_seconds": 0.004},
            "observables": {
                "shower": {"inclusive": {"merit_sum": {"value": 0.25, "uncertainty": 0.02}}},
                "response": {"inclusive": {"mean_shift": {"value": -0.03, "uncertainty": 0.002}}},
                "layer_energy": {"inclusive": {"bin_deviation": [{"place": 0, "value": 1.0}]}},
            },
        }
    }
}


def test_figures_are_read_with_their_errors():
    names = ("merit", "merit_sum", "ms_per_shower", "response.inclusive.mean_shift")
    found = read_figures(names, METRICS)
    assert found["merit_sum"] == Value(0.25, 0.02)
    # a shift to either side is as bad
    assert found["response.inclusive.mean_shift"] == Value(0.03, 0.002)
    assert found["ms_per_shower"].value == pytest.approx(4.0) and math.isnan(found["ms_per_shower"].error)
    # of the training itself
    assert "merit" not in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("response.inclusive.mean_shfit", "Did you mean 'mean_shift'"),
        ("response.energy-q1.mean_shift", "'energy-q1' is not in metrics.json"),
        ("layer_energy.inclusive.bin_deviation", "no single number"),
    ],
)
def test_a_figure_that_is_not_there_is_an_error(name, message):
    with pytest.raises(ConfigError, match=message):
        read_figures((name,), METRICS)


def test_the_mean_of_folds_has_the_error_of_their_spread():
    folds = [{"f": Value(v, 99.0)} for v in (1.0, 2.0, 6.0)]
    mean, error = combine(folds, "f")
    # standard deviation of 1, 2, 6 with n - 1: sqrt(7); over sqrt(3)
    assert mean == pytest.approx(3.0) and error == pytest.approx(math.sqrt(7 / 3))
    assert combine(folds[:1], "f") == Value(1.0, 99.0)


def test_evaluations_of_a_training_that_was_cut_off(tmp_path):
    lines = [
        '{"step": 5, "epoch": 0, "generator_loss": 1.0}',
        '{"step": 10, "epoch": 0, "eval_merit": 0.5}',
        '{"step": 20, "epoch": 1, "eval_merit": 0.7}',
        '{"step": 30, "epoch": 2, "eval_me',
    ]
    assert evaluations(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert evaluations(tmp_path) == [(10, 0.5), (20, 0.7)]
    for keep, expected in (("best", 0.5), ("last", 0.7)):
        assert merit_of(tmp_path, build(EvaluationConfig, {"keep": keep}, "e")) == expected

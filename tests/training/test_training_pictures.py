"""The picture of a training's history."""

import json

import pytest

from caloforge.errors import DataError
from caloforge.training.logged_values import progress_text
from caloforge.training.pictures import training_curves


def history(folder, steps):
    """A metrics.jsonl with a line every ten steps and an evaluation at the end."""
    rows = [
        {"step": step, "epoch": 0, "seconds": 2.0 * step, "d_real_loss": 3.0, "g_loss": 9.0 / step,
         "g_bce": 0.7, "learning_rate": 1e-3}
        for step in range(10, steps + 1, 10)
    ]  # fmt: skip
    judged = {"eval_merit": 0.3, "eval_hits_ratio": 0.9, "seconds_compute": 5.0, "seconds_input": 0.1}
    rows.append({"step": steps, "epoch": 1, "seconds": 2.0 * steps} | judged)
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_number_has_its_panel(tmp_path, assert_readable):
    figure = training_curves(history(tmp_path, 60))
    texts = assert_readable(figure)
    assert f"{tmp_path.name}: 60 steps, 2 min" in texts
    assert {"d_real_loss", "g_loss", "losses", "generated over truth"} <= set(texts)
    losses, terms, merit, ratios = figure.axes
    assert [list(line.get_ydata()) for line in losses.lines][1] == [9.0 / step for step in range(10, 61, 10)]
    assert list(terms.lines[0].get_ydata()) == [0.7] * 6
    assert list(merit.lines[0].get_ydata()) == [0.3]
    assert list(ratios.lines[0].get_xdata()) == [60]
    # no time is drawn, and no legend lies over a curve
    assert not [text for text in texts if "seconds" in text]
    boxes = [axes.get_window_extent() for axes in figure.axes]
    legends = [axes.get_legend().get_window_extent() for axes in figure.axes if axes.get_legend()]
    assert len(legends) == 1
    assert not any(box.overlaps(legend) for box in boxes for legend in legends)


def test_a_history_without_a_value_called_loss_shows_its_objective(tmp_path, assert_readable):
    rows = [{"step": 10 * i, "epoch": 0, "seconds": 1.0, "cells_nll": 9.0 / i} for i in range(1, 4)]
    rows += [{"step": 40, "epoch": 0, "seconds": 2.0, "gap_offsets": 0.3, "gap_residual_weight": 0.1}]
    rows += [{"step": 40, "epoch": 1, "seconds": 2.0, "eval_merit": 0.3, "seconds_saving": 0.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure = training_curves(tmp_path / "metrics.jsonl")
    texts = assert_readable(figure)
    losses, gaps, merit = (axes for axes in figure.axes if axes.axison)
    assert list(losses.lines[0].get_ydata()) == [9.0, 4.5, 3.0]
    assert len(gaps.lines) == 2 and len(merit.lines) == 1
    assert {"losses", "gaps between generated and real showers", "offsets", "residual_weight"} <= set(texts)


def test_what_was_only_fitted_has_a_picture_without_empty_panels(tmp_path, assert_readable):
    row = {"step": 0, "epoch": 0, "seconds": 0.0, "eval_merit": 0.3, "eval_hits_ratio": 0.9}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row | {"seconds_compute": 3.0}) + "\n")
    figure = training_curves(tmp_path / "metrics.jsonl")
    texts = assert_readable(figure)
    assert f"{tmp_path.name}: fitted" in texts and len(figure.axes) == 2


def test_a_progress_line_says_what_is_minimised():
    assert progress_text({"d_loss": 1.0, "d_bce": 3.0, "g_loss": 2.0}) == "loss d 1, g 2"
    assert (
        progress_text({"independent_nll": 2.0, "cells_nll": 1.5}) == "loss independent_nll 2, cells_nll 1.5"
    )
    assert progress_text({"loss": 0.5}) == "loss 0.5"
    assert (
        progress_text({"gap_offsets": 0.3, "gap_residual_weight": 0.1})
        == "gaps offsets 0.3, residual_weight 0.1"
    )
    assert progress_text({}) == ""


def test_a_history_of_one_line_can_be_drawn(tmp_path, assert_readable):
    assert_readable(training_curves(history(tmp_path, 10)))


@pytest.mark.parametrize("text", ["", "{", "[]\n", "3\n", '{"epoch": 1}\n'])
def test_a_history_that_cannot_be_drawn(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        training_curves(path)
    path.unlink()
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        training_curves(path)

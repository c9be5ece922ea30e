"""The picture of a training's history."""

import json

import pytest

from caloforge.errors import DataError
from caloforge.training.pictures import training_curves


def history(folder, steps):
    """A metrics.jsonl with a line every ten steps and an evaluation at the end."""
    rows = [
        {"step": step, "epoch": 0, "seconds": 2.0 * step, "d_real_loss": 3.0, "g_loss": 9.0 / step,
         "g_bce": 0.7, "learning_rate": 1e-3}
        for step in range(10, steps + 1, 10)
    ]  # fmt: skip
    rows.append(
        {"step": steps, "epoch": 1, "seconds": 2.0 * steps, "eval_merit": 0.3, "eval_hits_ratio": 0.9}
    )
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

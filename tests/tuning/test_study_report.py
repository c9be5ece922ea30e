"""study.html and study.json of studies that are made up, the page in headless Chromium."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "validation"))
import headless
import numpy as np

from caloforge.tuning.plots import BLUE, _recolour, short_names
from caloforge.tuning.report import aligned, build_report
from caloforge.tuning.space import Space
from caloforge.tuning.storage import open_study
from caloforge.tuning.study_document import best_trials, study_document
from caloforge.tuning.suggestion_thread import COMPLETE, START

SPACE = {
    "training.optimizer.learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "model.generator.blocks.0.filters": {"kind": "int", "low": 2, "high": 9},
    "model.discriminator.blocks.0.filters": {"kind": "int", "low": 2, "high": 9},
    "training.optimizer.kind": {"kind": "categorical", "choices": ["adam", "rmsprop"]},
    "training.optimizer.momentum": {
        "kind": "float", "low": 0, "high": 0.9, "when": {"training.optimizer.kind": "adam"},
    },
}  # fmt: skip


@pytest.fixture
def made(folder, study, tmp_path):
    """Makes a study of trials whose figures are given, and its document."""

    def make(figures, objectives=("merit",), **facts):
        from optuna.trial import TrialState

        config = study(space=SPACE, objectives=[{"figure": name} for name in objectives])
        space = Space(config, folder)
        opened = open_study(tmp_path, config, space)
        for number, values in enumerate(figures):
            trial = opened.ask()
            space.suggest(trial)
            trial.set_user_attr(COMPLETE, True)
            trial.set_user_attr(START, number == 0)
            run = tmp_path / f"trials/{number:05d}/fold-0"
            run.mkdir(parents=True)
            rows = [{"step": 10 * i, "eval_merit": 1 / (i + 1)} for i in range(4)]
            (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
            if values is None:
                trial.set_user_attr("reason", "train: the loss </script><b>is not</b> finite")
                opened.tell(trial, state=TrialState.FAIL)
            else:
                trial.set_user_attr("noise", [0.1] * len(values))
                opened.tell(trial, values)
        numbers = {"seconds": 4000.0, "suggesting_seconds": 1.0, "idle_share": 0.012, "final": None}
        return opened, study_document(opened, config, tmp_path, **numbers | facts)

    return make


def many(count, objectives=1):
    rng = np.random.default_rng(2)
    return [None if n == 3 else [float(v) for v in rng.uniform(0.1, 9, objectives)] for n in range(count)]


def test_the_front_is_what_no_trial_beats_in_every_objective(made):
    figures = [[3, 3], [1, 5], [2, 2], [5, 1], [2, 2.5], None, [6, 6]]
    study, document = made(figures, ("merit", "ms_per_shower"))
    assert best_trials(study) == document["front"] == [1, 2, 3] and document["best"] == 1
    assert document["counts"] == {"complete": 6, "pruned": 0, "fail": 1, "running": 0}
    json.dumps(document, allow_nan=False)


def test_one_objective_has_one_best_trial(made):
    study, document = made([[3.0], [1.0], [1.0], None])
    assert best_trials(study) == [1] and document["start"] == 0


def test_a_study_without_any_result_has_a_page(made):
    study, document = made([None, None])
    assert document["best"] is None
    page = build_report(study, document)
    assert "No trial was completed" in page and "<b>is not</b>" not in page


def test_names_are_short_and_still_tell_keys_apart():
    assert short_names(list(SPACE)) == {
        "training.optimizer.learning_rate": "optimizer.learning_rate",
        "model.generator.blocks.0.filters": "generator.blocks.0.filters",
        "model.discriminator.blocks.0.filters": "discriminator.blocks.0.filters",
        "training.optimizer.kind": "optimizer.kind",
        "training.optimizer.momentum": "optimizer.momentum",
    }


FINAL = {
    "trials": {"start": 0, "best": 1},
    "test": {"file": "test.h5", "sha256": "0"},
    "figures": {
        "merit_sum": {
            "start": {"value": 0.5, "standard_error": 0.01},
            "best": {"value": 0.3, "standard_error": None},
            "improvement": 0.4,
        }
    },
}


@pytest.mark.skipif(headless.PROGRAM is None, reason="no Chromium is installed")
@pytest.mark.slow
def test_the_page_draws_every_figure_and_asks_no_network(made, tmp_path):
    study, document = made(many(12, 2), ("merit", "ms_per_shower"), final=FINAL)
    path = tmp_path / "study.html"
    path.write_text(build_report(study, document))
    browser = headless.Browser()
    try:
        browser.resize(1280, 900)
        browser.open(path.as_uri())
        plots = browser.run(
            "[...document.querySelectorAll('.plot')].map(p => [p.id, p.querySelectorAll('.main-svg').length])"
        )
        assert {name for name, _ in plots} == {
            f"plot-{kind}-{index}"
            for kind in ("history", "importance", "parallel", "slices")
            for index in (0, 1)
        } | {"plot-pareto", "plot-learning"}
        assert all(count > 0 for _, count in plots)
        text = browser.run("document.querySelector('main').innerText")
        assert "which the search never saw" in text and "+40.0%" in text and "is not" in text
        # no text of a figure is cut by its frame
        outside = browser.run(OUTSIDE)
        assert outside == []
        # a click on a heading sorts its column
        column = (
            "[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[2].dataset.value)"
        )
        browser.run("document.querySelectorAll('table.sortable th button')[2].click()")
        values = [float(v) for v in browser.run(column) if v]
        assert values == sorted(values) and len(values) == 11
        # ink, grid and button in the dark
        browser.resize(1280, 900, dark=True)
        browser.wait("document.documentElement.dataset.theme === 'dark'")
        ink = "getComputedStyle(document.querySelector('#plot-history-0 .xtick text')).fill"
        browser.wait(f"{ink} === 'rgb(230, 233, 237)'")
        browser.run("document.getElementById('theme').click()")
        browser.wait(f"{ink} === 'rgb(27, 31, 36)'")
        # on a phone nothing is wider than the page; what needs more room scrolls by itself
        browser.resize(390, 800)
        browser.wait("document.documentElement.scrollWidth <= 390")
        browser.wait("document.querySelector('#plot-slices-0')._fullLayout.width === 600")
        browser.wait("document.querySelector('#plot-history-0')._fullLayout.width < 390")
        assert browser.run(OVERLAPPING) == []
        assert browser.pdf().startswith(b"%PDF")
        assert browser.errors == []
    finally:
        browser.close()


OVERLAPPING = """
[...document.querySelectorAll('.plot')].flatMap(plot => {
  const texts = [...plot.querySelectorAll('.xtitle, .ytitle, .ytick text')].filter(t => t.textContent);
  const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0);
  return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2
  ).map(([other]) => `${plot.id}: ${one} | ${other}`));
})
"""


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([2.5, 0.31, None, 10.0], ["2.50", "0.31", "–", "10.00"]),
        ([0.002, 0.0123, 0.1], ["0.0020", "0.0123", "0.1000"]),
        ([1e-4, 3e-2], ["1.00e-04", "3.00e-02"]),
        ([0.0, 2.0], ["0.000", "2.000"]),
        ([2e9, 1e9], ["2.00e+09", "1.00e+09"]),
        ([7, "adam", [3, 3], True], ["7", "adam", "[3, 3]", "True"]),
        ([], []),
    ],
)
def test_the_numbers_of_a_column_are_aligned(values, shown):
    assert aligned(values) == shown


def test_lines_of_the_parallel_coordinates_have_the_colours_of_their_scale():
    for direction, best in (("minimize", 0.0), ("maximize", 1.0)):
        lines, scale = parallel(direction)
        ends = {height: colour for height, colour in lines if height in (0.0, 1.0)}
        assert ends == {best: "rgb(0, 114, 178)", 1 - best: "rgb(180, 187, 196)"}
        assert scale[int(best)][1] == BLUE


def parallel(direction):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction)
    for x in (0.0, 0.3, 1.0):
        study.add_trial(
            optuna.create_trial(
                params={"x": x}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)}, value=x
            )
        )
    figure = json.loads(optuna.visualization.plot_parallel_coordinate(study).to_json())
    _recolour(figure["data"])
    lines = [(t["y"][0], t["line"]["color"]) for t in figure["data"] if t.get("mode") == "lines"]
    return lines, figure["data"][-1]["marker"]["colorscale"]


OUTSIDE = """
[...document.querySelectorAll('.plot')].flatMap(plot => {
  const frame = plot.getBoundingClientRect();
  return [...plot.querySelectorAll('svg text')].filter(text => {
    const box = text.getBoundingClientRect();
    const beside = box.left < frame.left - 2 || box.right > frame.right + 2;
    return box.width > 0 && (beside || box.bottom > frame.bottom + 2);
  }).map(text => plot.id + ': ' + text.textContent);
})
"""


def test_the_page_is_one_file_without_addresses_of_its_own(made):
    study, document = made(many(6))
    page = build_report(study, document)
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", own) and "default-src 'none'" in page
    assert page.count("<script") == 3

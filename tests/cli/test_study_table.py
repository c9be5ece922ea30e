"""What a search shows while it runs."""

import io
from types import SimpleNamespace

from rich.console import Console

from caloforge.commands.study_progress import StudyTable


def standing(ended, running=(), **facts):
    runs = [
        SimpleNamespace(proposal=SimpleNamespace(number=number), best=best, started=0.0)
        for number, best in running
    ]
    return SimpleNamespace(ended=ended, running=runs, limit=20, before=3, idle=0.021, **facts)


ENDED = {3: ("complete", [0.4321], ""), 4: ("fail", None, "train: the loss is not finite")}


def test_without_a_terminal_every_trial_that_ends_is_a_line(capsys):
    with StudyTable(["merit"]) as table:
        table.update(standing({3: ENDED[3]}))
        table.update(standing(ENDED, [(5, 0.7)]))
        table.update(standing(ENDED, [(5, 0.7)]))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("tune: trial 3 complete merit 0.4321; 4/20 trials")
    assert "trial 4 fail train: the loss is not finite; 5/20 trials" in lines[1] and "idle 2.1 %" in lines[1]


def test_a_terminal_shows_a_table(monkeypatch):
    screen = io.StringIO()
    table = StudyTable(["merit", "ms_per_shower"])
    table._console = Console(file=screen, force_terminal=True, width=110)
    monkeypatch.setenv("TERM", "xterm")
    ended = {3: ("complete", [0.4321, 5.0], ""), 4: ENDED[4]}
    with table:
        table.update(standing(ended, [(5, 0.71), (6, float("nan"))]))
    text = screen.getvalue()
    for expected in (
        "ms_per_shower",
        "0.4321",
        "the loss is not finite",
        "running",
        "merit 0.71 so far",
        "5/20 trials",
    ):
        assert expected in text


def test_it_can_be_silent(capsys):
    with StudyTable(["merit"], enabled=False) as table:
        table.update(standing(ENDED))
    assert capsys.readouterr() == ("", "")

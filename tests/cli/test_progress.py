"""Progress where there is no terminal: a line now and then, and one at the end."""

import io

import pytest
from rich.console import Console

from caloforge.commands import progress
from caloforge.commands.progress import Meter


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """A terminal that keeps what is shown on it."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return shown


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_lines_come_at_intervals_with_rate_and_time_left(capsys, clock):
    with Meter("simulate", 100) as meter:
        meter.update(0, 100)
        for second in range(1, 21):
            clock[0] = 100.0 + second
            meter.update(2 * second)
    assert lines(capsys) == [
        "simulate: 20/100 showers, 2 showers/s, about 40 s left",
        "simulate: 40/100 showers, 2 showers/s, about 30 s left",
    ]


def test_the_last_line_has_the_time_taken(capsys, clock):
    with Meter("train", 1, "steps") as meter:
        clock[0] += 3
        meter.update(5, 5, "loss 0.1")
    assert lines(capsys) == ["train: 5/5 steps, loss 0.1, 3 s"]


def test_what_an_earlier_run_did_is_not_counted_in_the_rate(capsys, clock):
    with Meter("simulate", 100) as meter:
        clock[0] += 5
        meter.update(50, 100)
        clock[0] += 10
        meter.update(60, 100)
    assert lines(capsys) == ["simulate: 60/100 showers, 1 showers/s, about 40 s left"]


def test_silence_when_disabled(capsys, clock):
    with Meter("simulate", 10, enabled=False) as meter:
        clock[0] += 60
        meter.update(10)
    assert lines(capsys) == []


def test_a_bar_on_a_terminal(terminal, capsys):
    with Meter("simulate", 100) as meter:
        meter.update(0, 100)
        meter.update(100, note="loss 0.1")
    assert "100/100" in terminal.getvalue()
    assert "showers/s loss 0.1" in terminal.getvalue()
    assert lines(capsys) == []


def test_without_a_unit_there_is_no_gap(capsys, clock):
    with Meter("compare observables", 1, "") as meter:
        meter.update(0, 240)
        clock[0] += 1
        meter.update(240)
    assert lines(capsys) == ["compare observables: 240/240, 240/s, 1 s"]


def test_a_long_start_explains_the_time(capsys, clock):
    with Meter("generate", 10_000) as meter:
        clock[0] += 8
        meter.update(1000, 10_000)
        clock[0] += 0.02
        meter.update(10_000)
    assert lines(capsys) == ["generate: 10000/10000 showers, 450 000 showers/s, 8 s, of which 8 s to start"]


def test_a_stream_that_nobody_reads_stops_no_work(monkeypatch, clock):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    with Meter("simulate", 1) as meter:
        meter.update(1, 1)

"""How amounts are written for people."""

import pytest

from caloforge import number_format


@pytest.mark.parametrize(
    ("value", "text"),
    [(446761, "447 000"), (0.0123456, "0.0123"), (999.9, "1 000"), (12.0, "12"), (0, "0"), (-2.5, "-2.5"),
     (1e-7, "0.0000001"), (99.96, "100"), (float("inf"), "inf"), (123, "123"), (1e12, "1 000 000 000 000")],
)  # fmt: skip
def test_plain(value, text):
    assert number_format.plain(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8, "8 s"), (0.25, "250 ms"), (0, "0 s"), (3.26, "3.3 s"), (59.4, "59 s"), (59.7, "1 min"),
     (200, "3 min 20 s"), (3600, "1 h"), (3700, "1 h 1 min"), (190_000, "2 d 4 h"), (2e-6, "2 µs"),
     (9.7, "10 s"), (86_400, "1 d"), (float("nan"), "nan s")],
)  # fmt: skip
def test_duration(seconds, text):
    assert number_format.duration(seconds) == text


def test_rate():
    assert number_format.rate(446761, "showers") == "447 000 showers/s"
    assert number_format.rate(0.0744, "steps") == "0.0744 steps/s"
    assert number_format.rate(247.2, "") == "247/s"


@pytest.mark.parametrize(
    ("share", "text"),
    [(8.3, "830 %"), (0.00012, "0.012 %"), (1, "100 %"), (0, "0 %"), (0.021, "2.1 %"), (0.999, "100 %")],
)
def test_percent(share, text):
    assert number_format.percent(share) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (512, "512 bytes"), (3200, "3.2 kB"), (1.4e9, "1.4 GB"), (1e15, "1 000 TB")],
)
def test_size(count, text):
    assert number_format.size(count) == text

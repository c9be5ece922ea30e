"""Formatting of durations, rates, fractions and sizes for people."""

from __future__ import annotations

import math

_TIMES = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def plain(value: float, digits: int = 3) -> str:
    """A number in decimal notation with `digits` significant digits: "12.3", "447 000"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits}g}")
    places = max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)
    text = f"{rounded:,.{places}f}".replace(",", " ")
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float) -> str:
    """A time such as "8.2 ms", "45 s", "3 min 20 s" or "2 d 5 h"."""
    if not math.isfinite(seconds):
        return f"{seconds} s"
    whole = round(seconds)
    for size, unit, small, small_unit in _TIMES:
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    if seconds >= 9.5 or seconds <= 0:
        return f"{whole} s"
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{plain(seconds / scale, 2)} {unit}"
    return f"{plain(seconds / 1e-6, 2)} µs"


def rate(per_second: float, unit: str) -> str:
    """A rate such as "2.5 showers/s" or "447 000 showers/s"; without a unit "2.5/s"."""
    return f"{plain(per_second)} {unit}/s" if unit else f"{plain(per_second)}/s"


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction as "0.012 %", "12 %" or "830 %", to that many significant digits."""
    return f"{plain(100 * fraction, digits)} %"


def size(n_bytes: float) -> str:
    """A number of bytes such as "512 bytes", "3.2 kB" or "1.4 GB"."""
    for scale, unit in _SIZES:
        if n_bytes >= scale:
            return f"{plain(n_bytes / scale)} {unit}"
    return f"{n_bytes:.0f} bytes"

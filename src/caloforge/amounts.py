"""How durations, rates, shares and sizes are written for people; the only place that decides it."""

from __future__ import annotations

import math

_TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_SMALL_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def plain(value: float, digits: int = 3) -> str:
    """A number with that many significant digits and no exponent: "12.3", "447,000"."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    text = f"{rounded:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float) -> str:
    """A time such as "8.2 ms", "45 s", "3.5 min" or "2.1 d"."""
    for size, unit in _TIMES:
        # 59.7 s are a minute
        if round(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    if seconds >= 9.95 or seconds == 0:
        return f"{seconds:.0f} s"
    for size, unit in _SMALL_TIMES:
        if seconds >= size:
            return f"{plain(seconds / size, 2)} {unit}"
    return f"{plain(seconds / 1e-6, 1)} µs"


def rate(per_second: float, unit: str) -> str:
    """A rate such as "2.5 showers/s" or "447,000 showers/s"; a `unit` that is empty gives "2.5/s"."""
    return f"{plain(per_second)} {unit}/s" if unit else f"{plain(per_second)}/s"


def percent(share: float) -> str:
    """A share such as "0.012 %", "12 %" or "830 %": two digits, all of them before the point."""
    value = 100 * share
    return f"{plain(value, 2)} %" if abs(value) < 99.5 else f"{value:,.0f} %"


def size(n_bytes: float) -> str:
    """A number of bytes such as "512 bytes", "3.2 kB" or "1.4 GB"."""
    for scale, unit in _SIZES:
        if n_bytes >= scale:
            return f"{plain(n_bytes / scale)} {unit}"
    return f"{n_bytes:.0f} bytes"

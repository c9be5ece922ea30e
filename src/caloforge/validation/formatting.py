"""Number formats of the report: values, errors and significances, each in the manner of its metric."""

from __future__ import annotations

import math

from caloforge.metrics.registry import Format, metrics

# factor and unit of each format
UNITS: dict[Format, tuple[float, str]] = {
    "percent": (100.0, " %"),
    "spreads": (1.0, " σ"),
    "plain": (1.0, ""),
}


def format_number(value: float, metric: str) -> str:
    """A value in the manner of its metric."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    kind = metrics()[metric].format
    if kind == "percent":
        percent = 100 * value
        text = f"{percent:.2f} %" if abs(percent) < 10 else f"{percent:.1f} %"
    elif kind == "spreads":
        text = f"{value:.3f} σ"
    else:
        text = f"{value:.4f}" if abs(value) < 1000 else f"{value:.0f}"
    return text.replace("-", "−")


def with_error(value: float, uncertainty: float, metric: str) -> str:
    """A value and its error, "(1.20 ± 0.35) %"."""
    if not (math.isfinite(value) and math.isfinite(uncertainty)):
        return format_number(value, metric)
    scale, unit = UNITS[metrics()[metric].format]
    digits = decimals(scale * uncertainty)
    text = f"{scale * value:.{digits}f} ± {scale * uncertainty:.{digits}f}".replace("-", "−")
    return f"({text}){unit}" if unit else text


def decimals(error: float) -> int:
    """Decimals that show two significant digits of an error, at most five."""
    return int(min(5, max(0, 1 - math.floor(math.log10(error))))) if error > 0 else 2


def format_sigma(sigma: float) -> str:
    """Standard errors beyond a threshold; empty within it."""
    if math.isnan(sigma) or sigma <= 0:
        return ""
    if math.isinf(sigma):
        return "always"
    return "> 100 σ" if sigma > 100 else f"{sigma:.1f} σ"

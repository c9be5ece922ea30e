"""Axis titles in matplotlib's mathtext as runs of styled text, for a browser."""

from __future__ import annotations

import re

Run = tuple[str, str]

_SYMBOLS = {
    "langle": "⟨", "rangle": "⟩", "theta": "θ", "varphi": "φ", "phi": "φ", "sigma": "σ", "mu": "μ",
    "alpha": "α", "beta": "β", "gamma": "γ", "eta": "η", "pi": "π", "chi": "χ", "rho": "ρ", "Delta": "Δ",
    "times": "×", "cdot": "·", "pm": "±", "geq": "≥", "leq": "≤", ",": " ", ";": " ", " ": " ",
}  # fmt: skip
_TOKEN = re.compile(
    r"\\mathrm\{(?P<upright>[^{}]*)\}|\\(?P<symbol>[A-Za-z]+|[,; ])|(?P<script>[_^])"
    r"|(?P<group>\{)|(?P<close>\})|(?P<char>.)"
)


def runs(label: str) -> list[Run]:
    """Split a title into (text, style), style "" upright, "i" italic, "sub" or "sup".

    Supports what axis titles use: math between dollars, scripts, upright text, Greek letters, brackets.
    """
    result: list[Run] = []
    for index, part in enumerate(label.split("$")):
        result += _math(part) if index % 2 else [(part, "")] if part else []
    return _merged(result)


def plain(label: str) -> str:
    """The title as plain text."""
    return "".join(text for text, _ in runs(label))


def _math(text: str) -> list[Run]:
    result: list[Run] = []
    script, depth = "", 0
    for match in _TOKEN.finditer(text):
        if match["script"]:
            script = "sub" if match["script"] == "_" else "sup"
            continue
        if match["group"]:
            depth += 1
            continue
        if match["close"]:
            depth -= 1
            script = ""
            continue
        if match["upright"] is not None:
            run = (match["upright"], script)
        elif match["symbol"]:
            run = (_SYMBOLS.get(match["symbol"], match["symbol"]), script)
        else:
            char = match["char"].replace("-", "−")
            run = (char, script or ("i" if char.isalpha() else ""))
        result.append(run)
        if not depth:
            script = ""
    return result


def _merged(parts: list[Run]) -> list[Run]:
    """Adjacent runs of one style joined."""
    result: list[Run] = []
    for text, style in parts:
        if result and result[-1][1] == style:
            result[-1] = (result[-1][0] + text, style)
        else:
            result.append((text, style))
    return result

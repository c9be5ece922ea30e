"""Names of the values in metrics.jsonl, and how a progress line shows them. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

# columns of every line
COMMON = ("step", "epoch", "seconds")
# prefix of differences between generated and real showers in a quantity that a parameter is fitted to
GAP = "gap_"
# most values in a progress line
MAX_SHOWN = 3


def is_loss(name: str) -> bool:
    """Whether a reported value is a training objective; other values are terms of one."""
    return name == "loss" or name.endswith(("_loss", "_nll"))


def progress_text(means: Mapping[str, float]) -> str:
    """Text for a progress line: the losses if there are any, else the gaps, else all values."""
    losses = {name: value for name, value in means.items() if is_loss(name)}
    if losses:
        # a single objective is itself named loss
        return f"loss {_join(losses, suffix='_loss')}".replace("loss loss", "loss")
    gaps = {name.removeprefix(GAP): value for name, value in means.items() if name.startswith(GAP)}
    return f"gaps {_join(gaps)}" if gaps else _join(means)


def _join(values: Mapping[str, float], suffix: str = "") -> str:
    parts = [f"{name.removesuffix(suffix)} {value:.3g}" for name, value in values.items()]
    return ", ".join(parts[:MAX_SHOWN])

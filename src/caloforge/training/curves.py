"""What the names of the values in metrics.jsonl mean; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Mapping

# what every line has
COMMON = ("step", "epoch", "seconds")
# of how far generated showers are from real ones, in something that a parameter moves
GAP = "gap_"
# values in a progress line
FEW = 3


def is_loss(name: str) -> bool:
    """Whether a value that a phase reports is an objective; the others are terms of one."""
    return name == "loss" or name.endswith(("_loss", "_nll"))


def shown(means: Mapping[str, float]) -> str:
    """The objectives of some steps, or what is reported in their place, for a progress line."""
    losses = {name: value for name, value in means.items() if is_loss(name)}
    if losses:
        # a single objective is called loss itself
        return f"loss {_listed(losses, removed='_loss')}".replace("loss loss", "loss")
    gaps = {name.removeprefix(GAP): value for name, value in means.items() if name.startswith(GAP)}
    return f"gaps {_listed(gaps)}" if gaps else _listed(means)


def _listed(values: Mapping[str, float], removed: str = "") -> str:
    parts = [f"{name.removesuffix(removed)} {value:.3g}" for name, value in values.items()]
    return ", ".join(parts[:FEW])

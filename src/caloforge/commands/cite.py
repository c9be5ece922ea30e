"""`caloforge cite`."""

from typing import Any

from caloforge.commands.outcome import Outcome
from caloforge.references import REFERENCES


def cite() -> Outcome:
    """Print what to cite for results made with caloforge."""
    text = "\n".join(f"{name}: {entry}" for name, entry in REFERENCES.items())
    facts: dict[str, Any] = dict(REFERENCES)
    return Outcome(text, **facts)

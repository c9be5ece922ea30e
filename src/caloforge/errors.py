"""The error classes of caloforge.

An error says what is wrong, what was found, what was expected and how to mend it. The command line prints
the message without a traceback; `exit_code` is the status it ends with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaloforgeError(Exception):
    """Base class of all errors that caloforge raises on purpose: the user can understand and fix them."""

    exit_code = 1


class ConfigError(CaloforgeError):
    """A configuration, option or command line that cannot be used."""

    exit_code = 2


class GeometryError(ConfigError):
    """A detector that cannot exist, or a mesh that does not fit it."""


class DataError(CaloforgeError):
    """A shower file that is missing, damaged, of another format or of another detector."""


class OutputError(CaloforgeError):
    """An output that exists, cannot be written, or a disk that is full."""


class SimulationError(CaloforgeError):
    """A full simulation that cannot start or whose workers died."""


class ModelError(CaloforgeError):
    """A model directory that is missing, damaged, tampered with or of another version."""


class TrainingError(CaloforgeError):
    """A training that must stop: loss not finite, generator collapsed, checkpoint unusable."""


class TuningError(CaloforgeError):
    """A hyperparameter search that cannot run: no cluster, workers that die, trials that all fail."""


class SubmissionError(CaloforgeError):
    """A job that a batch system or cluster did not accept."""


class MissingDependencyError(CaloforgeError):
    """An optional package, or a data set, that is not installed."""


class PluginError(CaloforgeError):
    """An installed package that adds something to caloforge and is broken."""


class Interrupted(CaloforgeError):  # noqa: N818 - an event, not a fault
    """Stopped on request (Ctrl-C, SIGTERM) with everything saved; the message names the command to resume."""

    exit_code = 0


def nearest(got: str, valid: Iterable[str]) -> str:
    """The hint "Did you mean 'x'?" for a misspelt name, or the list of valid names.

    Args:
        got: What the user wrote.
        valid: Every name that would have been accepted.

    Returns:
        One sentence, without a trailing space; empty when `valid` is empty.
    """
    names = sorted(set(valid))
    if not names:
        return ""
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(got.lower(), folded, n=1, cutoff=0.55)
    if close:
        return f"Did you mean {folded[close[0]]!r}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"Valid names: {shown}."

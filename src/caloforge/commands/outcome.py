"""The result of a verb: values for programs, text for people, an exit code for shells."""

from typing import Any


class Outcome(dict[str, Any]):
    """The result of a verb, a dictionary of its values.

    Attributes:
        text: What the command line prints.
        exit_code: 0; for a validation also 3 (not within its thresholds) and 4 (undecided).
    """

    def __init__(self, text: str = "", exit_code: int = 0, **facts: Any) -> None:
        """Store the values; all must be JSON-compatible or have a readable `str`."""
        super().__init__(facts)
        self.text = text
        self.exit_code = exit_code

"""Parts of a campaign that separate jobs make, such as those of an array; `caloforge join` makes one file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from caloforge.errors import ConfigError

MAX_PARTS = 100_000


@dataclass(frozen=True)
class Part:
    """One of several parts of a campaign with about as many showers each.

    Attributes:
        number: 1 to `parts`.
        parts: Number of parts.
    """

    number: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "3/16".

        Raises:
            ConfigError: Anything else.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]) <= MAX_PARTS:
            raise ConfigError(f"--part: got {text!r}, expected PART/PARTS, such as 1/16 to 16/16")
        return cls(int(found[1]), int(found[2]))

    def interval(self, n: int) -> tuple[int, int]:
        """The showers [first, last) of this part, of n.

        Raises:
            ConfigError: There are more parts than showers.

        Examples:
            >>> [Part(number, 3).interval(8) for number in (1, 2, 3)]
            [(0, 2), (2, 5), (5, 8)]
        """
        if n < self.parts:
            raise ConfigError(f"--part: {n} showers do not fill {self.parts} parts; take fewer parts")
        return (self.number - 1) * n // self.parts, self.number * n // self.parts

    def path(self, out: Path) -> Path:
        """File of this part."""
        return out.with_name(f"{out.stem}-{self.number}-of-{self.parts}{out.suffix}")


def parts_pattern(out: Path, parts: int) -> Path:
    """Pattern of the files of all parts."""
    return out.with_name(f"{out.stem}-*-of-{parts}{out.suffix}")

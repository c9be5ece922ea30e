"""Options that several verbs have: whole numbers and the limits of each kind."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token

if TYPE_CHECKING:
    # what a program may give
    FilePath = Path | str
else:
    # what a command line gives, and its help shows
    FilePath = Path

# of a seed: a 64-bit integer with a sign, and what scikit-learn takes; of showers: more than any file holds
LARGEST_SEED, LARGEST_SHORT_SEED = 2**63 - 1, 2**32 - 1
MOST_SHOWERS = 2_000_000_000
# of threads and processes on one machine
MOST_WORKERS = 1024
MOST = 1_000_000_000


def _whole(least: int, most: int) -> Callable[[Any, Sequence[Token]], int]:
    """A reader of whole numbers, written with decimal digits alone."""

    def read(_type: Any, tokens: Sequence[Token]) -> int:
        text = tokens[0].value
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        if number is None or not least <= number <= most:
            # what follows the keyword in the message of the command line
            raise ValueError(f'got "{text}", expected an integer from {least} to {most}')
        return number

    return read


Count = Annotated[int, Parameter(converter=_whole(0, MOST))]
Whole = Annotated[int, Parameter(converter=_whole(1, MOST))]
Showers = Annotated[int, Parameter(converter=_whole(1, MOST_SHOWERS))]
Seed = Annotated[int, Parameter(converter=_whole(0, LARGEST_SEED))]
ShortSeed = Annotated[int, Parameter(converter=_whole(0, LARGEST_SHORT_SEED))]
Workers = Annotated[int, Parameter(converter=_whole(1, MOST_WORKERS))]

"""Types of options that several verbs have: paths, and integers with limits."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token

if TYPE_CHECKING:
    # from Python
    FilePath = Path | str
    # one or several files that are read as one
    FilePaths = Path | str | Sequence[Path | str]
else:
    # on the command line, and in its help
    FilePath = Path
    FilePaths = list[Path]

# largest seeds: of signed 64-bit integers, and of scikit-learn; showers: more than any file holds
MAX_SEED, MAX_SHORT_SEED = 2**63 - 1, 2**32 - 1
MAX_SHOWERS = 2_000_000_000
# threads or processes on one machine
MAX_WORKERS = 1024
MAX_INTEGER = 1_000_000_000


def _whole(least: int, most: int) -> Callable[[Any, Sequence[Token]], int]:
    """A converter for integers in decimal digits, within limits."""

    def read(_type: Any, tokens: Sequence[Token]) -> int:
        text = tokens[0].value
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        if number is None or not least <= number <= most:
            # cyclopts puts the option in front of the message
            raise ValueError(f'got "{text}", expected an integer from {least} to {most}')
        return number

    return read


# an option with one or several values: `--data a.h5 b.h5`, or repeated
SEVERAL = Parameter(negative=(), consume_multiple=1)

Count = Annotated[int, Parameter(converter=_whole(0, MAX_INTEGER))]
Whole = Annotated[int, Parameter(converter=_whole(1, MAX_INTEGER))]
Showers = Annotated[int, Parameter(converter=_whole(1, MAX_SHOWERS))]
Seed = Annotated[int, Parameter(converter=_whole(0, MAX_SEED))]
ShortSeed = Annotated[int, Parameter(converter=_whole(0, MAX_SHORT_SEED))]
Workers = Annotated[int, Parameter(converter=_whole(1, MAX_WORKERS))]

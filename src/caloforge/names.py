"""Names of what comes with caloforge, told apart from paths: the one rule for all of them.

A name that comes with caloforge wins over a file or folder of that name; what has a separator or a suffix is
a path, as `./demo` or `demo.yaml`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from caloforge.output import note


def shipped_name(source: str | Path, names: Iterable[str], kind: str, folder: Path = Path()) -> str | None:
    """The name that a source is, or None where it can only be a path.

    Where a file or folder has the name as well, a line on standard error says which was taken.

    Args:
        source: What the user wrote.
        names: Names of this kind that come with caloforge.
        kind: "recipe", "detector", ...; for that line.
        folder: Where a path would begin.
    """
    text = str(source)
    if text not in names:
        return None
    if os.path.lexists(folder / text):
        _say_taken(text, kind, str((folder / text).absolute()))
    return text


def is_path(source: str | Path) -> bool:
    """Whether a source is written as a path: with a separator or a suffix."""
    text = str(source)
    return os.sep in text or bool(Path(text).suffix) or text in (os.curdir, os.pardir)


# a verb may ask for the same name several times
@functools.cache
def _say_taken(name: str, kind: str, there: str) -> None:
    what = "folder" if Path(there).is_dir() else "file"
    note(f"{name} is the {kind} that comes with caloforge; for the {what} here write .{os.sep}{name}")

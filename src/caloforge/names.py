"""The rule that tells names of shipped recipes, detectors, models, ... from paths.

A name that comes with caloforge wins over a file or folder of that name; a word with a separator or a suffix
is a path, such as `./demo` or `demo.yaml`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from caloforge.output import print_note


def shipped_name(source: str | Path, names: Iterable[str], kind: str, folder: Path = Path()) -> str | None:
    """The shipped name that `source` is, or None where it is a path.

    A note on standard error tells the user where a file or folder has the same name.

    Args:
        source: What the user wrote.
        names: Names of this kind that come with caloforge.
        kind: "recipe", "detector", ...; for the note.
        folder: The folder that relative paths start from.
    """
    text = str(source)
    if text not in names:
        return None
    if os.path.lexists(folder / text):
        _note_ambiguous(text, kind, str((folder / text).absolute()))
    return text


def is_path(source: str | Path) -> bool:
    """Whether a source is written as a path: with a separator or a suffix."""
    text = str(source)
    return os.sep in text or bool(Path(text).suffix) or text in (os.curdir, os.pardir)


# cached: a verb may resolve the same name several times, one note is enough
@functools.cache
def _note_ambiguous(name: str, kind: str, there: str) -> None:
    what = "folder" if Path(there).is_dir() else "file"
    print_note(f"{name} is the {kind} that comes with caloforge; for the {what} here write .{os.sep}{name}")

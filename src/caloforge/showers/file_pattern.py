"""Patterns that name several files: wildcards `*`, `?`, `[1-3]` and alternatives `{a,b}`, as in a shell."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from caloforge.errors import DataError

# one path or pattern, or several of them
Files = Path | str | Sequence[Path | str]

# names that are written out
MOST_NAMES = 4
_SPECIAL = re.compile(r"[*?\[\]{},]")
_BRACES = re.compile(r"\{.*,.*\}", re.DOTALL)


def is_pattern(path: Path | str) -> bool:
    """Whether a path is a pattern: it has wildcards or alternatives, and no file of that name exists."""
    text = os.fspath(path)
    return bool(glob.has_magic(text) or _BRACES.search(text)) and not os.path.lexists(text)


def joined_path(paths: Files) -> Path:
    """Several paths or patterns as one pattern.

    Examples:
        >>> str(joined_path(["a.h5", "runs/b-*.h5"]))
        '{a.h5,runs/b-*.h5}'
    """
    if isinstance(paths, str | os.PathLike):
        return Path(paths)
    texts = [str(path) if is_pattern(path) else _escaped(str(path)) for path in paths]
    if not texts:
        raise DataError("no shower file is given; expected at least one")
    if len(texts) == 1:
        return Path(paths[0])
    if any(Path(text).is_absolute() for text in texts):
        # below one root, so that the pattern itself is absolute
        return Path(f"/{{{','.join(str(Path(text).absolute())[1:] for text in texts)}}}")
    return Path(f"{{{','.join(texts)}}}")


def pattern_name(path: Path) -> str:
    """Name of a shower file without its folder; of a pattern, the names of its alternatives.

    Examples:
        >>> pattern_name(Path("runs/a.h5"))
        'a.h5'
        >>> pattern_name(Path("{runs/a.h5,runs/b-*.h5}"))
        'a.h5, b-*.h5'
    """
    names = [Path(text).name for text in itertools.islice(_alternatives(str(path)), MOST_NAMES + 1)]
    return ", ".join(names) if len(names) <= MOST_NAMES else ", ".join([*names[:MOST_NAMES], "..."])


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"[{found[0]}]", text)


def matching_files(path: Path | str) -> list[Path]:
    """The files that a pattern names: alternatives in their order, those of a wildcard by name.

    Numbers in names are compared as numbers: `train-2.h5` comes before `train-10.h5`.

    Raises:
        DataError: A wildcard matches no file, or a file is named twice.
    """
    found: list[Path] = []
    for text in _alternatives(os.fspath(path)):
        if not glob.has_magic(text):
            found.append(Path(text))
            continue
        names = sorted(glob.glob(text), key=_by_number)  # noqa: PTH207 - absolute patterns, too
        if not names:
            raise DataError(f"{text}: no file matches; expected shower files, such as train-1.h5")
        found += map(Path, names)
    seen: dict[tuple[int, int], Path] = {}
    for file in found:
        if file.exists():
            state = file.stat()
            first = seen.setdefault((state.st_dev, state.st_ino), file)
            if first is not file:
                raise DataError(f"{file}: named twice (as {first}); its showers would be read twice")
    return found


def files_of(path: Path | str) -> list[Path]:
    """The files of a pattern, or the one that a path names.

    Raises:
        DataError: See `matching_files`.
    """
    return matching_files(path) if is_pattern(path) else [Path(path)]


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _alternatives(text: str) -> Iterator[str]:
    """Expand the first braces of a text, then those of the results."""
    depth, start, cuts = 0, -1, list[int]()
    for place, sign in _unescaped(text):
        if sign == "{":
            start = place if depth == 0 else start
            depth += 1
        elif sign == "," and depth == 1:
            cuts.append(place)
        elif sign == "}" and depth:
            depth -= 1
            if depth == 0 and cuts:
                edges = [start, *cuts, place]
                for low, high in itertools.pairwise(edges):
                    yield from _alternatives(text[:start] + text[low + 1 : high] + text[place + 1 :])
                return
    yield text


def _unescaped(text: str) -> Iterator[tuple[int, str]]:
    """Characters with their places, without those in brackets."""
    place = 0
    while place < len(text):
        if text[place] == "[" and (end := text.find("]", place + 2)) > 0:
            place = end + 1
            continue
        yield place, text[place]
        place += 1

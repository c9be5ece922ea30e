"""Standard output and error, which end no command: closed, full, or of an encoding that lacks a character."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TextIO

from caloforge.errors import OutputError

# an error longer than this helps nobody; lines longer than the second are cut in the middle
MESSAGE, LINE = 1000, 400
# half characters: with the first, Python keeps bytes of a name that it cannot decode
_BYTES, _OTHERS = re.compile("[\udc80-\udcff]"), re.compile("[\ud800-\udc7f\udd00-\udfff]")


def open_streams() -> None:
    """Make the three standard streams usable for this process.

    A closed one becomes the null device, so that no file opened later takes its number and what a library
    prints. Characters that the encoding lacks are escaped.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # takes the lowest free number, which is this one
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process
            setattr(sys, name, stream)
        if mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def write_out(text: str) -> None:
    """Write to standard output; a reader that has seen enough is no error.

    Raises:
        OutputError: It cannot be written, as on a full disk.
    """
    try:
        sys.stdout.write(readable(text))
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except OSError as error:
        discard(sys.stdout)
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from error


def readable(text: str) -> str:
    """A text that any encoding of Unicode takes.

    Names of files that Python could not decode hold surrogates, on which files, terminals and pictures fail.
    """
    text = _OTHERS.sub("\ufffd", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if _BYTES.search(text) else text


def tell(line: str) -> None:
    """Write a line to standard error, or nothing where nobody can read it."""
    try:
        sys.stderr.write(f"{readable(line)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(sys.stderr)
    except AttributeError:
        # closed, and not by `open_streams`
        return


def note(text: str) -> None:
    """Tell the user something that is no error, on standard error."""
    tell(f"note: {text}")


def discard(stream: TextIO) -> None:
    """Send what a stream still holds to the null device, or Python would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def shorten(message: str) -> str:
    """A message of at most 1000 characters, without characters that a terminal would obey."""
    lines = [_printable(_middle_cut(readable(line))) for line in message.splitlines()]
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if kept and size > MESSAGE - 50:
            return "\n".join([*kept, f"… and {len(lines) - len(kept)} more lines"])
        kept.append(line)
    return "\n".join(kept)


def _middle_cut(line: str) -> str:
    if len(line) <= LINE:
        return line
    head, tail = line[: LINE // 2], line[-LINE // 4 :]
    return f"{head} … {len(line) - len(head) - len(tail)} characters … {tail}"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)

"""Robust writing to standard output and error: closed pipes, full disks, encodings without a character."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TextIO

from caloforge.errors import OutputError

# characters of an error message, and of one of its lines, which is cut in the middle
MAX_MESSAGE, MAX_LINE = 1000, 400
# surrogates: with the first kind, Python keeps bytes of a file name that it cannot decode
_ESCAPED_BYTES, _OTHER_SURROGATES = re.compile("[\udc80-\udcff]"), re.compile("[\ud800-\udc7f\udd00-\udfff]")


def open_streams() -> None:
    """Make the three standard streams usable.

    A closed one becomes the null device: else the next opened file would get its descriptor, and the output
    of libraries. Characters that the encoding lacks are escaped.
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
    """Write to standard output; a closed pipe is no error.

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
    """A text without surrogates, which UTF-8 and matplotlib refuse.

    File names that Python could not decode hold them.
    """
    text = _OTHER_SURROGATES.sub("\ufffd", text)
    return (
        text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if _ESCAPED_BYTES.search(text)
        else text
    )


def write_line(line: str) -> None:
    """Write a line to standard error; does nothing where that is closed."""
    try:
        sys.stderr.write(f"{readable(line)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(sys.stderr)
    except AttributeError:
        # sys.stderr is None: closed, and `open_streams` was not called
        return


def print_note(text: str) -> None:
    """Write a note, which is no error, to standard error."""
    write_line(f"note: {text}")


def discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that Python can flush it at exit without an error."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def shorten(message: str) -> str:
    """A message of at most 1000 characters, control characters escaped."""
    lines = [_escape_control(_cut_middle(readable(line))) for line in message.splitlines()]
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line) + 1
        if kept and size > MAX_MESSAGE - 50:
            return "\n".join([*kept, f"… and {len(lines) - len(kept)} more lines"])
        kept.append(line)
    return "\n".join(kept)


def _cut_middle(line: str) -> str:
    if len(line) <= MAX_LINE:
        return line
    head, tail = line[: MAX_LINE // 2], line[-MAX_LINE // 4 :]
    return f"{head} … {len(line) - len(head) - len(tail)} characters … {tail}"


def _escape_control(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)

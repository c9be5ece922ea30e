"""`python watchdog.py PID ...`: kills processes once its standard input is closed.

The agents of Ray's raylet notice within a second that it is gone, then wait a minute for an answer from what
is gone as well (Ray 2.60). A search that is killed cannot end them; this process can, since its standard
input is closed by the kill. It imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

RAYLET = "raylet"


@contextlib.contextmanager
def watchdog() -> Iterator[None]:
    """End what the raylets of this process have started, however this process ends."""
    raylets = [pid for pid, parent, name in _processes() if parent == os.getpid() and name == RAYLET]
    agents = [pid for pid, parent, _ in _processes() if parent in raylets]
    if not agents or not hasattr(os, "pidfd_open"):
        yield
        return
    with subprocess.Popen(  # noqa: S603 - this file
        [sys.executable, "-I", "-S", __file__, *map(str, agents)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # neither Ctrl-C nor a signal to the group of the search is for it
        start_new_session=True,
    ):
        yield


def _processes() -> Iterator[tuple[int, int, str]]:
    """Number, parent and name of each process that the system tells of."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # the name, in parentheses, may hold anything
            name, _, rest = path.read_text(encoding="utf-8").partition("(")[2].rpartition(")")
            yield int(path.parent.name), int(rest.split()[1]), name


def main() -> None:
    """Wait until standard input is closed, then kill."""
    held = []
    for pid in map(int, sys.argv[1:]):
        # of this very process, whoever has its number later
        with contextlib.suppress(OSError):
            held.append(os.pidfd_open(pid))
    sys.stdin.buffer.read()
    for descriptor in held:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)


if __name__ == "__main__":
    main()

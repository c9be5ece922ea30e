"""`python watchdog.py PID ...`: kills processes once its standard input is closed.

When a search is killed, the agents of Ray's raylet notice within a second that the raylet has died, but then
wait a minute for a server that has died too (Ray 2.60). The search cannot end them any more; this process
can, since its standard input is closed by the kill. It imports only the standard library.
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
    """Kill the agents started by the raylets of this process when it ends, however it ends."""
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
        # keeps Ctrl-C and signals to the process group of the search away from it
        start_new_session=True,
    ):
        yield


def _processes() -> Iterator[tuple[int, int, str]]:
    """Process id, parent and name of each process in /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # the name is in parentheses and may contain any character
            name, _, rest = path.read_text(encoding="utf-8").partition("(")[2].rpartition(")")
            yield int(path.parent.name), int(rest.split()[1]), name


def main() -> None:
    """Wait until standard input is closed, then kill the processes."""
    held = []
    for pid in map(int, sys.argv[1:]):
        # a pidfd stays bound to this process even if its id is reused
        with contextlib.suppress(OSError):
            held.append(os.pidfd_open(pid))
    sys.stdin.buffer.read()
    for descriptor in held:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)


if __name__ == "__main__":
    main()

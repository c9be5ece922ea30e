"""A first look at an HDF5 file in a process of its own, which may hang or crash without harm.

A damaged or hostile file can send the HDF5 library around in circles, or make it crash; neither can be
stopped from within. So a forked process walks over everything that is not showers (attributes, links, types,
chunk indices) with a limit on its CPU time, in some milliseconds; it is asked once for each file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import resource
import signal
import warnings
from pathlib import Path

import h5py

# CPU seconds of the look, and bytes of a file for which it gets one more; the index of a million chunks takes
# a quarter of one
CPU_SECONDS = 1
BYTES_PER_SECOND = 10**8
# rows of different lengths that are read at once, and bytes of a chunk that is tried
ROWS = 64
TRIED = 2**24
# bytes the look may take beyond what the process has
MEMORY = 2**29
# names and attributes that are looked at
MAX_ITEMS = 1000

# device, inode, size and time of change of files that have been looked at
_seen: dict[tuple[int, int, int, int], str] = {}


def look(path: Path) -> str:
    """Why HDF5 cannot read a file without hanging or crashing; empty where it can.

    A file that HDF5 refuses with an error is no concern of this function.
    """
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if key not in _seen:
        _seen[key] = _ask(path, CPU_SECONDS + found.st_size // BYTES_PER_SECOND)
    return _seen[key]


def _ask(path: Path, seconds: int) -> str:
    with warnings.catch_warnings():
        # the child runs HDF5 alone, whose lock h5py keeps whole over a fork; other threads do not matter
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # os._exit: nothing of the parent (buffers, exit handlers) is to run here
        try:
            _walk_with_limits(path, seconds)
        finally:
            os._exit(0)
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:
        # a process that ignores SIGCHLD never hears how its children ended
        return ""
    if not os.WIFSIGNALED(status):
        return ""
    if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return f"it is damaged: HDF5 does not come to an end reading it ({seconds} s of CPU time)"
    return f"it is damaged: HDF5 crashes reading it ({signal.Signals(os.WTERMSIG(status)).name})"


def _walk_with_limits(path: Path, seconds: int) -> None:
    faulthandler.disable()
    for number in (signal.SIGXCPU, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT):
        signal.signal(number, signal.SIG_DFL)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    # what HDF5 prints of itself
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    with contextlib.suppress(Exception), h5py.File(path, "r") as file:
        _walk(file)


def _walk(file: h5py.File) -> None:
    with contextlib.suppress(Exception):
        for _, name in zip(range(MAX_ITEMS), file.attrs.keys(), strict=False):
            with contextlib.suppress(Exception):
                file.attrs.get_id(name).get_storage_size()
                _ = file.attrs[name]
    for _, name in zip(range(MAX_ITEMS), file, strict=False):
        with contextlib.suppress(Exception):
            if isinstance(file.get(name, getlink=True), h5py.HardLink):
                _look_at(file[name])


def _look_at(item: h5py.Group | h5py.Dataset) -> None:
    if not isinstance(item, h5py.Dataset):
        return
    plist = item.id.get_create_plist()
    _ = (item.shape, item.external, item.is_virtual, plist.get_nfilters(), item.fillvalue)
    if item.chunks:
        # walks over the whole index
        item.id.get_num_chunks()
    if h5py.check_vlen_dtype(item.dtype) is not None:
        # each row is an address of its own
        for start in range(0, len(item), ROWS):
            _ = item[start : start + ROWS]
    elif item.shape and item.dtype.itemsize * math.prod(item.chunks or item.shape[1:]) <= TRIED:
        _ = item[:1]

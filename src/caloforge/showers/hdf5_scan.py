"""A scan of an HDF5 file in a child process, which may hang or crash without harm.

A damaged or malicious file can send the HDF5 library into an endless loop, or crash it; neither can be caught
in the same process. So a forked process reads all metadata (attributes, links, types, chunk indices) under a
limit of CPU time and memory. That takes some milliseconds, once per file.
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

# CPU seconds of the scan, and bytes of the file for each further second; the index of a million chunks takes
# 0.25 s
CPU_SECONDS = 1
BYTES_PER_SECOND = 10**8
# rows of variable length read at once, and largest chunk that is decompressed as a test, bytes
ROWS = 64
MAX_TESTED_CHUNK = 2**24
# additional memory of the scan, bytes
EXTRA_MEMORY = 2**29
# names and attributes that are read
MAX_ITEMS = 1000

# results by device, inode, size and modification time
_seen: dict[tuple[int, int, int, int], str] = {}


def look(path: Path) -> str:
    """Scan a file; returns why HDF5 hangs or crashes on it, or an empty text.

    Files that HDF5 refuses with an error are not reported.
    """
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if key not in _seen:
        _seen[key] = _scan_in_child(path, CPU_SECONDS + found.st_size // BYTES_PER_SECOND)
    return _seen[key]


def _scan_in_child(path: Path, seconds: int) -> str:
    with warnings.catch_warnings():
        # safe despite threads: the child uses HDF5 only, whose lock h5py keeps consistent over a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # os._exit: do not run exit handlers or flush buffers of the parent
        try:
            _walk_with_limits(path, seconds)
        finally:
            os._exit(0)
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:
        # where SIGCHLD is ignored, the exit status of children is lost
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
        (resource.RLIMIT_AS, pages * resource.getpagesize() + EXTRA_MEMORY),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    # silence the messages of HDF5
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
                _read_metadata(file[name])


def _read_metadata(item: h5py.Group | h5py.Dataset) -> None:
    if not isinstance(item, h5py.Dataset):
        return
    plist = item.id.get_create_plist()
    _ = (item.shape, item.external, item.is_virtual, plist.get_nfilters(), item.fillvalue)
    if item.chunks:
        # reads the whole index of chunks
        item.id.get_num_chunks()
    if h5py.check_vlen_dtype(item.dtype) is not None:
        # rows of variable length: each has its own address
        for start in range(0, len(item), ROWS):
            _ = item[start : start + ROWS]
    elif item.shape and item.dtype.itemsize * math.prod(item.chunks or item.shape[1:]) <= MAX_TESTED_CHUNK:
        _ = item[:1]

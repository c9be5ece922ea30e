"""Where processes of this machine listen, as /proc tells it."""

import contextlib
import ipaddress
from pathlib import Path

LISTEN = "0A"


def family(pid):
    """A process and all that descend from it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found, new = {pid}, {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def sockets(pid):
    """Numbers of the sockets that a process holds open."""
    found = set()
    with contextlib.suppress(OSError):
        for link in (Path("/proc") / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def listening(pids):
    """Address and port of each TCP socket on which one of the processes listens."""
    held = set().union(*(sockets(pid) for pid in pids))
    found = set()
    for table, size in (("tcp", 4), ("tcp6", 16)):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and fields[9] in held:
                    host, _, port = fields[1].partition(":")
                    # words of 32 bits in the order of this machine
                    words = bytes.fromhex(host)
                    raw = b"".join(words[i : i + 4][::-1] for i in range(0, size, 4))
                    found.add((ipaddress.ip_address(raw), int(port, 16)))
    return found


def beyond_loopback(pids):
    """Those of `listening` that other machines may reach."""
    found = set()
    for address, port in listening(pids):
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_loopback:
            found.add(f"{address}:{port}")
    return found

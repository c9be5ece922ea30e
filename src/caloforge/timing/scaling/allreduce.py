"""Cost model of an all-reduce: the alpha-beta model, in which a message takes latency + bytes / bandwidth.

Formulas: Thakur, Rabenseifner, Gropp, Int. J. High Perform. Comput. Appl. 19 (2005) 49, section 4.5, without
the term of the additions, which is negligible for gradients. A ring moves the minimal number of bytes with
2 (p - 1) messages in sequence; recursive halving and doubling moves the same number with 2 log2 p messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A connection between two processes or nodes.

    Attributes:
        latency: Alpha, the time of an empty message, s.
        bandwidth: 1 / beta, in one direction, bytes/s.
        source: Source of the figures.
    """

    latency: float
    bandwidth: float
    source: str = ""


@dataclass(frozen=True)
class Network:
    """Connections of a cluster.

    Attributes:
        between: Between nodes.
        inside: Between processes on a node; as `between` if None.
        per_node: Processes per node.
    """

    between: Link
    inside: Link | None = None
    per_node: int = 1

    def allreduce(self, size: float, processes: int) -> float:
        """Seconds of an all-reduce, hierarchical as in NCCL and MPI: within each node, then between nodes.

        Args:
            size: Bytes on each process.
            processes: Number of processes.
        """
        local = min(self.per_node, processes)
        nodes = math.ceil(processes / self.per_node)
        inside = self.inside or self.between
        return fastest(size, local, inside) + fastest(size, nodes, self.between)

    def step(self, messages: Iterable[float], processes: int) -> float:
        """Seconds of all messages of a step, in sequence."""
        return sum(self.allreduce(size, processes) for size in messages)


def ring(size: float, processes: int, link: Link) -> float:
    """Seconds of a ring all-reduce of `size` bytes."""
    if processes == 1:
        return 0.0
    fraction = (processes - 1) / processes
    return 2 * (processes - 1) * link.latency + 2 * fraction * size / link.bandwidth


def tree(size: float, processes: int, link: Link) -> float:
    """Seconds of an all-reduce by recursive halving and doubling.

    If the number of processes is not a power of two, the excess processes send their data to others before
    and receive the result after.
    """
    if processes == 1:
        return 0.0
    depth = math.floor(math.log2(processes))
    power = 1 << depth
    seconds = 2 * depth * link.latency + 2 * (power - 1) / power * size / link.bandwidth
    return seconds if processes == power else seconds + 2 * (link.latency + size / link.bandwidth)


def fastest(size: float, processes: int, link: Link) -> float:
    """Seconds of the faster algorithm, as libraries choose it by message size."""
    return min(ring(size, processes, link), tree(size, processes, link))


def fit(sizes: list[float], seconds: list[float], processes: int) -> Link:
    """Fit a link to measured all-reduces, minimising the relative residuals.

    Args:
        sizes: Message sizes in bytes.
        seconds: Measured times.
        processes: Number of processes; a power of two, for which ring and tree move the same bytes.

    Returns:
        The link; a negative fitted latency is replaced by zero.
    """
    import numpy as np

    depth = math.log2(processes)
    fraction = 2 * (processes - 1) / processes
    terms = np.array([[2 * depth, fraction * size] for size in sizes]) / np.array(seconds)[:, None]
    latency, per_byte = np.linalg.lstsq(terms, np.ones(len(sizes)), rcond=None)[0]
    return Link(max(float(latency), 0.0), 1 / max(float(per_byte), 1e-15), "measured here")

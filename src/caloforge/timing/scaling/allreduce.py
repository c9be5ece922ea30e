"""What an all-reduce costs: the alpha-beta model, in which a message takes latency + bytes / bandwidth.

Formulas: Thakur, Rabenseifner, Gropp, Int. J. High Perform. Comput. Appl. 19 (2005) 49, section 4.5, without
the term of the additions, which for gradients is small against the bytes. A ring moves as few bytes as is
possible but waits for 2 (p - 1) messages; halving and doubling along a tree moves as many bytes and waits for
2 log2 p messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A connection.

    Attributes:
        latency: Alpha, of a message, s.
        bandwidth: 1 / beta, in one direction, bytes/s.
        source: Where these come from.
    """

    latency: float
    bandwidth: float
    source: str = ""


@dataclass(frozen=True)
class Network:
    """Nodes, and the processes within them.

    Attributes:
        between: Of the nodes.
        inside: Of the processes of a node; the same as `between` where it is not given.
        per_node: Processes on a node.
    """

    between: Link
    inside: Link | None = None
    per_node: int = 1

    def allreduce(self, size: float, processes: int) -> float:
        """Seconds for the sum over all processes to reach all processes.

        First within each node, then between the nodes, as NCCL and MPI do it.

        Args:
            size: Bytes on each process.
            processes: How many.
        """
        local = min(self.per_node, processes)
        nodes = math.ceil(processes / self.per_node)
        inside = self.inside or self.between
        return fastest(size, local, inside) + fastest(size, nodes, self.between)

    def step(self, messages: Iterable[float], processes: int) -> float:
        """Seconds for all the messages of a step, one after the other."""
        return sum(self.allreduce(size, processes) for size in messages)


def ring(size: float, processes: int, link: Link) -> float:
    """Seconds of an all-reduce of `size` bytes around a ring."""
    if processes == 1:
        return 0.0
    share = (processes - 1) / processes
    return 2 * (processes - 1) * link.latency + 2 * share * size / link.bandwidth


def tree(size: float, processes: int, link: Link) -> float:
    """Seconds by recursive halving and doubling.

    Where the number of processes is no power of two, those beyond it hand their data over before and get it
    back after.
    """
    if processes == 1:
        return 0.0
    depth = math.floor(math.log2(processes))
    power = 1 << depth
    seconds = 2 * depth * link.latency + 2 * (power - 1) / power * size / link.bandwidth
    return seconds if processes == power else seconds + 2 * (link.latency + size / link.bandwidth)


def fastest(size: float, processes: int, link: Link) -> float:
    """The faster of both, which libraries choose by the size of the message."""
    return min(ring(size, processes, link), tree(size, processes, link))


def fit(sizes: list[float], seconds: list[float], processes: int) -> Link:
    """The link that explains measured all-reduces best, in relative terms.

    Args:
        sizes: Bytes.
        seconds: What they took.
        processes: How many processes took part; a power of two, where ring and tree agree in the bytes.

    Returns:
        Latency and bandwidth; a latency below zero, which noise may give, is zero.
    """
    import numpy as np

    depth = math.log2(processes)
    share = 2 * (processes - 1) / processes
    terms = np.array([[2 * depth, share * size] for size in sizes]) / np.array(seconds)[:, None]
    latency, per_byte = np.linalg.lstsq(terms, np.ones(len(sizes)), rcond=None)[0]
    return Link(max(float(latency), 0.0), 1 / max(float(per_byte), 1e-15), "measured here")

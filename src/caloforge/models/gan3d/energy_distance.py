"""Energy distance between two samples of features, coordinate by coordinate."""

from __future__ import annotations

import torch
from torch import Tensor


def energy_distance(first: Tensor, second: Tensor) -> Tensor:
    """Energy distance of each coordinate, D^2 = 2 E|x - y| - E|x - x'| - E|y - y'| (Szekely, Rizzo 2004).

    The estimate without bias: it may be negative. Means over pairs come from sorting, in O(n log n).

    Args:
        first: (n, k), n > 1.
        second: (m, k), m > 1.

    Returns:
        (k,).
    """
    n, m = len(first), len(second)
    own_first, own_second = _pair_sum(first), _pair_sum(second)
    across = _pair_sum(torch.cat([first, second])) - own_first - own_second
    return 2 * across / (n * m) - 2 * own_first / (n * (n - 1)) - 2 * own_second / (m * (m - 1))


def _pair_sum(values: Tensor) -> Tensor:
    """Sum of |x_i - x_j| over pairs i < j, for each coordinate."""
    n = len(values)
    weight = 2 * torch.arange(1, n + 1, device=values.device) - n - 1
    return (weight[:, None] * values.sort(0).values).sum(0)

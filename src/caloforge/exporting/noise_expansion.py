"""Any number of normal numbers from the 100 uniform ones that a consumer passes, inside the graph.

A consumer with a fixed, short latent vector still decides every shower: the normal numbers are a function of
its 100 numbers, and follow the seed of the simulation. Four words of 31 bits are sums of them; number i is a
hash of (words, i), as in counter-based generators, with the rounds of the cipher RC6 (Rivest et al. 1998): a
word is added, x becomes x (2 x + 1), and its halves are exchanged. Pairs become normal by the method of Box
and Muller. Integers stay below 2^63, and no operation on single bits is needed, so that old opsets suffice.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

LATENT = 100
# words, and the rounds that each is added in
WORDS, ROUNDS = 4, 2
BITS = 31
MODULUS, LOW, HIGH = 2**BITS, 2**16, 2 ** (BITS - 16)
# resolution of the uniform numbers that the words are made of; float32 has 24 bits
STEPS = 2**23
# of the counter: 2^31 over the golden ratio
STRIDE = 1327217885
# bits of a uniform number
MANTISSA = 24


class NoiseExpansion(nn.Module):
    """Normal numbers (N, count) from uniform numbers (N, LATENT) in [-1, 1]."""

    factors: Tensor
    counter: Tensor

    def __init__(self, count: int) -> None:
        """Prepare for a number of normal numbers."""
        super().__init__()
        self.count = count
        self.pairs = -(-count // 2)
        factors = np.random.default_rng(1).integers(2**28, 2**29, (WORDS, LATENT)) * 2 + 1
        self.register_buffer("factors", torch.from_numpy(factors), persistent=False)
        counter = (np.arange(2 * self.pairs, dtype=np.int64) + 1) * STRIDE % MODULUS
        self.register_buffer("counter", torch.from_numpy(counter), persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        """Standard normal numbers."""
        steps = ((latent + 1) * (STEPS / 2)).to(torch.int64)
        # below 2^53 before the sum, which runtimes compute in float64
        words = (steps[:, None] * self.factors % MODULUS).sum(2) % MODULUS
        value = self.counter[None]
        for number in range(WORDS * ROUNDS):
            _, value = _divided(value + words[:, number % WORDS, None], MODULUS)
            high, low = _divided((value * (2 * value + 1)) % MODULUS, LOW)
            value = low * HIGH + high
        high, _ = _divided(value, 2 ** (BITS - MANTISSA))
        uniform = (high.float() + 1) / 2**MANTISSA
        radius = (-2 * uniform[:, : self.pairs].log()).sqrt()
        angle = 2 * math.pi * uniform[:, self.pairs :]
        return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, : self.count]


def _divided(value: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of integers from 0 to 2^53 and a power of two: exact, and fast, in float64."""
    quotient = (value.double() / divisor).floor().to(torch.int64)
    return quotient, value - quotient * divisor

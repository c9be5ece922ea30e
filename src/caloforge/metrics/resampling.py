"""Uncertainty and floor of a metric by resampling: bootstrap weights, and random halves of the truth.

A metric is a *statistic* of weighted showers. Its value has unit weights. Its uncertainty is the standard
deviation over Poisson bootstrap weights. Its floor is the mean absolute value between two random halves of
the truth (weights 0 and 1), scaled to the sizes of the two samples: the expectation for equal distributions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# (R, N_truth) and (R, N_generated) weights to (R,) values
Statistic = Callable[[Array, Array], Array]
# the two samples to their statistic
Build = Callable[[NDArray[Any], NDArray[Any]], Statistic]
# how a statistic of two equal distributions shrinks with 1/n_1 + 1/n_2
Scaling = Literal["root", "linear", "none"]

# weights held at once; bounds the memory of the resampling
BLOCK_WEIGHTS = 4_000_000


@dataclass(frozen=True)
class Metric:
    """A measured difference between truth and generated showers.

    Attributes:
        value: The difference.
        uncertainty: Its statistical standard error.
        floor: Mean size of the same number between two samples of the truth, at these sample sizes.
    """

    value: float
    uncertainty: float
    floor: float

    def to_json(self) -> dict[str, float | None]:
        """The three numbers; None for one that is not finite."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


class Resampler:
    """Seeded bootstrap weights and splits for one pair of samples, shared by all its metrics."""

    def __init__(
        self, n_truth: int, n_generated: int, *, seed: int | tuple[int, ...] = 0, replicas: int = 100
    ) -> None:
        """Draw the weights: `replicas` bootstraps and as many splits of the truth.

        Args:
            n_truth: Showers of the truth, at least 2.
            n_generated: Generated showers.
            seed: Seed; the same one gives the same uncertainties.
            replicas: Bootstrap replicas; the uncertainty itself is known to about 1 / sqrt(2 replicas).
        """
        if min(n_truth, n_generated) < 2:
            raise ValueError(f"got {n_truth} and {n_generated} showers, expected at least 2 of each")
        rng = np.random.default_rng(seed)
        self.n_truth, self.n_generated, self.replicas = n_truth, n_generated, replicas
        # uint8: 255 copies of one shower do not happen, and a bootstrap of 50 000 showers is 5 MB
        self._truth = rng.poisson(1.0, (replicas, n_truth)).astype(np.uint8)
        self._generated = rng.poisson(1.0, (replicas, n_generated)).astype(np.uint8)
        order = np.tile(np.arange(n_truth) < n_truth // 2, (replicas, 1))
        self._half = rng.permuted(order, axis=1)

    def bootstrap(self) -> Iterator[tuple[Array, Array]]:
        """Blocks of bootstrap weights, (r, n_truth) and (r, n_generated)."""
        for part in self._blocks(self.n_truth + self.n_generated):
            yield self._truth[part].astype(np.float64), self._generated[part].astype(np.float64)

    def halves(self) -> Iterator[tuple[Array, Array]]:
        """Blocks of weights that split the truth in two, both (r, n_truth)."""
        for part in self._blocks(2 * self.n_truth):
            half = self._half[part]
            yield half.astype(np.float64), (~half).astype(np.float64)

    def _blocks(self, width: int) -> Iterator[slice]:
        rows = max(1, BLOCK_WEIGHTS // width)
        for start in range(0, self.replicas, rows):
            yield slice(start, start + rows)

    def floor_scale(self, scaling: Scaling) -> float:
        """Factor from the floor of halves (1/n_1 + 1/n_2 = 4 / n_truth) to that of the samples compared."""
        ratio = half_scale(self.n_truth, self.n_generated)
        return {"root": float(np.sqrt(ratio)), "linear": ratio, "none": 1.0}[scaling]

    def measure(self, build: Build, truth: NDArray[Any], generated: NDArray[Any], scaling: Scaling) -> Metric:
        """Value, uncertainty and floor of one statistic.

        Args:
            build: Makes the statistic of two samples.
            truth: (n_truth, ...) one entry per shower.
            generated: (n_generated, ...) one entry per shower.
            scaling: How the floor follows the sample sizes: "root" for what falls like sqrt(1/n_1 + 1/n_2)
                (differences of means, distances of distribution functions), "linear" for what falls like
                1/n_1 + 1/n_2 (squared differences), "none" for what is normalised to the sample sizes.
        """
        statistic = build(truth, generated)
        value = statistic(np.ones((1, len(truth))), np.ones((1, len(generated))))[0]
        drawn = np.concatenate([statistic(*weights) for weights in self.bootstrap()])
        among_truth = build(truth, truth)
        halves = np.concatenate([among_truth(*weights) for weights in self.halves()])
        floor = float(np.mean(np.abs(halves))) * self.floor_scale(scaling)
        # not finite where a replica lacks the few showers with any variance
        error = float(np.std(drawn, ddof=1)) if np.isfinite(drawn).all() else float("nan")
        return Metric(float(value), error, floor)


def halves(sample: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two random halves of a sample, for metrics that cannot be written with weights."""
    order = rng.permutation(len(sample))
    middle = len(order) // 2
    return sample[order[:middle]], sample[order[middle:]]


def half_scale(n_truth: int, n_generated: int) -> float:
    """Factor from the floor of halves to that of the given samples, for statistics of order 1/n_1 + 1/n_2."""
    return (1 / n_truth + 1 / n_generated) * n_truth / 4

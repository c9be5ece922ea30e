"""The input of a metric: two samples of whole showers, or the values of one observable in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Detector
from caloforge.metrics.resampling import Array, Resampler
from caloforge.observables import high_level_features
from caloforge.observables.energy import fractions

# showers of a sample whose voxels are kept, at most
KEPT_SHOWERS = 400
# shifts are relative to the mean unless it is smaller than this fraction of the standard deviation
MIN_MEAN = 0.25
# values whose standard deviation is below this fraction of their size count as equal
CONSTANT = 1e-6
# bins of a profile that hold less than this fraction of it are not compared one by one
MIN_FRACTION = 0.01
T = TypeVar("T")
PROFILES = ("layer_energy", "x_profile", "y_profile", "radial_profile", "azimuthal_profile")


@dataclass(frozen=True)
class _Pair:
    """Results that several metrics of one pair use, each computed once."""

    _results: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shared(self, function: Callable[[Self], T]) -> T:
        """The result of a function of this pair; computed by the first metric that asks for it."""
        if function not in self._results:
            self._results[function] = function(self)
        result: T = self._results[function]
        return result


@dataclass(frozen=True)
class ShowerSample:
    """N showers as the metrics of whole samples use them.

    Attributes:
        detector: Their detector.
        values: Result of `observables.observe`: by name, (N,) or (N, k).
        incident_energy: (N,) MeV.
        energy_bin: (N,) number of the bin of incident energy, -1 for none.
        kept_showers: (m, nz, ny, nx) voxels of some of the showers, MeV; other axes on other meshes.
        kept_energy: (m,) their incident energy, MeV.
        negative_energy: Energy in voxels below zero over the visible energy, 0 or above.
    """

    detector: Detector
    values: Mapping[str, NDArray[Any]]
    incident_energy: NDArray[Any]
    energy_bin: NDArray[np.integer]
    kept_showers: NDArray[np.float32]
    kept_energy: NDArray[Any]
    negative_energy: float = 0.0

    def __len__(self) -> int:
        return len(self.incident_energy)

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """(N, k) high-level features, log10 of the incident energy among them."""
        return high_level_features(self.values, self.incident_energy)

    @cached_property
    def profiles(self) -> NDArray[np.float64]:
        """(N, k) fractions of the energy in each layer, row, column, ring and sector."""
        return np.concatenate([fractions(self.values[n]) for n in PROFILES if n in self.values], axis=1)


@dataclass(frozen=True)
class SamplePair(_Pair):
    """Full simulation and generated showers.

    Attributes:
        truth: Full simulation.
        generated: Generated showers of the same detector and the same distribution of incident conditions.
        seed: Seed of everything random.
        training: Showers that the generator was trained on, where they are known.
    """

    truth: ShowerSample
    generated: ShowerSample
    seed: int = 0
    training: ShowerSample | None = None


@dataclass(frozen=True)
class ObservablePair(_Pair):
    """The values of one observable in one bin of conditions, at fixed incident conditions.

    Attributes:
        truth: (n,) or (n, k) values of the full simulation.
        generated: (m,) or (m, k) values of the generated showers.
        kind: "scalar", or of k bins each: "profile" or "spectrum".
        signed: The mean is zero by symmetry, so that shifts are in standard deviations of the truth.
        resampler: Weights of this pair of samples.
    """

    truth: NDArray[Any]
    generated: NDArray[Any]
    kind: Literal["scalar", "profile", "spectrum"]
    signed: bool
    resampler: Resampler

    @cached_property
    def spread(self) -> Array:
        """() or (k,) standard deviation of the truth."""
        return np.asarray(self.truth.std(axis=0))

    @cached_property
    def constant(self) -> NDArray[np.bool_]:
        """() or (k,) whether all showers of the truth have one value."""
        return np.asarray(self.spread <= CONSTANT * np.abs(self.truth).max(axis=0))

    @cached_property
    def relative(self) -> bool:
        """Whether the shift of a scalar is relative to its mean rather than to its standard deviation."""
        mean = abs(float(self.truth.mean()))
        if self.constant:
            return mean > 0 and not self.signed
        return not self.signed and mean >= MIN_MEAN * float(self.spread)

    @cached_property
    def filled(self) -> NDArray[np.bool_]:
        """(k,) bins of a profile that hold more than `MIN_FRACTION` of it."""
        mean = self.truth.mean(axis=0)
        return np.asarray(mean > MIN_FRACTION * np.abs(mean).sum())

    @cached_property
    def effective_showers(self) -> Array:
        """() or (k,) how many showers carry the variance, in the sample where they are fewer."""
        result = effective_showers(self.generated)
        if self.kind == "scalar" and self.constant:
            return result
        return np.minimum(effective_showers(self.truth), result)

    @cached_property
    def fewest_effective_showers(self) -> float:
        """Of a scalar `effective_showers`; of a profile the smallest number in the filled bins."""
        if self.kind == "scalar":
            return float(self.effective_showers)
        return float(self.effective_showers[self.filled].min(initial=np.inf))


def effective_showers(values: NDArray[Any]) -> Array:
    """Number of showers that carry the variance: (sum r^2)^2 / sum r^4 of the distances r from the mean.

    A third of all for a normal distribution, 1 where a single shower lies far out. It replaces the number of
    showers as degrees of freedom: errors estimated from a few outliers are themselves uncertain.

    Args:
        values: (n,) or (n, k).

    Returns:
        () or (k,); infinite where nothing varies.
    """
    square = (values - values.mean(axis=0)) ** 2
    fourth = (square**2).sum(axis=0)
    total = square.sum(axis=0) ** 2
    result: Array = np.divide(total, fourth, out=np.full(total.shape, np.inf), where=fourth > 0)
    return result

r"""The figures of merit of the 3DGAN: P (moments), E (profiles), A (angle) and S (sampling fraction).

With G for Geant4 and g for generated showers, means over the showers of one energy bin, and :math:`S_i` the
energy in slice i along an axis, :math:`M_1 = \sum_i i\,S_i / \sum_i\,S_i` counted from 0 and
:math:`M_2 = \sum_i\,(i - M_1)^2 S_i / \sum_i\,S_i`:

.. math:: P = \langle \lvert M_k^G - M_k^g \rvert / M_k^G \rangle

over axes and k = 1, 2;

.. math:: E = \langle \lvert S_i^G - S_i^g \rvert / S_i^G \rangle

over axes and slices;

.. math:: A = \langle \lvert \theta^G - \theta^g \rvert / \theta^G \rangle

over pairs of showers, the angles measured in the voxels;

.. math:: S = \lvert F^G - F^g \rvert / F^G

with F the visible over the incident energy. Each is averaged over the energy bins (Eur. Phys. J. C 82 (2022)
386 and the scripts of that project). Two things differ from the scripts. P enters the sum once; there it was
added twice. And E averages only over slices that hold at least `MIN_SHARE` of the energy: relative deviations
of nearly empty slices are unbounded, and a few of them would dominate the mean. P includes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.resampling import Array, Metric, Resampler, Statistic

# fraction of the energy that a slice must hold, in the mean of the truth, to count in E
MIN_SHARE = 5e-4
# profiles of the axes; rings and sectors take the place of x and y on other meshes
CARTESIAN_AXES = ("x_profile", "y_profile", "layer_energy")
POLAR_AXES = ("radial_profile", "azimuthal_profile", "layer_energy")

Values = Mapping[str, NDArray[Any]]
# mean table of the truth and of the generated showers (R, columns) to the figure (R,)
Figure = Callable[[Array, Array], Array]


def merit(truth: Values, generated: Values) -> float:
    """P + E of all showers together, by which a training chooses its epoch; smaller is better.

    Args:
        truth: What `observables.observe` gives for the truth; the profiles of its three axes are used.
        generated: The same for the generated showers.

    Returns:
        P + E; infinite where the generated showers hold a value that is not finite.
    """
    columns = _Columns.of(truth)
    want, got = (columns.table(values).mean(axis=0, keepdims=True) for values in (truth, generated))
    with np.errstate(invalid="ignore", over="ignore"):
        result = float((columns.p(want, got) + columns.e(want, got))[0])
    return result if np.isfinite(result) else float("inf")


def figures_of_merit(
    truth: Values,
    generated: Values,
    resampler: Resampler,
    *,
    bins: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
    theta: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> dict[str, Metric]:
    """P, E, S, with angles A, and their sum.

    All are positive also for equal distributions, since the samples are finite: compare with the floor.

    Args:
        truth: What `observables.observe` gives: the profiles of the axes, `response`, for A `measured_angle`.
        generated: The same for the generated showers, of the same incident energies and angles.
        resampler: Weights of this pair of samples.
        bins: (n,) and (m,) number of the energy bin of each shower, negative for none; one bin by default.
        theta: (n,) and (m,) incident angles, rad, by which showers are paired for A; no A without.

    Returns:
        "P", "E", "S", "A" if asked, and "sum", which counts each of them once.

    Raises:
        ValueError: No energy bin holds at least two showers of both samples.
    """
    columns = _Columns.of(truth)
    one, other = columns.table(truth), columns.table(generated)
    labels = bins or (np.zeros(len(one), np.int64), np.zeros(len(other), np.int64))
    used = _used_bins(*labels)
    # the bin of each shower is the first column
    one, other = (np.column_stack([label, table]) for label, table in zip(labels, (one, other), strict=True))

    def measure(figure: Figure) -> Metric:
        return resampler.measure(
            lambda first, second: _binned(first, second, used, figure), one, other, "root"
        )

    result = {"P": measure(columns.p), "E": measure(columns.e), "S": measure(columns.s)}
    total = measure(lambda want, got: columns.p(want, got) + columns.e(want, got) + columns.s(want, got))
    if theta is not None:
        result["A"] = angle = _angle_figure(truth, generated, labels, used, theta)
        total = Metric(
            total.value + angle.value,
            float(np.hypot(total.uncertainty, angle.uncertainty)),
            total.floor + angle.floor,
        )
    return result | {"sum": total}


def _used_bins(truth: NDArray[np.integer], generated: NDArray[np.integer]) -> list[int]:
    used = [
        label
        for label in np.unique(truth[truth >= 0]).tolist()
        if min(np.sum(truth == label), np.sum(generated == label)) >= 2
    ]
    if not used:
        raise ValueError("no energy bin holds at least two showers of both samples")
    return used


@dataclass(frozen=True)
class _Columns:
    """Columns of a table with one row per shower: slices of each axis, two moments per axis, response."""

    axes: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, values: Values) -> _Columns:
        names = CARTESIAN_AXES if "x_profile" in values else POLAR_AXES
        axes = tuple(name for name in names if name in values)
        return cls(axes, tuple(values[axis].shape[1] for axis in axes))

    def table(self, values: Values) -> Array:
        """(n, slices + 2 axes + 1)."""
        profiles = [values[axis].astype(np.float64) for axis in self.axes]
        moments = [_moments(profile) for profile in profiles]
        response = values.get("response", np.zeros(len(profiles[0])))
        return np.column_stack([*profiles, *moments, response])

    def p(self, want: Array, got: Array) -> Array:
        """Mean relative deviation of first and second moments."""
        part = slice(sum(self.sizes), -1)
        result: Array = _relative(want[:, part], got[:, part]).mean(axis=1)
        return result

    def e(self, want: Array, got: Array) -> Array:
        """Mean over axes of the mean relative deviation of the slices that hold energy."""
        start, axes = 0, []
        for size in self.sizes:
            part = slice(start, start + size)
            counted = want[:, part] >= MIN_SHARE * want[:, part].sum(axis=1, keepdims=True)
            deviation = np.where(counted, _relative(want[:, part], got[:, part]), 0.0)
            axes.append(deviation.sum(axis=1) / counted.sum(axis=1))
            start += size
        result: Array = np.mean(axes, axis=0)
        return result

    def s(self, want: Array, got: Array) -> Array:
        """Relative deviation of the mean response."""
        return _relative(want[:, -1], got[:, -1])


def _moments(profile: Array) -> Array:
    """(n, 2) mean and variance of the slice number; 0 for an empty shower."""
    number = np.arange(profile.shape[1])
    total = profile.sum(axis=1)
    safe = np.where(total == 0, 1.0, total)
    first = profile @ number / safe
    second = ((number - first[:, None]) ** 2 * profile).sum(axis=1) / safe
    return np.column_stack([first, second])


def _relative(want: Array, got: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Array = np.where(want == got, 0.0, np.abs(got - want) / np.abs(want))
    return result


def _binned(first: Array, second: Array, used: list[int], figure: Figure) -> Statistic:
    """The figure averaged over energy bins, as a statistic of weighted rows (bin, columns ...)."""
    rows = [(np.flatnonzero(first[:, 0] == label), np.flatnonzero(second[:, 0] == label)) for label in used]

    def means(table: Array, weights: Array, where: NDArray[np.integer]) -> Array:
        part = weights[:, where]
        with np.errstate(invalid="ignore"):
            result: Array = part @ table[where, 1:] / part.sum(axis=1, keepdims=True)
        return result

    def statistic(w_first: Array, w_second: Array) -> Array:
        figures = np.stack(
            [figure(means(first, w_first, i), means(second, w_second, j)) for i, j in rows], axis=1
        )
        # a bin of few showers may be empty in a replica: average over the others
        result: Array = np.nansum(figures, axis=1) / np.maximum((~np.isnan(figures)).sum(axis=1), 1)
        return result

    return statistic


def _angle_figure(
    truth: Values,
    generated: Values,
    bins: tuple[NDArray[np.integer], NDArray[np.integer]],
    used: list[int],
    theta: tuple[NDArray[Any], NDArray[Any]],
) -> Metric:
    """A over pairs of the same rank in incident angle; the floor pairs neighbours of the truth."""
    values, variances, floors = [], [], []
    for label in used:
        seen = []
        for sample, label_of, angle in zip((truth, generated), bins, theta, strict=True):
            rows = np.flatnonzero(label_of == label)
            rows = rows[np.argsort(angle[rows], kind="stable")]
            seen.append(sample["measured_angle"][rows].astype(np.float64))
        count = min(len(angles) for angles in seen)
        paired = (angles[(np.arange(count) * len(angles)) // count] for angles in seen)
        deviation = _relative(*paired)
        values.append(deviation.mean())
        variances.append(deviation.var(ddof=1) / count)
        even = seen[0][: len(seen[0]) // 2 * 2].reshape(-1, 2)
        floors.append(_relative(even[:, 0], even[:, 1]).mean())
    error = np.sqrt(np.sum(variances)) / len(used)
    return Metric(float(np.mean(values)), float(error), float(np.mean(floors)))

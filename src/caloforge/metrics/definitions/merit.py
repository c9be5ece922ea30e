"""P, E and S of the 3DGAN, over bins of the incident energy; A needs pairs and is `angle_residual` here."""

from __future__ import annotations

from caloforge.metrics.figures_of_merit import figures_of_merit
from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.metrics.samples import SamplePair


def _merit(pair: SamplePair) -> dict[str, Metric]:
    truth, generated = pair.truth, pair.generated
    resampler = Resampler(len(truth), len(generated), seed=pair.seed)
    bins = truth.energy_bin, generated.energy_bin
    return figures_of_merit(truth.values, generated.values, resampler, bins=bins)


METRICS = (
    MetricDefinition(
        "merit_p",
        "P",
        "3DGAN figure of merit P: moments",
        "percent",
        "excess",
        of_samples=lambda pair: pair.shared(_merit)["P"],
    ),
    MetricDefinition(
        "merit_e",
        "E",
        "3DGAN figure of merit E: profiles",
        "percent",
        "excess",
        of_samples=lambda pair: pair.shared(_merit)["E"],
    ),
    MetricDefinition(
        "merit_s",
        "S",
        "3DGAN figure of merit S: sampling fraction",
        "percent",
        "excess",
        of_samples=lambda pair: pair.shared(_merit)["S"],
    ),
    MetricDefinition(
        "merit_sum",
        "P+E+S",
        "sum of the 3DGAN figures of merit",
        "percent",
        "excess",
        of_samples=lambda pair: pair.shared(_merit)["sum"],
    ),
)

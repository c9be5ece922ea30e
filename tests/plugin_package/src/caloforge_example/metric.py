import numpy as np

from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Resampler

TAIL = 0.05


def low_response(pair):
    """Fraction of generated showers below the 5 % quantile of the true response, less that of true ones."""
    truth, generated = pair.truth.values["response"], pair.generated.values["response"]
    cut = np.quantile(truth, TAIL)

    def build(first, second):
        below = [(sample < cut).astype(np.float64) for sample in (first, second)]

        def statistic(w_first, w_second):
            fractions = [w @ b / w.sum(axis=1) for w, b in zip((w_first, w_second), below, strict=True)]
            return fractions[1] - fractions[0]

        return statistic

    resampler = Resampler(len(truth), len(generated), seed=pair.seed)
    return resampler.measure(build, truth, generated, "root")


LOW_RESPONSE = MetricDefinition(
    "low_response",
    "low tail",
    "excess of showers below the 5 % quantile of the response",
    "percent",
    "magnitude",
    of_samples=low_response,
    card="showers of low response",
)

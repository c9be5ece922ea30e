"""Benchmark problems for samplers: two analytic functions, and two surrogates of trained networks.

Branin and Hartmann-6 are the functions of Dixon and Szegő, "Towards Global Optimisation 2" (1978). The other
two are surrogate benchmarks as NAS-Bench-301 (Zela et al., arXiv:2008.09777) is one: `layer_networks.csv`
holds networks that `benchmarks/layer_networks.py` trained on Geant4 showers; boosted trees (Friedman 2001)
interpolate between them.
"""

from __future__ import annotations

import csv
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler

TABLE = Path(__file__).with_name("layer_networks.csv")

# smallest known value of the training problem, from a long search
TRAINING_MINIMUM = -0.44
# nats, larger than any -value: the trees are fitted to log(value + OFFSET)
OFFSET = 0.6

Space = Mapping[str, BaseDistribution]


def _choice(*choices: str | float | bool) -> CategoricalDistribution:
    return CategoricalDistribution(choices)


# 57 600 networks
ARCHITECTURE: Space = {
    "depth": IntDistribution(1, 4),
    "width": _choice(8, 16, 32, 64, 128),
    "activation": _choice("relu", "tanh", "silu", "elu"),
    "normalisation": _choice("none", "batch", "layer"),
    "dropout": _choice(0.0, 0.02, 0.1),
    "residual": _choice(False, True),
    "components": _choice(1, 2, 4, 8),
    "context": _choice(1, 3, 6, 12, 24),
    "place": _choice("number", "one-hot"),
}
# training settings of the networks of ARCHITECTURE
TRAINED_WITH: Mapping[str, Any] = {
    "optimiser": "adam",
    "learning_rate": 3e-3,
    "weight_decay": 1e-4,
    "batch": 64,
}
TRAINING: Space = {
    "depth": IntDistribution(1, 4),
    "width": IntDistribution(8, 128, log=True),
    "activation": _choice("relu", "tanh", "silu", "elu"),
    "normalisation": _choice("none", "batch", "layer"),
    "dropout": FloatDistribution(0.0, 0.3),
    "residual": _choice(False, True),
    "components": IntDistribution(1, 8),
    "context": IntDistribution(1, 24),
    "place": _choice("number", "one-hot"),
    "optimiser": _choice("adam", "rmsprop", "sgd"),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    "batch": IntDistribution(16, 256, log=True),
    "momentum": FloatDistribution(0.0, 0.98),
}
SPACES: Mapping[str, Space] = {"architecture": ARCHITECTURE, "training": TRAINING}
# a parameter that exists only where another has this value
CONDITIONS: Mapping[str, tuple[str, str]] = {"momentum": ("optimiser", "sgd")}


@dataclass(frozen=True)
class Problem:
    """A function to minimise.

    Attributes:
        name: Of the problem.
        space: Every parameter.
        value: The function of the active parameters.
        minimum: Its smallest (known) value.
        conditions: Parameters that are active only where another has a value.
    """

    name: str
    space: Space
    value: Callable[[Mapping[str, Any]], float]
    minimum: float
    conditions: Mapping[str, tuple[str, Any]] = field(default_factory=dict)

    def ask(self, trial: Trial) -> dict[str, Any]:
        """Suggest the active parameters of a trial, in order."""
        params: dict[str, Any] = {}
        for name, distribution in self.space.items():
            if name in self.conditions:
                other, wanted = self.conditions[name]
                if params[other] != wanted:
                    continue
            params[name] = _suggest(trial, name, distribution)
        return params


def search(
    problem: Problem, sampler: BaseSampler, trials: int, *, groups: int = 4, seed: int = 0
) -> NDArray[np.float64]:
    """Run a search with several parallel trials that finish in random order.

    Args:
        problem: The function to minimise.
        sampler: The sampler.
        trials: Number of trials.
        groups: Number of trials at a time.
        seed: Seed of the order in which they finish.

    Returns:
        The best value after each trial, (trials,), never increasing.
    """
    import optuna

    rng = np.random.default_rng(seed)
    study = optuna.create_study(sampler=sampler)
    pending: list[tuple[Trial, dict[str, Any]]] = []
    values: list[float] = []
    while len(values) < trials:
        while len(pending) < groups:
            trial = study.ask()
            pending.append((trial, problem.ask(trial)))
        trial, params = pending.pop(int(rng.integers(groups)))
        values.append(problem.value(params))
        study.tell(trial, values[-1])
    return np.minimum.accumulate(values)


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def branin(params: Mapping[str, Any]) -> float:
    """Branin's function of x in [-5, 10], y in [0, 15]; its three minima have the value 5 / (4 pi)."""
    x, y = params["x"], params["y"]
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


HARTMANN_HEIGHT = (1.0, 1.2, 3.0, 3.2)
HARTMANN_WIDTH = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
HARTMANN_PLACE = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann6(params: Mapping[str, Any]) -> float:
    """Hartmann's function of x1 to x6 in [0, 1]; six local minima, the lowest -3.32237."""
    x = np.array([params[f"x{i}"] for i in range(1, 7)])
    exponents = (np.array(HARTMANN_WIDTH) * (x - np.array(HARTMANN_PLACE)) ** 2).sum(axis=1)
    return float(-np.array(HARTMANN_HEIGHT) @ np.exp(-exponents))


def branin_problem() -> Problem:
    """Branin's function as a problem with two real parameters."""
    space = {"x": FloatDistribution(-5, 10), "y": FloatDistribution(0, 15)}
    return Problem("branin", space, branin, minimum=5 / (4 * math.pi))


def hartmann6_problem() -> Problem:
    """Hartmann's function as a problem with six real parameters."""
    space = {f"x{i}": FloatDistribution(0, 1) for i in range(1, 7)}
    return Problem("hartmann-6", space, hartmann6, minimum=-3.32237)


@functools.cache
def layer_networks(space: str) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    """Parameters and values (validation negative log-likelihood of a layer, nats) of the trained networks.

    Args:
        space: "architecture" or "training".
    """
    rows = [row for row in read_table() if row["space"] == space and row["seed"] == "0"]
    distributions = SPACES[space]
    points = [{name: _value(d, row[name]) for name, d in distributions.items() if row[name]} for row in rows]
    return points, np.array([float(row["validation_nll"]) for row in rows])


def read_table(path: Path = TABLE) -> list[dict[str, str]]:
    """Rows of the table as text; its first line is a comment with its source."""
    with path.open(newline="") as stream:
        stream.readline()
        return list(csv.DictReader(stream))


def _value(distribution: BaseDistribution, text: str) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return {str(choice): choice for choice in distribution.choices}[text]
    return int(text) if isinstance(distribution, IntDistribution) else float(text)


class Surrogate:
    """A surrogate of trained networks: boosted trees that predict the value of other parameters."""

    def __init__(
        self, space: Space, points: Sequence[Mapping[str, Any]], figures: NDArray[np.float64]
    ) -> None:
        """Fit the trees (half a second for hundreds of networks)."""
        from sklearn.ensemble import GradientBoostingRegressor

        self.space = space
        self._trees = GradientBoostingRegressor(
            n_estimators=600, learning_rate=0.04, max_depth=3, subsample=0.5, max_features=0.5, random_state=0
        )
        # logarithm: networks with large values must not dominate the fit
        self._trees.fit(self._columns(points), np.log(figures + OFFSET))

    def __call__(self, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Predicted values of points, (n,)."""
        figures: NDArray[np.float64] = np.exp(self._trees.predict(self._columns(points))) - OFFSET
        return figures

    def _columns(self, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Features of points, (n, columns): numbers or their logarithms; categories one-hot encoded."""
        columns: list[list[float]] = []
        for name, distribution in self.space.items():
            values = [point.get(name) for point in points]
            if isinstance(distribution, CategoricalDistribution):
                if any(isinstance(choice, str) for choice in distribution.choices):
                    columns += [
                        [float(value == choice) for value in values] for choice in distribution.choices
                    ]
                else:
                    columns.append([float(value) for value in values if value is not None])
            else:
                assert isinstance(distribution, IntDistribution | FloatDistribution)
                change = math.log if distribution.log else float
                # -1: the parameter is not active
                columns.append([-1.0 if value is None else change(value) for value in values])
        return np.array(columns).T


@functools.cache
def _surrogate(space: str) -> Surrogate:
    points, figures = layer_networks("architecture")
    if space == "architecture":
        return Surrogate(ARCHITECTURE, points, figures)
    # networks of the other space are points of this one as well
    more, their_figures = layer_networks("training")
    points = more + [{**point, **TRAINED_WITH} for point in points]
    return Surrogate(TRAINING, points, np.append(their_figures, figures))


def architecture_problem() -> Problem:
    """57 600 architectures of a small network with fixed training settings; values from the surrogate."""
    surrogate = _surrogate("architecture")
    names = list(ARCHITECTURE)
    ranges = [
        d.choices if isinstance(d, CategoricalDistribution) else range(d.low, d.high + 1)  # type: ignore[attr-defined]
        for d in ARCHITECTURE.values()
    ]
    points = [dict(zip(names, values, strict=True)) for values in itertools.product(*ranges)]
    figures = dict(zip(itertools.product(*ranges), surrogate(points).tolist(), strict=True))

    def value(params: Mapping[str, Any]) -> float:
        return float(figures[tuple(params[name] for name in names)])

    return Problem("architecture", ARCHITECTURE, value, minimum=min(figures.values()))


def training_problem() -> Problem:
    """Architecture and training settings: a mixed, conditional space; its minimum is the best known value."""
    surrogate = _surrogate("training")

    def value(params: Mapping[str, Any]) -> float:
        return float(surrogate([params])[0])

    return Problem("training", TRAINING, value, TRAINING_MINIMUM, CONDITIONS)

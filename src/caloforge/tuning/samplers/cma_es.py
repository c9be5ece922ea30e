"""Covariance matrix adaptation (CMA-ES) for mixed spaces, by CatCMA with margin."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from caloforge.tuning.samplers.base import History, ReplaySampler, read_history
from caloforge.tuning.samplers.embedding import Axis, make_axis

if TYPE_CHECKING:
    from cmaes import CatCMAwM

GENERATION = "cma-es"
# initial standard deviation, relative to the width of the space
SPREAD = 0.3
# relative separation of equal losses
TIE = 1e-9


@dataclass
class _Generations:
    """Cache of the generations told to the optimiser so far, so that they need not be repeated."""

    signature: int
    optimiser: Any
    told: list[list[int]]
    solutions: dict[int, Any]


class CmaEsSampler(ReplaySampler):
    """CatCMA with margin: a normal distribution for numbers, a categorical one for each choice.

    Hamano et al., "CatCMA with margin for single- and multi-objective mixed-variable black-box optimization"
    (arXiv:2504.07884), in the package cmaes; on real numbers alone it is CMA-ES (Hansen, arXiv:1604.00772).

    A generation ends when as many trials as it has members have finished, so that no worker waits for the
    slowest; trials of older generations count in the one in which they finish. The state of the optimiser is
    not stored: each trial stores its generation, and after a restart the generations are replayed, with each
    member drawn again from the seed of its trial.
    """

    def __init__(self, seed: int) -> None:
        """Keep the seed of all random numbers."""
        super().__init__(seed)
        self._kept = _Generations(0, None, [], {})

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A member of the current generation."""
        axes = {name: make_axis(distribution) for name, distribution in space.items()}
        generations = self._replay(read_history(study, trial, space), axes, _signature(space))
        self.note(study, trial, GENERATION, [generations.signature, len(generations.told)])
        solution, params = self._draw(generations.optimiser, trial, axes)
        generations.solutions[trial.number] = solution
        return params

    def _replay(self, history: History, axes: Mapping[str, Axis], signature: int) -> _Generations:
        """The optimiser after all complete generations."""
        # ignore trials of a space with fewer parameters, and those that were enqueued
        tags = {}
        for trial in (*history.finished, *history.pending):
            found, tag = trial.system_attrs.get(GENERATION, (0, 0))
            if found == signature:
                tags[trial.number] = (trial, tag)
        losses = {
            trial.number: float(loss) for trial, loss in zip(history.finished, history.loss, strict=True)
        }
        ended = [number for number in losses if number in tags]
        kept = self._kept
        told = {number for numbers in kept.told for number in numbers}
        if kept.signature != signature or not told <= set(ended):
            kept, told = _Generations(signature, _optimiser(axes, self.seed), [], {}), set()
        waiting = [number for number in ended if number not in told]
        while True:
            generation, size = len(kept.told), kept.optimiser.population_size
            for number, (trial, tag) in tags.items():
                if tag == generation and number not in kept.solutions:
                    kept.solutions[number] = self._draw(kept.optimiser, trial, axes)[0]
            ready = [number for number in waiting if tags[number][1] <= generation][:size]
            if len(ready) < size:
                self._kept = kept
                return kept
            values = _break_ties([losses[number] for number in ready])
            kept.optimiser.tell([(kept.solutions[n], value) for n, value in zip(ready, values, strict=True)])
            kept.told.append(ready)
            waiting = [number for number in waiting if number not in ready]

    def _draw(
        self, optimiser: CatCMAwM, trial: FrozenTrial, axes: Mapping[str, Axis]
    ) -> tuple[CatCMAwM.Solution, dict[str, Any]]:
        """Draw the member of a trial, and its parameter values."""
        optimiser.reseed_rng(int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0]))
        solution = optimiser.ask()
        numbers = {False: iter(_values(solution.x)), True: iter(_values(solution.z))}
        choices = iter(_values(solution.c))
        params = {}
        for name, axis in axes.items():
            if _is_choice(axis):
                hot = int(np.argmax(next(choices)))
                place = np.full(1, (hot + 0.5) / axis.levels) if axis.ordered else np.eye(axis.width)[hot]
            else:
                place = np.full(1, float(next(numbers[axis.levels > 0])))
            params[name] = axis.decode(place)
        return solution, params


def _break_ties(losses: list[float]) -> list[float]:
    """Separate the losses of a generation slightly if its quartiles are equal.

    The interquartile range is the scale of the penalty at the edge of the space, which would be NaN for 0.
    """
    ordered = sorted(losses)
    low, high = ordered[len(losses) // 4], ordered[3 * len(losses) // 4]
    if low < high:
        return losses
    step = TIE * max(1.0, abs(low))
    return [loss + place * step for place, loss in enumerate(losses)]


def _values(part: Any) -> Any:
    return () if part is None else part


def _is_choice(axis: Axis) -> bool:
    """Whether a parameter is treated as categorical: also with two values, as the authors recommend."""
    return not axis.ordered or axis.levels == 2


def _optimiser(axes: Mapping[str, Axis], seed: int) -> CatCMAwM:
    """The initial optimiser: centred in the space, with uniform probabilities of choices."""
    from cmaes import CatCMAwM

    choices = [axis.levels for axis in axes.values() if _is_choice(axis)]
    levels = [
        [float((cell + 0.5) / axis.levels) for cell in range(axis.levels)]
        for axis in axes.values()
        if axis.levels and not _is_choice(axis)
    ]
    real = [[0.0, 1.0] for axis in axes.values() if not axis.levels]
    numbers = len(real) + len(levels)
    return CatCMAwM(
        x_space=real or None, z_space=levels or None, c_space=choices or None, seed=seed % 2**32,
        mean=np.full(numbers, 0.5) if numbers else None, cov=np.eye(numbers) if numbers else None,
        sigma=SPREAD,
    )  # fmt: skip


def _signature(space: Mapping[str, BaseDistribution]) -> int:
    """Checksum of a space, the same after a restart."""
    return zlib.crc32(repr(sorted(space.items())).encode())

"""Covariance matrix adaptation for mixed spaces."""

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
# of the first generation, of the width of the space
SPREAD = 0.3
# relative distance of equal losses
TIE = 1e-9


@dataclass
class _Generations:
    """What was told so far, kept only to save the time of telling it again."""

    signature: int
    optimiser: Any
    told: list[list[int]]
    solutions: dict[int, Any]


class CmaEsSampler(ReplaySampler):
    """CatCMA with margin: a normal distribution for the numbers, a table of probabilities for each choice.

    Hamano et al., "CatCMA with margin for single- and multi-objective mixed-variable black-box optimization"
    (arXiv:2504.07884), in the package cmaes; on real numbers alone it is CMA-ES (Hansen, arXiv:1604.00772).

    A generation ends with as many finished trials as it has members, in the order in which they finish, so
    that no worker waits for the slowest; those of older generations count in the one they finish in. The
    state is never stored: a trial notes its generation, and the generations are told again, each member drawn
    again from the seed of its trial.
    """

    def __init__(self, seed: int) -> None:
        """A sampler.

        Args:
            seed: Of its random numbers.
        """
        super().__init__(seed)
        self._kept = _Generations(0, None, [], {})

    def suggest(
        self, study: Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A member of the present generation."""
        axes = {name: make_axis(distribution) for name, distribution in space.items()}
        generations = self._replay(read_history(study, trial, space), axes, _signature(space))
        self.note(study, trial, GENERATION, [generations.signature, len(generations.told)])
        solution, params = self._draw(generations.optimiser, trial, axes)
        generations.solutions[trial.number] = solution
        return params

    def _replay(self, history: History, axes: Mapping[str, Axis], signature: int) -> _Generations:
        """The optimiser after all generations that are complete."""
        # trials of a space with fewer parameters, and those no sampler made, say nothing here
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
            values = _apart([losses[number] for number in ready])
            kept.optimiser.tell([(kept.solutions[n], value) for n, value in zip(ready, values, strict=True)])
            kept.told.append(ready)
            waiting = [number for number in waiting if number not in ready]

    def _draw(
        self, optimiser: CatCMAwM, trial: FrozenTrial, axes: Mapping[str, Axis]
    ) -> tuple[CatCMAwM.Solution, dict[str, Any]]:
        """The member that a trial is, and its parameters."""
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


def _apart(losses: list[float]) -> list[float]:
    """Losses of a generation, a little apart where its quartiles are equal.

    The distance of the quartiles is the scale of the penalty at the edge of the space; without one the
    penalty is no number.
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
    """Two values are a choice as well: so the authors of the method advise."""
    return not axis.ordered or axis.levels == 2


def _optimiser(axes: Mapping[str, Axis], seed: int) -> CatCMAwM:
    """The start: around the middle of the space, all choices alike."""
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
    """The same number for the same space, after a restart too."""
    return zlib.crc32(repr(sorted(space.items())).encode())

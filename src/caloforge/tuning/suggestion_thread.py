"""Thread that talks to Optuna: reports results and prepares suggestions while trials run.

All calls of Optuna are made here, so that groups do not wait while a surrogate model is fitted. Trials that
run, or are ready to run, have the state RUNNING, so that samplers take them into account.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from caloforge.errors import ConfigError, TuningError
from caloforge.tuning.space import Space, Values
from caloforge.tuning.trial_attributes import PARENT, REASON

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, TrialState

# consecutive refused suggestions after which the search ends
MAX_REFUSED = 100
# user attributes of trials: all values are set, and the trial of the starting run
COMPLETE, START = "complete", "start"


@dataclass(frozen=True)
class Proposal:
    """A suggested trial.

    Attributes:
        number: Number of the trial.
        values: Its parameter values.
        run: Its run as YAML.
        parent: Number of the trial whose weights it starts from.
        attributes: User attributes from an earlier search.
    """

    number: int
    values: Values
    run: str
    parent: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def count_trials(study: Study) -> tuple[int, int]:
    """Number of trials that ended, without refused ones, and number of trials to resume."""
    from optuna.trial import TrialState

    whole = [t for t in study.get_trials(deepcopy=False) if COMPLETE in t.user_attrs]
    waiting = sum(t.state == TrialState.RUNNING for t in whole)
    return len(whole) - waiting, waiting


class Suggestions:
    """The suggestion thread and its interface to the main loop. Use it as a context manager.

    Attributes:
        ahead: Number of suggestions kept ready; grows whenever a group had to wait.
        fit_seconds: Total time of the suggestions.
    """

    def __init__(self, study: Study, space: Space, *, limit: int, max_ahead: int) -> None:
        """Prepare the thread; entering the context starts it.

        Args:
            study: The study.
            space: Its search space.
            limit: Number of trials of the study, without refused ones.
            max_ahead: Upper limit of `ahead`.
        """
        self._study, self._space, self._limit = study, space, limit
        self.ahead, self._max_ahead = 1, max_ahead
        self.fit_seconds = 0.0
        self._ready: queue.SimpleQueue[Proposal] = queue.SimpleQueue()
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopped: set[int] = set()
        self._counted = self._refused = 0
        self._all_asked = self._missed = False
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="suggestions", daemon=True)

    def __enter__(self) -> Suggestions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.put(None)
        self._thread.join()

    # ---- called by the main loop

    def take(self) -> Proposal | None:
        """The next suggestion; None if none is ready, or the limit is reached.

        Raises:
            TuningError: The thread failed, or too many suggestions were refused.
        """
        if self._problem is not None:
            raise self._problem
        try:
            proposal = self._ready.get_nowait()
        except queue.Empty:
            if not (self._all_asked or self._missed):
                self.ahead = min(self.ahead + 1, self._max_ahead)
            self._missed = True
            proposal = None
        else:
            self._missed = False
        self._tasks.put(lambda: None)
        return proposal

    @property
    def exhausted(self) -> bool:
        """Whether no suggestion is ready and none will follow."""
        return self._all_asked and self._ready.empty()

    def finished(
        self, number: int, state: TrialState, values: list[float] | None, attributes: dict[str, Any]
    ) -> None:
        """Report the end of a trial."""
        self._tasks.put(lambda: self._tell(number, state, values, attributes))

    def note(self, number: int, **attributes: Any) -> None:
        """Store user attributes of a running trial."""
        self._tasks.put(lambda: self._note(number, attributes))

    def evaluated(self, number: int, step: int, merit: float) -> None:
        """Report an evaluation of a running trial to the pruner; see `is_pruned`."""
        self._tasks.put(lambda: self._evaluate(number, step, merit))

    def is_pruned(self, number: int) -> bool:
        """Whether the pruner has decided to stop a trial."""
        return number in self._stopped

    def wait(self) -> None:
        """Wait until everything reported is on disk."""
        done = threading.Event()
        self._tasks.put(done.set)
        while not done.wait(0.1):
            if self._problem is not None:
                raise self._problem

    # ---- run in the thread

    def _work(self) -> None:
        try:
            self._begin()
            while True:
                self._fill()
                task = self._tasks.get()
                if task is None:
                    return
                task()
        except BaseException as error:
            self._problem = error

    def _begin(self) -> None:
        """Offer the open trials of an earlier search again; in a new study enqueue the starting run."""
        from optuna.trial import TrialState

        trials = self._study.get_trials(deepcopy=False)
        self._counted, _ = count_trials(self._study)
        for trial in trials:
            if trial.state != TrialState.RUNNING:
                continue
            if COMPLETE in trial.user_attrs:
                self._counted += 1
                self._offer(trial.number, trial.user_attrs)
            else:
                self._tell(trial.number, TrialState.FAIL, None, {REASON: "killed while it was suggested"})
        if not trials:
            values, outside = self._space.start()
            self._study.set_user_attr("outside", outside)
            self._study.enqueue_trial(values, user_attrs={START: not outside})

    def _fill(self) -> None:
        """Prepare suggestions until enough are ready, or until a result is to be processed."""
        while self._counted < self._limit and self._ready.qsize() < self.ahead and self._tasks.empty():
            self._ask()
        self._all_asked = self._counted >= self._limit

    def _ask(self) -> None:
        from optuna.trial import TrialState

        before = time.monotonic()
        trial = self._study.ask()
        values = self._space.suggest(trial)
        self.fit_seconds += time.monotonic() - before
        try:
            self._space.run(values)
        except ConfigError as error:
            self._tell(trial.number, TrialState.FAIL, None, {REASON: f"refused: {error}"})
            self._refused += 1
            if self._refused >= MAX_REFUSED:
                raise TuningError(
                    f"the last {MAX_REFUSED} points of the space are no runs that can be trained: {error}"
                ) from error
            return
        self._refused = 0
        trial.set_user_attr(COMPLETE, True)
        self._counted += 1
        self._offer(trial.number, trial.user_attrs)

    def _offer(self, number: int, attributes: dict[str, Any]) -> None:
        from caloforge.config import to_yaml

        values = {
            key: value for key, value in self._frozen(number).params.items() if key in self._space.parameters
        }
        run = to_yaml(self._space.run(values))
        self._ready.put(Proposal(number, values, run, attributes.get(PARENT), dict(attributes)))

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _tell(
        self, number: int, state: TrialState, values: list[float] | None, attributes: dict[str, Any]
    ) -> None:
        self._note(number, attributes)
        self._study.tell(number, values, state)
        self._stopped.discard(number)

    def _note(self, number: int, attributes: dict[str, Any]) -> None:
        trial_id = self._frozen(number)._trial_id
        for name, value in attributes.items():
            self._study._storage.set_trial_user_attr(trial_id, name, value)

    def _evaluate(self, number: int, step: int, merit: float) -> None:
        from optuna.study import StudyDirection
        from optuna.trial import TrialState

        frozen = self._frozen(number)
        if frozen.state != TrialState.RUNNING or len(self._study.directions) > 1:
            return
        # the pruner uses the direction of the objective, but the merit is always minimised
        sign = 1.0 if self._study.direction == StudyDirection.MINIMIZE else -1.0
        self._study._storage.set_trial_intermediate_value(frozen._trial_id, step, sign * merit)
        if self._study.pruner.prune(self._study, self._frozen(number)):
            self._stopped.add(number)

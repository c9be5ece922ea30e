"""The study's own thread: it hands in results and prepares the next trials while others run.

Everything that touches Optuna happens here, so that a fit of the surrogate keeps no group waiting. Trials
that run, or wait to, are in the state RUNNING: the samplers count with them.
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

# trials in a row whose settings are refused before a search gives up
MOST_REFUSED = 100
# user attribute: a trial that has all its values, and the start of the search
COMPLETE, START = "complete", "start"


@dataclass(frozen=True)
class Proposal:
    """A trial to run.

    Attributes:
        number: In the study.
        values: Its point of the space.
        run: The run as YAML.
        parent: Number of the trial whose weights it starts from.
        attributes: Whatever an earlier search noted about it.
    """

    number: int
    values: Values
    run: str
    parent: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def count_trials(study: Study) -> tuple[int, int]:
    """Trials that ended, refused ones not counted, and trials that wait to be taken up again."""
    from optuna.trial import TrialState

    whole = [t for t in study.get_trials(deepcopy=False) if COMPLETE in t.user_attrs]
    waiting = sum(t.state == TrialState.RUNNING for t in whole)
    return len(whole) - waiting, waiting


class Suggestions:
    """Asks and tells in a thread of its own. Use it as a context manager.

    Attributes:
        ahead: Trials that are kept ready; grows whenever a group had to wait.
        fit_seconds: Time spent on suggestions in all.
    """

    def __init__(self, study: Study, space: Space, *, limit: int, most_ahead: int) -> None:
        """Nothing is asked yet.

        Args:
            study: The study.
            space: Its space.
            limit: Trials that the study may have in all, refused ones not counted.
            most_ahead: Bound of `ahead`.
        """
        self._study, self._space, self._limit = study, space, limit
        self.ahead, self._most_ahead = 1, most_ahead
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

    # ---- for the thread that runs the groups

    def take(self) -> Proposal | None:
        """A trial to run now; None if none is ready yet, or no more are to come.

        Raises:
            TuningError: The thread of the study failed.
            ConfigError: The space gives nothing but refused runs.
        """
        if self._problem is not None:
            raise self._problem
        try:
            proposal = self._ready.get_nowait()
        except queue.Empty:
            if not (self._all_asked or self._missed):
                self.ahead = min(self.ahead + 1, self._most_ahead)
            self._missed = True
            proposal = None
        else:
            self._missed = False
        self._tasks.put(lambda: None)
        return proposal

    @property
    def exhausted(self) -> bool:
        """Whether no trial is ready and none will be."""
        return self._all_asked and self._ready.empty()

    def finished(
        self, number: int, state: TrialState, values: list[float] | None, attributes: dict[str, Any]
    ) -> None:
        """Hand in how a trial ended."""
        self._tasks.put(lambda: self._tell(number, state, values, attributes))

    def note(self, number: int, **attributes: Any) -> None:
        """Keep something about a trial that runs."""
        self._tasks.put(lambda: self._note(number, attributes))

    def evaluated(self, number: int, step: int, merit: float) -> None:
        """Hand in an evaluation of a trial that runs; see `is_hopeless`."""
        self._tasks.put(lambda: self._evaluate(number, step, merit))

    def is_hopeless(self, number: int) -> bool:
        """Whether the pruner has decided to stop a trial."""
        return number in self._stopped

    def wait(self) -> None:
        """Return when everything handed in is on disk."""
        done = threading.Event()
        self._tasks.put(done.set)
        while not done.wait(0.1):
            if self._problem is not None:
                raise self._problem

    # ---- the thread of the study

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
        """Take up what an earlier search left, and enqueue the start of this one."""
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
        """Prepare trials until enough are ready; results that have come meanwhile go first."""
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
            if self._refused >= MOST_REFUSED:
                raise TuningError(
                    f"the last {MOST_REFUSED} points of the space are no runs that can be trained: {error}"
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
        # the pruner knows the direction of the objective only
        sign = 1.0 if self._study.direction == StudyDirection.MINIMIZE else -1.0
        self._study._storage.set_trial_intermediate_value(frozen._trial_id, step, sign * merit)
        if self._study.pruner.prune(self._study, self._frozen(number)):
            self._stopped.add(number)

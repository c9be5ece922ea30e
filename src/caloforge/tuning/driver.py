"""Main loop of a search: takes suggested trials, runs their folds on groups of workers, reports results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import Interrupted, TuningError
from caloforge.files import write_text
from caloforge.run_directory import CHECKPOINTS, MODEL, RUN
from caloforge.signals import StopRequest
from caloforge.tuning.config import StudyConfig
from caloforge.tuning.folds import Fold
from caloforge.tuning.objective import combine, evaluations
from caloforge.tuning.suggestion_thread import Proposal, Suggestions
from caloforge.tuning.trial import Job, Result, Work, read_result, train_fold
from caloforge.tuning.trial_attributes import ATTEMPTS, FOLDS, NOISE, REASON
from caloforge.tuning.worker_groups import Cluster, Group

if TYPE_CHECKING:
    from optuna.trial import TrialState

# polling interval in seconds, and the shorter one while a group waits for a suggestion
POLL, POLL_SHORT = 0.25, 0.01
# seconds for the groups to save when the search is interrupted
SAVE_SECONDS = 90.0
# consecutive failed trials after which the search ends
MAX_FAILURES = 10
TRIALS = "trials"


@dataclass
class RunningTrial:
    """A running trial.

    Attributes:
        proposal: Number, parameter values and run of the trial.
        waiting: Folds not yet started.
        results: Results by fold.
        attempts: Failed attempts.
        seen: Number of evaluations reported to the pruner.
        started: Start time (monotonic clock).
        best: Best merit so far, for the progress table.
        abandoned: Whether it was pruned or has failed for good.
        reseeded: Number of restarts with another seed.
    """

    proposal: Proposal
    waiting: list[int]
    results: dict[int, Result] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0
    started: float = field(default_factory=time.monotonic)
    best: float = math.nan
    abandoned: bool = False
    reseeded: int = 0


@dataclass
class IdleTime:
    """Time that groups waited for a suggestion, and total time of all groups while trials were to come."""

    waited: float = 0.0
    total: float = 0.0

    @property
    def fraction(self) -> float:
        """Waiting time over total time."""
        return self.waited / self.total if self.total else 0.0


@dataclass(frozen=True)
class SearchStatus:
    """Progress of a search.

    Attributes:
        running: Running trials.
        ended: State, values and reason of the trials that ended in this search, by number.
        limit: Number of trials of the study.
        before: Number of trials that ended in earlier searches.
        idle: Fraction of the time that groups waited for a suggestion.
    """

    running: list[RunningTrial]
    ended: dict[int, tuple[str, list[float] | None, str]]
    limit: int
    before: int
    idle: float


ProgressCallback = Callable[[SearchStatus], None]


class Search:
    """Main loop of a search; `run_study` sets it up."""

    def __init__(
        self,
        config: StudyConfig,
        out: Path,
        cluster: Cluster,
        suggestions: Suggestions,
        folds: list[Fold],
        *,
        work: Work = train_fold,
        progress: ProgressCallback = lambda _: None,
        before: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Prepare the loop; nothing runs before `run`.

        Args:
            config: The study.
            out: Its folder.
            cluster: The groups of workers.
            suggestions: The suggestion thread, running.
            folds: The folds of each trial.
            work: Function that a worker runs for a job.
            progress: Called with the status in every iteration.
            before: Number of trials that ended in earlier searches.
            seconds: Time of earlier searches.
        """
        self._config, self._out, self._cluster = config, out, cluster
        self._suggestions, self._folds, self._work, self._progress = suggestions, folds, work, progress
        self._before, self.seconds = before, seconds
        self._runs: dict[int, RunningTrial] = {}
        self._slots: dict[int, int] = {}
        self.ended: dict[int, tuple[str, list[float] | None, str]] = {}
        self.idle = IdleTime()
        self._started = time.monotonic()
        # time when the last trial of each slot ended
        self._free_since: dict[int, float] = {}
        self._failures = 0

    def run(self) -> str:
        """Search until a limit is reached; returns which one, "trials" or "minutes".

        Raises:
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            TuningError: `MAX_FAILURES` consecutive trials have failed.
        """
        limit = self._config.max_minutes
        last = self._started = time.monotonic()
        with StopRequest() as stop:
            try:
                while self._runs or not self._suggestions.exhausted:
                    more = not self._suggestions.exhausted
                    self._assign()
                    self._cluster.wait(POLL_SHORT if more and self._free_slots() else POLL)
                    self._collect()
                    now = time.monotonic()
                    self.seconds += now - last
                    if more:
                        self.idle.total += (now - last) * self._config.layout.groups
                    last = now
                    self._progress(self._status())
                    if stop.requested:
                        raise Interrupted("")
                    if limit is not None and self.seconds > 60 * limit:
                        return "minutes"
            finally:
                self._stop_groups()
        return "trials"

    def _status(self) -> SearchStatus:
        return SearchStatus(
            list(self._runs.values()), self.ended, self._config.max_trials, self._before, self.idle.fraction
        )

    # ---- from suggestions to groups

    def _groups_of_slot(self, slot: int) -> Iterator[Group]:
        """The groups of a trial slot, one for each fold that runs at the same time."""
        at_once = self._cluster.folds_at_once
        first = slot * at_once
        yield from self._cluster.groups[first : first + at_once]

    def _assign(self) -> None:
        """Assign the next suggested trial to each free slot, and the next fold to each free group."""
        for slot in self._free_slots():
            proposal = None if self._suggestions.exhausted else self._suggestions.take()
            if proposal is None:
                break
            self.idle.waited += time.monotonic() - self._free_since.get(slot, self._started)
            self._slots[proposal.number] = slot
            self._start_trial(proposal)
        for number, slot in list(self._slots.items()):
            run = self._runs[number]
            for group in self._groups_of_slot(slot):
                if group.job is None and run.waiting and not run.abandoned:
                    group.start(self._work, self._job(run, run.waiting.pop(0)))
        self._finish_trials()

    def _free_slots(self) -> list[int]:
        taken = set(self._slots.values())
        return [slot for slot in range(self._config.layout.groups) if slot not in taken]

    def _start_trial(self, proposal: Proposal) -> None:
        folder = self._out / TRIALS / f"{proposal.number:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RUN, proposal.run)
        run = RunningTrial(proposal, [], attempts=list(proposal.attributes.get(ATTEMPTS, [])))
        run.reseeded = sum(attempt.get("ending") == "numeric" for attempt in run.attempts)
        for fold in range(len(self._folds)):
            kept = read_result(folder / f"fold-{fold}")
            if kept is None:
                run.waiting.append(fold)
            else:
                run.results[fold] = kept
        self._runs[proposal.number] = run

    def _job(self, run: RunningTrial, fold: int) -> Job:
        number, split = run.proposal.number, self._folds[fold]
        weights = None
        if (parent := run.proposal.parent) is not None:
            weights = fold_folder(self._out, parent, fold) / MODEL
        return Job(
            trial=number,
            fold=fold,
            folder=fold_folder(self._out, number, fold),
            values=run.proposal.values,
            part=split.part,
            data=split.data,
            held_out=split.held_out,
            figures=tuple(o.figure for o in self._config.objectives),
            seed=self._config.seed + fold + len(self._folds) * run.reseeded,
            start=weights,
            threads=max(1, int(self._config.layout.cores)),
        )

    # ---- from groups to results

    def _collect(self) -> None:
        for group in self._cluster.groups:
            if group.job is None:
                continue
            job = group.job
            run = self._runs[job.trial]
            result = group.finished()
            self._report_evaluations(run, job)
            if result is None:
                if run.abandoned:
                    group.stop()
                continue
            self._take_result(run, job, result)
        self._finish_trials()

    def _report_evaluations(self, run: RunningTrial, job: Job) -> None:
        """Report new evaluations of the first fold of a trial to the pruner."""
        if job.fold:
            return
        found = evaluations(job.folder)
        for step, (_, merit) in enumerate(found[run.seen :], start=run.seen + 1):
            run.best = merit if math.isnan(run.best) else min(run.best, merit)
            if self._config.pruner.kind != "none" and math.isfinite(merit):
                self._suggestions.evaluated(job.trial, step, merit)
        run.seen = len(found)
        run.abandoned = run.abandoned or self._suggestions.is_pruned(job.trial)

    def _take_result(self, run: RunningTrial, job: Job, result: Result) -> None:
        if result.status == "done":
            run.results[job.fold] = result
            return
        if result.status == "stopped":
            if not run.abandoned:
                run.waiting.append(job.fold)
            return
        run.attempts.append(
            {"ending": result.status, "fold": job.fold, "reason": result.reason, "seconds": result.seconds}
        )
        self._suggestions.note(job.trial, **{ATTEMPTS: run.attempts})
        failures = sum(attempt["fold"] == job.fold for attempt in run.attempts)
        if result.status == "refused" or failures > self._config.retries:
            run.abandoned = True
            run.waiting = []
            return
        if result.status == "numeric":
            # restart from the beginning with another seed
            run.reseeded += 1
            _remove_training(job.folder)
        run.waiting.append(job.fold)

    def _finish_trials(self) -> None:
        from optuna.trial import TrialState

        for number, run in list(self._runs.items()):
            busy = [g for g in self._groups_of_slot(self._slots[number]) if g.job is not None]
            if run.abandoned and not busy:
                if run.attempts and not self._suggestions.is_pruned(number):
                    self._end(run, TrialState.FAIL, None, {REASON: run.attempts[-1]["reason"]})
                else:
                    self._end(run, TrialState.PRUNED, None, {})
            elif run.abandoned:
                for group in busy:
                    group.stop()
            elif len(run.results) == len(self._folds):
                self._complete(run)

    def _complete(self, run: RunningTrial) -> None:
        from optuna.trial import TrialState

        folds = [run.results[fold].figures for fold in range(len(self._folds))]
        combined = [combine(folds, o.figure) for o in self._config.objectives]
        facts: dict[str, Any] = {
            FOLDS: [{name: _number(v.value) for name, v in figures.items()} for figures in folds],
            "seconds": sum(result.seconds for result in run.results.values()),
        }
        if all(math.isfinite(v.error) for v in combined):
            facts[NOISE] = [v.error for v in combined]
        self._end(run, TrialState.COMPLETE, [v.value for v in combined], facts)

    def _end(
        self, run: RunningTrial, state: TrialState, values: list[float] | None, facts: dict[str, Any]
    ) -> None:
        number = run.proposal.number
        self._suggestions.finished(number, state, values, facts)
        self.ended[number] = (state.name.lower(), values, str(facts.get(REASON, "")))
        self._free_since[self._slots[number]] = time.monotonic()
        del self._runs[number], self._slots[number]
        self._failures = self._failures + 1 if state.name == "FAIL" else 0
        if self._failures >= MAX_FAILURES:
            raise TuningError(
                f"the last {MAX_FAILURES} trials failed, the last one with: {facts[REASON]}\n"
                "Mend the cause and repeat the command to continue"
            )

    def _stop_groups(self) -> None:
        """Stop all running jobs; their trials stay in the state RUNNING, and the next search resumes them."""
        busy = [group for group in self._cluster.groups if group.job is not None]
        for group in busy:
            group.stop()
        end = time.monotonic() + SAVE_SECONDS
        while busy and time.monotonic() < end:
            self._cluster.wait(POLL)
            busy = [group for group in busy if group.finished() is None]


def fold_folder(out: Path, number: int, fold: int) -> Path:
    """The run directory of a fold of a trial."""
    return out / TRIALS / f"{number:05d}" / f"fold-{fold}"


def _remove_training(folder: Path) -> None:
    """Remove checkpoints and model of a failed training."""
    import shutil

    for name in (CHECKPOINTS, MODEL):
        shutil.rmtree(folder / name, ignore_errors=True)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

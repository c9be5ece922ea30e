"""The loop of a search: trials from the study's thread, folds onto the groups, results back."""

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

# seconds between two looks at the trials, and while a group waits for a suggestion
POLL, SOON = 0.25, 0.01
# seconds that groups have to save when the search is interrupted
SAVE = 90.0
# trials in a row that may fail before the search gives up
MOST_FAILURES = 10
TRIALS = "trials"


@dataclass
class Run:
    """A trial that runs.

    Attributes:
        proposal: What it is.
        waiting: Folds that no group has taken yet.
        results: Fold to its result.
        attempts: What failed before.
        seen: Evaluations that the pruner knows.
        started: Clock when it began.
        best: Best merit so far, for the progress table.
    """

    proposal: Proposal
    waiting: list[int]
    results: dict[int, Result] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0
    started: float = field(default_factory=time.monotonic)
    best: float = math.nan
    hopeless: bool = False
    reseeded: int = 0


@dataclass
class Idle:
    """How long groups waited for a trial, of the time in which there were trials to hand out."""

    waited: float = 0.0
    lasted: float = 0.0

    @property
    def share(self) -> float:
        """Waiting time over all time of all groups."""
        return self.waited / self.lasted if self.lasted else 0.0


@dataclass(frozen=True)
class Standing:
    """What a search tells while it runs.

    Attributes:
        running: Trials that run.
        ended: State, values and reason of those that ended in this search, by number.
        limit: Trials in all.
        before: Trials that earlier searches ended.
        idle: Share of the time that groups waited.
    """

    running: list[Run]
    ended: dict[int, tuple[str, list[float] | None, str]]
    limit: int
    before: int
    idle: float


Tell = Callable[[Standing], None]


class Search:
    """The loop of a search; see `run_study` for the whole."""

    def __init__(
        self,
        config: StudyConfig,
        out: Path,
        cluster: Cluster,
        suggestions: Suggestions,
        folds: list[Fold],
        *,
        work: Work = train_fold,
        tell: Tell = lambda _: None,
        before: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Nothing runs yet.

        Args:
            config: The study.
            out: Its folder.
            cluster: The groups.
            suggestions: The thread of the study, running.
            folds: What each fold trains on.
            work: What a worker does for a job.
            tell: Called with the standing at every look.
            before: Trials that ended in earlier searches.
            seconds: What earlier searches took.
        """
        self._config, self._out, self._cluster = config, out, cluster
        self._suggestions, self._folds, self._work, self._tell = suggestions, folds, work, tell
        self._before, self.seconds = before, seconds
        self._runs: dict[int, Run] = {}
        self._places: dict[int, int] = {}
        self.ended: dict[int, tuple[str, list[float] | None, str]] = {}
        self.idle = Idle()
        self._started = time.monotonic()
        # place to the clock when its last trial ended
        self._free_since: dict[int, float] = {}
        self._failures = 0

    def run(self) -> str:
        """Search until an end is reached; returns which: "trials" or "minutes".

        Raises:
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            TuningError: Every trial fails.
        """
        limit = self._config.max_minutes
        last = self._started = time.monotonic()
        with StopRequest() as stop:
            try:
                while self._runs or not self._suggestions.exhausted:
                    more = not self._suggestions.exhausted
                    self._hand_out()
                    self._cluster.wait(SOON if more and self._free() else POLL)
                    self._collect()
                    now = time.monotonic()
                    self.seconds += now - last
                    if more:
                        self.idle.lasted += (now - last) * self._config.layout.groups
                    last = now
                    self._tell(self._standing())
                    if stop.requested:
                        raise Interrupted("")
                    if limit is not None and self.seconds > 60 * limit:
                        return "minutes"
            finally:
                self._let_go()
        return "trials"

    def _standing(self) -> Standing:
        return Standing(
            list(self._runs.values()), self.ended, self._config.max_trials, self._before, self.idle.share
        )

    # ---- from suggestions to groups

    def _groups_of(self, place: int) -> Iterator[Group]:
        """The groups that work for a trial, as many as folds run at once."""
        at_once = self._cluster.folds_at_once
        first = place * at_once
        yield from self._cluster.groups[first : first + at_once]

    def _hand_out(self) -> None:
        """Give every free group its next fold, and every place without a trial the next one."""
        for place in self._free():
            proposal = None if self._suggestions.exhausted else self._suggestions.take()
            if proposal is None:
                break
            self.idle.waited += time.monotonic() - self._free_since.get(place, self._started)
            self._places[proposal.number] = place
            self._begin(proposal)
        for number, place in list(self._places.items()):
            run = self._runs[number]
            for group in self._groups_of(place):
                if group.job is None and run.waiting and not run.hopeless:
                    group.start(self._work, self._job(run, run.waiting.pop(0)))
        self._end_those_done()

    def _free(self) -> list[int]:
        taken = set(self._places.values())
        return [place for place in range(self._config.layout.groups) if place not in taken]

    def _begin(self, proposal: Proposal) -> None:
        folder = self._out / TRIALS / f"{proposal.number:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RUN, proposal.run)
        run = Run(proposal, [], attempts=list(proposal.attributes.get(ATTEMPTS, [])))
        run.reseeded = sum(attempt.get("ending") == "numeric" for attempt in run.attempts)
        for fold in range(len(self._folds)):
            kept = read_result(folder / f"fold-{fold}")
            if kept is None:
                run.waiting.append(fold)
            else:
                run.results[fold] = kept
        self._runs[proposal.number] = run

    def _job(self, run: Run, fold: int) -> Job:
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
            held=split.held,
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
            self._look(run, job)
            if result is None:
                if run.hopeless:
                    group.stop()
                continue
            self._take_result(run, job, result)
        self._end_those_done()

    def _look(self, run: Run, job: Job) -> None:
        """Show the evaluations of a trial to the pruner; the first fold speaks for all."""
        if job.fold:
            return
        found = evaluations(job.folder)
        for step, (_, merit) in enumerate(found[run.seen :], start=run.seen + 1):
            run.best = merit if math.isnan(run.best) else min(run.best, merit)
            if self._config.pruner.kind != "none" and math.isfinite(merit):
                self._suggestions.evaluated(job.trial, step, merit)
        run.seen = len(found)
        run.hopeless = run.hopeless or self._suggestions.is_hopeless(job.trial)

    def _take_result(self, run: Run, job: Job, result: Result) -> None:
        if result.ending == "done":
            run.results[job.fold] = result
            return
        if result.ending == "stopped":
            if not run.hopeless:
                run.waiting.append(job.fold)
            return
        run.attempts.append(
            {"ending": result.ending, "fold": job.fold, "reason": result.reason, "seconds": result.seconds}
        )
        self._suggestions.note(job.trial, **{ATTEMPTS: run.attempts})
        failures = sum(attempt["fold"] == job.fold for attempt in run.attempts)
        if result.ending == "refused" or failures > self._config.retries:
            run.hopeless = True
            run.waiting = []
            return
        if result.ending == "numeric":
            # from the beginning, with other random numbers
            run.reseeded += 1
            _forget(job.folder)
        run.waiting.append(job.fold)

    def _end_those_done(self) -> None:
        from optuna.trial import TrialState

        for number, run in list(self._runs.items()):
            busy = [g for g in self._groups_of(self._places[number]) if g.job is not None]
            if run.hopeless and not busy:
                if run.attempts and not self._suggestions.is_hopeless(number):
                    self._end(run, TrialState.FAIL, None, {REASON: run.attempts[-1]["reason"]})
                else:
                    self._end(run, TrialState.PRUNED, None, {})
            elif run.hopeless:
                for group in busy:
                    group.stop()
            elif len(run.results) == len(self._folds):
                self._complete(run)

    def _complete(self, run: Run) -> None:
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

    def _end(self, run: Run, state: TrialState, values: list[float] | None, facts: dict[str, Any]) -> None:
        number = run.proposal.number
        self._suggestions.finished(number, state, values, facts)
        self.ended[number] = (state.name.lower(), values, str(facts.get(REASON, "")))
        self._free_since[self._places[number]] = time.monotonic()
        del self._runs[number], self._places[number]
        self._failures = self._failures + 1 if state.name == "FAIL" else 0
        if self._failures >= MOST_FAILURES:
            raise TuningError(
                f"the last {MOST_FAILURES} trials failed, the last one so: {facts[REASON]}\n"
                "Mend the cause and give the same command again to go on"
            )

    def _let_go(self) -> None:
        """Stop what still runs; its trials stay open, for the next search to take up."""
        busy = [group for group in self._cluster.groups if group.job is not None]
        for group in busy:
            group.stop()
        end = time.monotonic() + SAVE
        while busy and time.monotonic() < end:
            self._cluster.wait(POLL)
            busy = [group for group in busy if group.finished() is None]


def fold_folder(out: Path, number: int, fold: int) -> Path:
    """The run directory of a fold of a trial."""
    return out / TRIALS / f"{number:05d}" / f"fold-{fold}"


def _forget(folder: Path) -> None:
    """Remove what a failed training left."""
    import shutil

    for name in (CHECKPOINTS, MODEL):
        shutil.rmtree(folder / name, ignore_errors=True)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

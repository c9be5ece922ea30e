"""The thread of a study, without Ray."""

import time

import pytest
from synthetic import DECAY, RATE, merit

from caloforge.errors import ConfigError, OutputError, TuningError
from caloforge.tuning import suggestion_thread as module
from caloforge.tuning.space import Space
from caloforge.tuning.storage import check_identity, open_study, study_folder
from caloforge.tuning.suggestion_thread import Suggestions


@pytest.fixture
def opened(folder, study, tmp_path):
    """Makes a study on disk and its suggestions; the same folder every time."""

    def make(limit=6, **changes):
        config = study(**changes)
        space = Space(config, folder)
        opened = open_study(tmp_path, config, space)
        return opened, Suggestions(opened, space, limit=limit, max_ahead=4)

    return make


def take(suggestions):
    end = time.monotonic() + 20
    while (proposal := suggestions.take()) is None and not suggestions.exhausted:
        assert time.monotonic() < end
        time.sleep(0.002)
    return proposal


def complete(suggestions, proposal, value=None):
    from optuna.trial import TrialState

    value = merit(proposal.values) if value is None else value
    suggestions.finished(proposal.number, TrialState.COMPLETE, [value], {})


def states(study):
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def test_trials_come_until_the_limit_and_the_first_is_the_start(opened):
    study, suggestions = opened(limit=5)
    with suggestions:
        proposals = []
        while (proposal := take(suggestions)) is not None:
            proposals.append(proposal)
            complete(suggestions, proposal)
        suggestions.wait()
    assert [p.number for p in proposals] == [0, 1, 2, 3, 4] and suggestions.exhausted
    # of the run: RMSprop's defaults
    assert proposals[0].values == {RATE: 1e-3, DECAY: 0.9}
    assert f"decay: {proposals[3].values[DECAY]}" in proposals[3].run
    assert states(study) == ["COMPLETE"] * 5


def test_more_trials_are_kept_ready_only_after_a_group_had_to_wait(opened):
    study, suggestions = opened(limit=30)
    with suggestions:
        first = take(suggestions)
        for _ in range(200):
            if suggestions.ahead == 4:
                break
            suggestions.take()
            time.sleep(0.002)
        assert first.number == 0 and suggestions.ahead == 4
        suggestions.wait()
        # what is ready runs, for the sampler: it counts with it
        time.sleep(0.2)
        ready = suggestions._ready.qsize()
        assert ready == 4 and states(study).count("RUNNING") >= ready


def test_an_interrupted_study_takes_up_every_trial_that_was_open(opened):
    _, suggestions = opened(limit=4)
    with suggestions:
        first, second = take(suggestions), take(suggestions)
        complete(suggestions, first)
        suggestions.note(second.number, attempts=[{"reason": "lost"}])
        suggestions.wait()
    study, suggestions = opened(limit=4)
    with suggestions:
        found = [take(suggestions) for _ in range(3)]
        assert take(suggestions) is None
        for proposal in found:
            complete(suggestions, proposal)
        suggestions.wait()
    assert (found[0].number, found[0].values, found[0].run) == (second.number, second.values, second.run)
    assert found[0].attributes["attempts"] == [{"reason": "lost"}]
    assert states(study) == ["COMPLETE"] * 4
    # and it is over: nothing is left for a third search
    _, suggestions = opened(limit=4)
    with suggestions:
        suggestions.wait()
        assert take(suggestions) is None


def test_a_trial_killed_while_it_was_suggested_is_recorded_and_not_run(opened):
    study, _ = opened()
    trial = study.ask()
    trial.suggest_float(RATE, 1e-4, 1e-1, log=True)
    study, suggestions = opened(limit=1)
    with suggestions:
        proposal = take(suggestions)
        complete(suggestions, proposal)
        suggestions.wait()
    assert proposal.number == 1 and states(study) == ["FAIL", "COMPLETE"]
    assert "while it was suggested" in study.trials[0].user_attrs["reason"]


def test_members_of_a_population_go_on_from_the_weights_of_a_trial(opened):
    _, suggestions = opened(limit=12, sampler={"kind": "pbt", "population": 4})
    with suggestions:
        taken = []
        while (proposal := take(suggestions)) is not None:
            taken.append(proposal)
            complete(suggestions, proposal)
            suggestions.wait()
    assert all(p.parent is None for p in taken[:4])
    later = [p.parent for p in taken[6:]]
    assert all(parent is not None and parent < p.number for parent, p in zip(later, taken[6:], strict=True))


def test_the_pruner_stops_the_worse_of_trials(opened):
    _, suggestions = opened(pruner={"kind": "asha", "reduction": 2, "first": 1})
    with suggestions:
        good, bad = take(suggestions), take(suggestions)
        for step in (1, 2, 3):
            suggestions.evaluated(good.number, step, 0.1)
            suggestions.evaluated(bad.number, step, 5.0)
        suggestions.wait()
        assert suggestions.is_pruned(bad.number) and not suggestions.is_pruned(good.number)


def test_the_pruner_knows_which_way_is_better(opened):
    objectives = [{"figure": "recall", "direction": "maximize"}]
    _, suggestions = opened(pruner={"kind": "asha", "reduction": 2, "first": 1}, objectives=objectives)
    with suggestions:
        good, bad = take(suggestions), take(suggestions)
        for step in (1, 2):
            suggestions.evaluated(good.number, step, 0.1)
            suggestions.evaluated(bad.number, step, 5.0)
        suggestions.wait()
        assert suggestions.is_pruned(bad.number) and not suggestions.is_pruned(good.number)


def test_refused_runs_are_recorded_and_their_number_in_a_row_is_bounded(opened, monkeypatch):
    power = {"model.power": {"kind": "float", "low": 0.2, "high": 5.0}}
    study, suggestions = opened(limit=4, space=power)
    with suggestions:
        taken = [take(suggestions) for _ in range(4)]
        for proposal in taken:
            complete(suggestions, proposal, proposal.values["model.power"])
        suggestions.wait()
    assert all(p.values["model.power"] <= 1 for p in taken)
    refused = [t for t in study.trials if t.state.name == "FAIL"]
    assert refused and all(t.user_attrs["reason"].startswith("refused: ") for t in refused)
    monkeypatch.setattr(module, "MAX_REFUSED", 5)
    hopeless = {"model.power": {"kind": "float", "low": 2.0, "high": 5.0}}
    _, suggestions = opened(limit=40, space=hopeless)
    with suggestions, pytest.raises(TuningError, match=r"last 5 points .* less than or equal to 1"):
        take(suggestions)


def test_a_journal_that_a_kill_cut_short_is_mended(opened, tmp_path):
    study, suggestions = opened(limit=2)
    with suggestions:
        complete(suggestions, take(suggestions))
        suggestions.wait()
    with (tmp_path / "journal.log").open("a") as journal:
        journal.write('{"op_code": 5, "worker_id"')
    study, suggestions = opened(limit=2)
    with suggestions:
        complete(suggestions, take(suggestions))
        suggestions.wait()
    assert states(study) == ["COMPLETE", "COMPLETE"]
    opened()


def test_a_study_begun_with_another_space_shows_the_difference(tmp_path):
    identity = {
        "space": {"model.a": {"kind": "int", "low": 1, "high": 4}, "model.b": {"low": 0}},
        "k_folds": 1,
    }
    assert not check_identity(tmp_path, identity)
    assert check_identity(tmp_path, identity)
    changed = {
        "space": {"model.a": {"kind": "int", "low": 1, "high": 9}, "model.c": {"low": 0}},
        "k_folds": 1,
    }
    with pytest.raises(ConfigError) as caught:
        check_identity(tmp_path, changed)
    lines = str(caught.value).splitlines()
    assert "  space ~ model.a › high: 4 -> 9" in lines
    assert "  space - model.b › low: 0" in lines and "  space + model.c › low: 0" in lines
    assert not any("k_folds" in line or "model.a › low" in line for line in lines)


def test_one_search_at_a_time_and_no_foreign_folder(tmp_path):
    with study_folder(tmp_path / "out") as out:
        check_identity(out, {})
        with pytest.raises(OutputError, match="another search works"), study_folder(tmp_path / "out"):
            pass
    with study_folder(tmp_path / "out"):
        pass
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(OutputError, match="holds no study"), study_folder(tmp_path / "thesis"):
        pass

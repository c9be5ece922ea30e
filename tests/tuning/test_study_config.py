import numpy as np
import pytest
from synthetic import DECAY, RATE

from caloforge.errors import ConfigError
from caloforge.tuning.space import Space
from caloforge.tuning.study import run_study
from caloforge.tuning.worker_groups import check_layout

LATENT = {"kind": "int", "low": 4, "high": 16}
HIGH, HALF = {"kind": "float", "low": 2, "high": 3}, {"kind": "float", "low": 0.1, "high": 0.5}
MERIT, FPD = {"figure": "merit"}, {"figure": "fpd"}


def test_a_point_becomes_a_run_with_units_lists_and_conditions(folder, study):
    space = Space(
        study(
            space={
                "training.optimizer.kind": {"kind": "categorical", "choices": ["adam", "rmsprop"]},
                "training.optimizer.momentum": {
                    "kind": "float",
                    "low": 0,
                    "high": 0.9,
                    "when": {"training.optimizer.kind": "adam"},
                },
                "model.cell_unit": {"kind": "float", "low": "1 MeV", "high": "0.02 GeV", "log": True},
                "model.generator.blocks.0.filters": {"kind": "int", "low": 2, "high": 8, "step": 2},
                "model.generator.blocks.0.kernel": {"kind": "categorical", "choices": [[3, 3, 3], [5, 3, 3]]},
            }
        ),
        folder,
    )
    space.check()
    values = {
        "training.optimizer.kind": "adam",
        "training.optimizer.momentum": 0.5,
        "model.cell_unit": 2.5,
        "model.generator.blocks.0.filters": 6,
        "model.generator.blocks.0.kernel": "[5, 3, 3]",
    }
    run = space.run(values)
    assert (run.training.optimizer.kind, run.training.optimizer.momentum) == ("adam", 0.5)
    assert run.model.cell_unit == 2.5
    assert (run.model.generator.blocks[0].filters, run.model.generator.blocks[0].kernel) == (6, (5, 3, 3))
    # everything else is that of the run
    assert run.model.generator.latent == 6 and run.training.batch_size == 12
    rng = np.random.default_rng(1)
    points = [space.random(rng) for _ in range(60)]
    for point in points:
        assert ("training.optimizer.momentum" in point) == (point["training.optimizer.kind"] == "adam")
        assert 1 <= point["model.cell_unit"] <= 20 and point["model.generator.blocks.0.filters"] in (
            2,
            4,
            6,
            8,
        )
    assert {point["training.optimizer.kind"] for point in points} == {"adam", "rmsprop"}


def test_layers_are_named_choices_and_their_entries_depend_on_them(folder, study):
    block = {"filters": 2, "kernel": [3, 3, 3], "same": True}
    last = {"filters": 1, "kernel": [3, 3, 3], "same": True, "activation": "relu"}
    space = Space(
        study(
            space={
                "model.generator.blocks": {
                    "kind": "categorical",
                    "choices": {"shallow": [last], "deep": [block, block, last]},
                },
                "model.generator.blocks.1.filters": {
                    "kind": "int",
                    "low": 2,
                    "high": 9,
                    "when": {"model.generator.blocks": "deep"},
                },
            }
        ),
        folder,
    )
    space.check()
    blocks = "model.generator.blocks"
    assert len(space.run({blocks: "shallow"}).model.generator.blocks) == 1
    deep = space.run({blocks: "deep", f"{blocks}.1.filters": 7}).model.generator.blocks
    assert [b.filters for b in deep] == [2, 7, 1]


def test_the_start_of_a_search_is_the_run_where_that_is_in_the_space(folder, study):
    space = {RATE: study().space[RATE].model_dump(), "model.generator.latent": LATENT}
    values, outside = Space(study(space=space), folder).start()
    assert values == {RATE: 1e-3, "model.generator.latent": 6} and not outside
    high = {"kind": "int", "low": 20, "high": 40}
    values, outside = Space(study(space={"model.generator.latent": high}), folder).start()
    assert values == {} and outside == ["model.generator.latent: 6 is not among 20, 21, ... 40"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.generator.latnt": LATENT}, "generator.latnt: unknown setting .* Did you mean 'latent'"),
        ({"model.genrator.latent": LATENT}, "Did you mean 'generator'"),
        ({"model.generator.blocks.7.filters": LATENT}, "'7' is no entry of a list of 2"),
        ({"training.batch_size.x": LATENT}, "training.batch_size is a plain value"),
        ({"model.power": HIGH}, "none of 200 random points .*\n200 times .*power"),
        ({"training.evaluation.share": HALF}, "what trials are judged by"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_searched_says_why(space, message, folder, study, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run_study(study(space=space), tmp_path / "out", folder=folder)
    assert not (tmp_path / "out").exists()


def test_one_valid_corner_of_a_space_is_enough(folder, study):
    Space(study(space={"model.power": {"kind": "float", "low": 0.5, "high": 3}}), folder).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spcae": {}}, "spcae: unknown setting .* Did you mean 'space'"),
        ({"space": {"detector.mesh.nx": LATENT}}, "no key below model or training"),
        ({"space": {"trainin.epochs": LATENT}}, "Did you mean 'training'"),
        ({"space": {RATE: {"kind": "flota", "low": 0, "high": 1}}}, "Did you mean 'float'"),
        ({"space": {RATE: {"kind": "float", "low": 2, "high": 1}}}, "less than high"),
        ({"space": {RATE: HALF | {"low": 0, "log": True}}}, "more than 0 for a logarithm"),
        ({"space": {RATE: {"kind": "float", "low": "1 parsec", "high": "2 parsec"}}}, "with a unit such as"),
        ({"space": {RATE: {**LATENT, "when": {DECAY: 1}}}}, "is no parameter of the space"),
        ({"space": {RATE: LATENT, DECAY: {**LATENT, "when": {RATE: 99}}}}, f"{RATE} never is 99"),
        ({"changes": {"model.power": 1, "model": {"power": 1}}}, "model.power is changed twice"),
        ({"changes": {"detector": {"width": "1 m"}}}, "'detector' is no key below model or training"),
        ({"changes": {"model": "debug"}}, "'model' is no key below model or training"),
        ({"changes": {"model": {"": 1}}}, "'model.' is no key below model or training"),
        ({"objectives": [{"figure": "merit_smu"}]}, "Did you mean 'merit_sum'"),
        ({"objectives": [MERIT, MERIT]}, "each figure once"),
        ({"objectives": [MERIT, FPD], "pruner": {"kind": "asha"}}, "with 2 objectives"),
        ({"objectives": [MERIT, FPD], "sampler": {"kind": "cma-es"}}, "one objective"),
    ],
)  # fmt: skip
def test_a_study_that_makes_no_sense_is_refused(changes, message, study):
    with pytest.raises(ConfigError, match=message):
        study(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.generator.latent": 8, "training.optimizer.kind": "adam", "model.power": 0.5},
        {"model": {"generator": {"latent": 8}, "power": 0.5}, "training": {"optimizer": {"kind": "adam"}}},
        {"model": {"generator.latent": 8}, "training.optimizer.kind": "adam", "model.power": 0.5},
    ],
)
def test_changes_may_be_nested_or_keys_with_dots(changes, folder, study):
    config = study(changes=changes)
    run, before = Space(config, folder).base(), Space(study(), folder).base()
    assert (run.model.generator.latent, run.model.power) == (8, 0.5)
    assert run.training.optimizer.kind == "adam"
    # what stands beside them is that of the run
    assert run.model.generator.blocks == before.model.generator.blocks
    assert run.training.batch_size == before.training.batch_size == 12
    # study.yaml of the output is read again in the same way
    assert study(changes=config.changes) == config


def test_conditions_in_a_circle_are_refused(folder, study):
    space = {"model.a": {**LATENT, "when": {"model.b": 5}}, "model.b": {**LATENT, "when": {"model.a": 5}}}
    with pytest.raises(ConfigError, match="depend on each other"):
        Space(study(space=space), folder)


def test_an_observable_that_does_not_exist_is_named_before_anything_runs(folder, study, tmp_path):
    config = study(objectives=[{"figure": "respose.inclusive.mean_shift"}])
    with pytest.raises(ConfigError, match="Did you mean 'response'"):
        run_study(config, tmp_path / "out", folder=folder)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"groups": 4, "workers": 2}, "4 groups x 2 workers x 1 cores need 8 .*groups: 3, workers: 2"),
        ({"groups": 1, "workers": 8}, "groups: 1, workers: 6"),
        ({"cores": 12}, "a worker needs 12, .* has 6"),
        ({"groups": 2, "gpus": 1}, "2 groups x 1 workers x 1 gpus need 2 .* has 1; .*groups: 1, workers: 1"),
    ],
)  # fmt: skip
def test_a_layout_that_does_not_fit_names_one_that_does(layout, message, study):
    with pytest.raises(ConfigError, match=message):
        check_layout(study(layout=layout).layout, {"CPU": 6.0, "GPU": 1.0}, "this machine")

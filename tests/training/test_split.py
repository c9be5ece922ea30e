"""Which showers are trained on, which are held out, and what range the model then claims."""

import json

import numpy as np
import pytest
from toy import DETECTOR, make_showers

import caloforge
from caloforge.beam import BeamConfig, sample_conditions
from caloforge.config import build
from caloforge.errors import ConfigError, DataError
from caloforge.geometry import load_detector
from caloforge.models.registry import create_model, read_model_config
from caloforge.models.released import read_card, trained_conditions
from caloforge.models.store import load_model
from caloforge.models.training_metadata import (
    FIT_SHOWERS,
    DataFacts,
    TrainedRange,
    facts_of_beam,
    facts_of_file,
)
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.select import read_numbers
from caloforge.training.config import EvaluationConfig, TrainingConfig
from caloforge.training.data_split import TrainingShowers, check_count, min_showers, split_showers
from caloforge.training.loop import train_model

MESH = load_detector(DETECTOR).mesh
FROZEN = {"family": "frozen", "preset": "debug", "showers": 1000}


def write(path, batch, provenance=None):
    with ShowerWriter(path, load_detector(DETECTOR), provenance or {}) as writer:
        writer.append(batch)
    return path


def beam(low, high, **more):
    document = {"energy": {"kind": "flat", "min": f"{low} GeV", "max": f"{high} GeV"}} | more
    return build(BeamConfig, document, "beam")


def showers_of(drawn):
    """Showers whose voxels all hold the same, a fiftieth of the energy in all."""
    shape = (6, 8, 8)
    voxels = np.broadcast_to(drawn.energy[:, None, None, None] / 50 / np.prod(shape), (len(drawn), *shape))
    return drawn.with_showers(voxels)


def ranges_of(path, declared=None):
    return facts_of_file(path, declared).ranges


# ---- the split


def test_every_shower_is_in_one_part_and_the_seed_of_the_evaluation_decides():
    split = split_showers(1000, EvaluationConfig(share=0.15))
    assert len(split.held_out) == 150
    np.testing.assert_array_equal(np.sort([*split.train, *split.held_out]), np.arange(1000))
    again = split_showers(1000, EvaluationConfig(share=0.15))
    np.testing.assert_array_equal(split.held_out, again.held_out)
    other = split_showers(1000, EvaluationConfig(share=0.15, seed=1))
    # 22.5 are expected in both by chance, with a spread of 4
    assert len(np.intersect1d(split.held_out, other.held_out)) < 45
    # those that are judged are spread over the file as well
    judged = split.evaluated(40)
    assert np.all(np.diff(judged) > 0) and judged.min() < 150 and judged.max() > 850


def test_a_file_in_the_order_of_energy_is_trained_on_at_all_energies(settings, tmp_path):
    batch = make_showers(240)
    data = write(tmp_path / "sorted.h5", batch[np.argsort(batch.incident_energy)])
    energies = np.sort(batch.incident_energy)
    model = create_model(read_model_config(FROZEN, "model"), data)
    result = train_model(model, data, settings(), tmp_path / "run", seed=1)
    library = np.exp(load_model(tmp_path / "run").conditions[:, 0].double().numpy())
    # each sixth of the energies is held out to about the same share
    for low, high in zip(energies[::40], [*energies[40::40], np.inf], strict=True):
        assert 25 <= np.sum((library >= low * 0.999) & (library < high * 0.999)) <= 40
    assert model.ranges.energy == (pytest.approx(energies[0]), pytest.approx(energies[-1]))
    # and what each part covers is told, and kept with the model
    record = read_card(tmp_path / "run")["data"][0]
    for part, count in (("trained", 204), ("held_out", 36)):
        assert record[part] == json.loads(json.dumps(result.parts[part]))
        assert record[part]["showers"] == count
        low, high = record[part]["energy"]
        assert low < energies[30] and high > energies[-30]
        assert record[part]["pdg_ids"] == [11]
    assert record["trained_on"] == 204


def test_a_fit_reads_the_trained_showers_once_in_the_order_of_the_file(data):
    split = split_showers(240, EvaluationConfig(share=0.15))
    batches = list(TrainingShowers(data, split.train))
    with ShowerFile(data) as file:
        expected = file.column("incident_energy")[split.train]
        one = read_numbers(file, np.array([3, 7, 200]))
        np.testing.assert_array_equal(one.incident_energy, file.column("incident_energy")[[3, 7, 200]])
        np.testing.assert_array_equal(one.showers[2], file.read(200, 201).showers[0])
    np.testing.assert_array_equal(np.concatenate([b.incident_energy for b in batches]), expected)


def test_folds_hold_out_every_shower_once():
    held = [split_showers(101, EvaluationConfig(fold=(f, 4))).held_out for f in range(4)]
    np.testing.assert_array_equal(np.sort(np.concatenate(held)), np.arange(101))
    assert {len(part) for part in held} == {25, 26}
    for wrong in ([4, 4], [0, 1], [-1, 3]):
        with pytest.raises(ConfigError, match="expected \\[f, k\\]"):
            build(EvaluationConfig, {"fold": wrong}, "evaluation")


# ---- how many are enough


def test_the_fewest_showers_are_where_train_begins_to_take_them(settings, tmp_path):
    for config, fewest in ((settings(), 5), (settings(evaluation={"share": 0.5}), 8)):
        assert min_showers(config) == fewest
        assert check_count(fewest, config) == 4
        with pytest.raises(ConfigError, match=f"{fewest - 1} showers are too few .* at least {fewest}"):
            check_count(fewest - 1, config, origin="x.h5")
    assert min_showers(settings(), 8) == 19
    # a part of nothing could not be held out
    assert min_showers(settings(evaluation={"fold": [0, 50]})) == 50
    data = write(tmp_path / "five.h5", make_showers(5))
    model = create_model(read_model_config(FROZEN, "model"), data)
    assert train_model(model, data, settings(), tmp_path / "run", seed=1).reason == "fitted"


def test_fewer_showers_than_a_batch_are_a_batch(new_model, settings, tmp_path):
    data = write(tmp_path / "64.h5", make_showers(64))
    config = settings(batch_size=64, epochs=2, evaluation={"share": 0.1})
    result = train_model(new_model(), data, config, tmp_path / "run", seed=1)
    assert (result.steps, result.batch_size) == (2, 58)


# ---- the range


def test_the_range_is_the_declared_one(tmp_path):
    declared = beam(10, 100, theta={"kind": "flat", "min": "60 deg", "max": "120 deg"})
    batch = showers_of(sample_conditions(declared, MESH, 5, 0, 300))
    assert batch.incident_energy.max() < 1e5 and batch.incident_theta.min() > np.pi / 3 + 1e-3
    by_file = write(tmp_path / "a.h5", batch, {"beam": declared.model_dump(mode="json")})
    undeclared = write(tmp_path / "b.h5", batch)
    for ranges in (ranges_of(by_file), ranges_of(undeclared, declared)):
        assert ranges.energy == (1e4, 1e5)
        assert ranges.theta == pytest.approx((np.pi / 3, 2 * np.pi / 3), abs=1e-12)
        assert ranges.phi == (0, 0)
    # where nobody declares anything, it is that of the showers
    assert ranges_of(undeclared).energy == (batch.incident_energy.min(), batch.incident_energy.max())
    # the file knows better than the run
    assert ranges_of(by_file, beam(1, 1000)).energy == (1e4, 1e5)


def test_any_sample_of_the_same_beam_is_inside(tmp_path):
    """500 + 500 showers flat from 10 to 500 GeV, as one trains and tests."""
    declared = beam(10, 500)
    for seed in range(10):
        path = tmp_path / f"{seed}.h5"
        write(path, showers_of(sample_conditions(declared, MESH, seed, 0, 500)))
        ranges = ranges_of(path, declared)
        asked = sample_conditions(declared, MESH, 1000 + seed, 0, 500)
        ranges.check(asked)
        assert ranges.energy == (1e4, 5e5)


def test_a_beam_does_not_stand_for_showers_that_are_not_there(tmp_path):
    declared = beam(10, 100)
    batch = showers_of(sample_conditions(declared, MESH, 5, 0, 300))
    low = write(tmp_path / "low.h5", batch[batch.incident_energy < 5e4])
    limits = ranges_of(low, declared).energy
    assert limits[0] == 1e4 and 4.5e4 < limits[1] < 5e4
    # nor for those beyond it
    assert ranges_of(write(tmp_path / "all.h5", batch), beam(20, 50)).energy == pytest.approx(
        (batch.incident_energy.min(), batch.incident_energy.max())
    )


def test_joined_files_have_the_union_of_their_beams(tmp_path):
    beams = [beam(1, 10), beam(10, 100)]
    parts = [showers_of(sample_conditions(one, MESH, 3, 0, 200)) for one in beams]
    provenance = {"beams": [one.model_dump(mode="json") for one in beams]}
    path = write(tmp_path / "joined.h5", ShowerBatch.concatenate(parts), provenance)
    assert ranges_of(path, beam(5, 50)).energy == (1e3, 1e5)


def test_the_range_of_the_impact_points(tmp_path):
    declared = beam(10, 100, impact="cell")
    document = {"beam": declared.model_dump(mode="json")}
    batch = showers_of(sample_conditions(declared, MESH, 5, 0, 300))
    ranges = ranges_of(write(tmp_path / "a.h5", batch, document))
    half = MESH.cell_x / 2
    assert ranges.impact_x == ranges.impact_y == (-half, half)
    assert batch.impact_x.max() < half
    # those of another origin, which nobody declares
    assert ranges_of(write(tmp_path / "b.h5", batch)).impact_x == (batch.impact_x.min(), batch.impact_x.max())
    # a file of an earlier version
    batch.impact_x, batch.impact_y = 0 * batch.impact_x, 0 * batch.impact_y
    with pytest.raises(DataError, match=r"anywhere in a cell .* has no impact_x .* simulate it again"):
        ranges_of(write(tmp_path / "old.h5", batch, document))
    # documents of models for the axis are those of earlier versions
    on_axis = ranges_of(write(tmp_path / "c.h5", batch))
    assert set(on_axis.model_dump()) == {"energy", "theta", "phi", "pdg_ids"}
    assert set(ranges.model_dump()) == {*on_axis.model_dump(), "impact_x", "impact_y"}
    assert TrainedRange(**ranges.model_dump()) == ranges


def test_the_range_that_a_model_is_made_for(tmp_path):
    declared = beam(1, 120, theta={"kind": "flat", "min": "60 deg", "max": "120 deg"})
    path = write(tmp_path / "a.h5", showers_of(sample_conditions(declared, MESH, 5, 0, 300)))
    claim = {"energy": {"min": "2 GeV", "max": "100 GeV"}, "theta": {"min": "62 deg", "max": "118 deg"}}
    config = build(TrainingConfig, {"range": claim, "epochs": 1}, "training")
    whole = create_model(read_model_config(FROZEN, "model"), path, beam=declared)
    model = create_model(read_model_config(FROZEN, "model"), path, beam=declared, claim=config.range)
    assert model.ranges == whole.ranges == whole.claim
    assert model.claim.energy == (2e3, 1e5) and model.claim.phi == (0, 0)
    assert model.claim.theta == pytest.approx((np.radians(62), np.radians(118)))
    # the documents of models without a claim are those of earlier versions
    assert "claimed" not in whole.facts.model_dump()
    train_model(model, path, config, tmp_path / "run", seed=1)
    stored = load_model(tmp_path / "run")
    assert stored.claim == model.claim and stored.ranges == model.ranges
    card = read_card(tmp_path / "run")
    assert trained_conditions(card)["energy"] == "2 GeV to 100 GeV"
    assert "2 GeV to 100 GeV" in (tmp_path / "run" / "model" / "README.md").read_text()
    # generation keeps to it, and draws from it
    with pytest.raises(ConfigError, match=r"energy: got 1\.5 GeV, the model was trained on 2 GeV"):
        caloforge.generate(tmp_path / "run", n=2, energy="1.5 GeV", progress=False)
    made = caloforge.generate(tmp_path / "run", n=200, progress=False)
    assert made.incident_energy.min() >= 2e3 and made.incident_energy.max() <= 1e5
    assert made.incident_energy.max() > 9e4


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            {"energy": {"min": "1 GeV", "max": "90 GeV"}},
            r"range\.energy: got 1 GeV to 90 GeV, but .* 10 GeV",
        ),
        ({"energy": {"min": "20 GeV", "max": "101 GeV"}}, "give a part of that, or simulate more"),
        ({"theta": {"min": "80 deg", "max": "95 deg"}}, "range.theta: got 80 deg to 95 deg"),
    ],
)
def test_a_range_beyond_that_of_the_showers_is_refused(tmp_path, claim, message):
    path = write(tmp_path / "a.h5", showers_of(sample_conditions(beam(10, 100), MESH, 5, 0, 300)))
    config = build(TrainingConfig, {"range": claim}, "training")
    with pytest.raises(ConfigError, match=message):
        create_model(read_model_config(FROZEN, "model"), path, beam=beam(10, 100), claim=config.range)
    with pytest.raises(ConfigError, match=message):
        facts_of_beam(beam(10, 100), MESH, config.range)


def test_a_card_cannot_claim_what_its_model_does_not_know(tmp_path):
    ranges = TrainedRange(energy=(1e4, 1e5), theta=(1.5, 1.6), phi=(0, 0), pdg_ids=(11,))
    for changes in ({"energy": (1e3, 1e5)}, {"pdg_ids": (11, 22)}, {"impact_x": (-1, 1)}):
        document = {
            "ranges": ranges.model_dump(),
            "claimed": ranges.model_dump() | changes,
            "response_fit": [1],
        }
        with pytest.raises(ConfigError, match=f"claimed.{next(iter(changes))}"):
            build(DataFacts, document, "facts")


@pytest.mark.parametrize("family", ["frozen", "gan3d"])
def test_a_family_that_cannot_move_the_impact_point_refuses_it(family, tmp_path):
    batch = showers_of(sample_conditions(beam(10, 100, impact="cell"), MESH, 5, 0, 30))
    path = write(tmp_path / "cell.h5", batch)
    config = read_model_config({"family": family, "preset": "debug"}, "model")
    with pytest.raises(ConfigError, match=rf"model {family}: .* mm beside the axis .* beam.impact: centre"):
        create_model(config, path)


def test_the_provenance_of_other_origin_declares_nothing(tmp_path):
    batch = make_showers(50)
    path = write(tmp_path / "x.h5", batch, {"beam": "e- of 10 GeV"})
    assert ranges_of(path).energy == (batch.incident_energy.min(), batch.incident_energy.max())


def test_a_response_is_fitted_to_the_whole_of_a_large_file(tmp_path, monkeypatch):
    """Sorted by energy, with a response that falls: the first showers alone would say another one."""
    assert FIT_SHOWERS < 10**5
    monkeypatch.setattr("caloforge.models.training_metadata.FIT_SHOWERS", 100)
    drawn = sample_conditions(beam(10, 100), MESH, 1, 0, 1000)
    batch = showers_of(drawn)
    batch.showers = batch.showers * (1 - 0.3 * (batch.incident_energy / 1e5))[:, None, None, None]
    path = write(tmp_path / "sorted.h5", batch[np.argsort(batch.incident_energy)])
    facts = facts_of_file(path)
    at_top = np.polynomial.polynomial.polyval(1.0, facts.response_fit)
    assert at_top == pytest.approx(0.02 * 0.7, rel=0.03)

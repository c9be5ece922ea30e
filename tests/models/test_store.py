"""Model directories: complete, digested, never unpickled."""

import json
import math
import os
from dataclasses import replace

import pytest
import torch

from caloforge.conditions import Conditions
from caloforge.errors import ConfigError, ModelError
from caloforge.models.registry import list_models
from caloforge.models.released import read_card
from caloforge.models.store import load_model, model_digest, read_verified_card, save_model
from caloforge.models.training_metadata import facts_of_file
from caloforge.provenance import collect
from caloforge.showers import ShowerWriter
from caloforge.testing.model_contract import made_up_batch


@pytest.fixture
def saved(make_model, tmp_path):
    model = make_model()
    return model, save_model(model, tmp_path / "run" / "model", dict(model.state_dict()), merit=0.5)


def test_a_run_directory_and_its_model_directory(saved):
    model, folder = saved
    for path in (folder, folder.parent, str(folder)):
        loaded = load_model(path)
        assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    assert not loaded.training
    assert read_card(folder)["merit"] == 0.5
    assert read_card(folder)["parameters"]["generator"] > 1000
    assert "0.5" in (folder / "README.md").read_text()


def test_saving_again_replaces_the_weights(saved, make_model):
    _, folder = saved
    first = model_digest(folder)
    other = make_model(cell_unit="30 MeV")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    save_model(other, folder, dict(other.state_dict()))
    assert model_digest(folder) != first
    assert len(list(folder.glob("*.safetensors"))) == 1
    assert load_model(folder).config.cell_unit == 30


def test_a_kill_between_weights_and_card_leaves_the_old_model(saved, make_model, monkeypatch):
    model, folder = saved
    other = make_model()
    with torch.no_grad():
        next(other.parameters()).add_(1.0)

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("caloforge.models.store.write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(other, folder, dict(other.state_dict()))
    loaded = load_model(folder)
    assert torch.equal(next(loaded.parameters()), next(model.parameters()))


def test_tampered_weights(saved):
    _, folder = saved
    weights = next(folder.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="tampered"):
        load_model(folder)


def test_missing_weights(saved):
    _, folder = saved
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "version 99"),
        ({"format": "other"}, "not the description"),
        ({"config": {"family": "gan3d", "generater": {}}}, "generator"),
        ({"detector": {"name": "x"}}, "incomplete or changed"),
        ({"weights_sha256": "../../etc/passwd"}, "expected 64 hexadecimal digits"),
    ],
)
def test_changed_cards(saved, change, message):
    _, folder = saved
    card = json.loads((folder / "model.json").read_text()) | change
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_card_that_is_no_json(saved):
    _, folder = saved
    (folder / "model.json").write_text("{")
    with pytest.raises(ModelError, match="JSON"):
        load_model(folder)


def test_directories_without_a_model(tmp_path):
    with pytest.raises(ModelError, match="no such directory"):
        load_model(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelError, match="--resume"):
        load_model(tmp_path)


def test_facts_of_a_file(make_model, tmp_path):
    model = make_model()
    batch = made_up_batch(model, count=400)
    visible = batch.showers.flatten(1).sum(1).numpy()
    from caloforge.showers import ShowerBatch

    energy = batch.condition.energy.numpy()
    # a response that falls with ln E: the fit must find it again
    wanted = (0.03 - 0.002 * (torch.log(batch.condition.energy) - 9).numpy()) * energy
    showers = batch.showers.numpy() * (wanted / visible)[:, None, None, None]
    c = batch.condition
    with ShowerWriter(tmp_path / "t.h5", model.detector, collect()) as writer:
        writer.append(ShowerBatch(showers, energy, c.theta.numpy(), c.phi.numpy(), c.pdg_id.numpy()))
    facts = facts_of_file(tmp_path / "t.h5")
    offset, scale = facts.response_argument()
    for at in (2e4, 1e5, 4e5):
        import numpy as np

        fitted = np.polynomial.polynomial.polyval((np.log(at) - offset) * scale, facts.response_fit)
        assert fitted == pytest.approx(0.03 - 0.002 * (np.log(at) - 9), rel=1e-3)
    assert facts.ranges.energy == (pytest.approx(energy.min()), pytest.approx(energy.max()))
    assert facts.ranges.pdg_ids == (11,)


def test_outside_the_trained_range(make_model):
    import numpy as np

    ranges = make_model().ranges
    inside = Conditions(np.array([1e5]), np.array([1.5]), np.array([0.0]), np.array([11]))

    def check(extrapolate=False, **changes):
        ranges.check(replace(inside, **{k: np.array(v) for k, v in changes.items()}), extrapolate=extrapolate)

    check()
    with pytest.raises(ConfigError, match=r"(?s)10 GeV to 500 GeV.*extrapolate") as error:
        check(energy=[1e6], theta=[0.5])
    assert "theta" in str(error.value)
    # a hair beyond is no extrapolation: samples do not quite reach the limits they were drawn from
    check(energy=[0.995e4]), check(energy=[5.04e5])
    with pytest.raises(ConfigError, match="energy"):
        check(energy=[0.98e4])
    check(energy=[1e6], extrapolate=True)
    with pytest.raises(ConfigError, match="particle 22"):
        check(pdg_id=[22], extrapolate=True)
    with pytest.raises(ConfigError, match=r"impact_x: got 0\.5 mm, the model was trained on 0 m"):
        check(impact_x=[0.5])
    wider = ranges.model_copy(update={"impact_x": (-2.5, 2.5), "impact_y": (-2.5, 2.5)})
    wider.check(replace(inside, impact_x=np.array([2.5]), impact_y=np.array([-2.5])))


# ---- what strangers may put into a model directory


def change_card(folder, **changes):
    card = json.loads((folder / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps(card))


def refusals(folder):
    """What loading and looking say; one line each."""
    for ask in (load_model, read_verified_card):
        with pytest.raises(ModelError) as caught:
            ask(folder)
        words = str(caught.value)
        assert "\n" not in words
        assert len(words) < 500
        yield words


@pytest.mark.parametrize(
    "text", ["null", "[]", "3", '"x"', "{}", "", "[" * 100_000, "1" * 5000, '{"a": NaN}']
)
def test_cards_that_are_none(saved, text):
    _, folder = saved
    (folder / "model.json").write_text(text)
    for words in refusals(folder):
        assert "model.json" in words


@pytest.mark.parametrize(
    "change",
    [
        {"config": None},
        {"config": []},
        {"config": {"family": None}},
        {"config": {"family": "x" * 100_000}},
        {"config": {"family": ["gan3d"]}},
        {"detector": None},
        {"detector": {"name": "a\0b"}},
        {"facts": 3},
        {"facts": {"ranges": {}}},
        {"weights_sha256": "a\0b"},
        {"weights_sha256": 7},
        {"weights_sha256": "../" * 30},
        {"weights_bytes": -1},
        {"weights_bytes": "many"},
        {"weights_bytes": True},
        {"weights_bytes": 10},
        {"weights_bytes": 10**12},
    ],
)
def test_cards_with_parts_that_are_none(saved, change):
    _, folder = saved
    change_card(folder, **change)
    for words in refusals(folder):
        assert str(folder) in words


def test_ranges_that_cannot_be(saved):
    _, folder = saved
    facts = json.loads((folder / "model.json").read_text())["facts"]
    for change in ({"energy": [-1.0, 5.0]}, {"energy": [0, 0]}, {"theta": [2.0, 1.0]}, {"pdg_ids": [11, 11]}):
        change_card(folder, facts=facts | {"ranges": facts["ranges"] | change})
        for words in refusals(folder):
            assert next(iter(change)) in words


@pytest.mark.parametrize("name", ["family", "parameters", "config", "detector", "facts", "weights_bytes"])
def test_cards_without_a_part(saved, name):
    _, folder = saved
    card = json.loads((folder / "model.json").read_text())
    del card[name]
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=name):
        read_verified_card(folder)


def test_another_family_than_the_configuration_says(saved):
    _, folder = saved
    change_card(folder, family="layered")
    with pytest.raises(ModelError, match="family"):
        read_verified_card(folder)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["device", "zero", "pipe", "folder", "loop", "larger", "shorter", "link"])
def test_weights_that_are_no_file_of_the_size_the_card_names(saved, what):
    model, folder = saved
    weights = next(folder.glob("*.safetensors"))
    data = weights.read_bytes()
    weights.unlink()
    if what in ("device", "zero"):
        weights.symlink_to({"device": "/dev/null", "zero": "/dev/zero"}[what])
    elif what == "pipe":
        os.mkfifo(weights)
    elif what == "folder":
        weights.mkdir()
    elif what == "loop":
        weights.symlink_to(weights)
    elif what == "link":
        # caches of models are made of these
        (folder.parent / "blob").write_bytes(data)
        weights.symlink_to(folder.parent / "blob")
        loaded = load_model(folder).state_dict()
        assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
        return
    else:
        weights.write_bytes(data[:-1] if what == "shorter" else data + b"0" * 10**6)
    for words in refusals(folder):
        assert weights.name in words


@pytest.mark.timeout(20)
def test_a_card_that_is_a_pipe_or_endless(saved):
    _, folder = saved
    card = folder / "model.json"
    card.unlink()
    os.mkfifo(card)
    with pytest.raises(ModelError, match=r"no model\.json"):
        load_model(folder)
    card.unlink()
    with card.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(ModelError, match="expected at most"):
        load_model(folder)


BLOCK = {"filters": 1, "kernel": [1, 1, 1]}
LARGE = {
    "weights": {"generator": {"latent": 65536, "seed_channels": 1024, "blocks": [BLOCK]}},
    "filters": {"discriminator": {"blocks": [{"filters": 1024, "kernel": [25, 25, 25], "same": True}] * 3}},
    "images": {
        "generator": {
            "blocks": [
                {"filters": 64, "kernel": [1, 1, 1], "upsample": [32, 32, 32]},
                {"filters": 1, "kernel": [1, 1, 1], "upsample": [32, 32, 32]},
            ]
        }
    },
    "blocks": {"generator": {"blocks": [BLOCK] * 2000}},
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", LARGE)
def test_networks_that_would_take_gigabytes(saved, what):
    _, folder = saved
    config = json.loads((folder / "model.json").read_text())["config"]
    change_card(folder, config=config | {k: config[k] | v for k, v in LARGE[what].items()})
    with pytest.raises(ModelError, match=r"--allow-large|at most 256"):
        load_model(folder)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("family", ["layered", "frozen"])
def test_meshes_that_would_take_gigabytes(make_model, tmp_path, family):
    model = make_model("debug", "par04-siw", family=family)
    save_model(model, tmp_path, dict(model.state_dict()))
    detector = json.loads((tmp_path / "model.json").read_text())["detector"]
    mesh = detector["mesh"] | {"nr": 100, "nphi": 4000, "cell_r": "0.1 mm"}
    facts = json.loads((tmp_path / "model.json").read_text())["facts"]
    # every turn of a cylinder is an image
    facts["ranges"]["theta"] = [math.pi / 2] * 2
    change_card(tmp_path, detector=detector | {"mesh": mesh}, facts=facts)
    with pytest.raises(ModelError, match="--allow-large"):
        load_model(tmp_path)


def test_a_large_model_is_taken_where_it_is_asked_for(saved, monkeypatch):
    _, folder = saved
    monkeypatch.setattr("caloforge.models.checks.LARGEST_MODEL", 1000)
    with pytest.raises(ModelError, match=r"expected at most 1e\+03; .* --allow-large"):
        load_model(folder)
    load_model(folder, allow_large=True)


@pytest.mark.parametrize(
    ("family", "detector"), [(f, d) for f in list_models() for d in ("clic-ecal-25", "par04-siw")]
)
def test_numbers_are_counted_before_they_are_there(make_model, family, detector):
    model = make_model("debug", detector, family=family)
    held = sum(part.numel() for part in (*model.parameters(), *model.buffers()))
    assert held <= type(model).count_numbers(model.config, model.detector, model.facts) < 50 * held

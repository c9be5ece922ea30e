"""Model directories: complete, digested, never unpickled."""

import json

import pytest
import torch

from caloforge.errors import ConfigError, ModelError
from caloforge.models.facts import facts_of_file
from caloforge.models.released import read_card
from caloforge.models.store import load_model, model_digest, save_model
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
        ({"weights_sha256": "../../etc/passwd"}, "cannot be read"),
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
    inside = {
        "energy": np.array([1e5]),
        "theta": np.array([1.5]),
        "phi": np.array([0.0]),
        "pdg_id": np.array([11]),
    }
    ranges.check(**inside)
    with pytest.raises(ConfigError, match=r"(?s)10 GeV to 500 GeV.*extrapolate") as error:
        ranges.check(**inside | {"energy": np.array([1e6]), "theta": np.array([0.5])})
    assert "theta" in str(error.value)
    # a hair beyond is no extrapolation: samples do not quite reach the limits they were drawn from
    ranges.check(**inside | {"energy": np.array([0.995e4, 5.04e5])})
    with pytest.raises(ConfigError, match="energy"):
        ranges.check(**inside | {"energy": np.array([0.98e4])})
    ranges.check(**inside | {"energy": np.array([1e6])}, extrapolate=True)
    with pytest.raises(ConfigError, match="particle 22"):
        ranges.check(**inside | {"pdg_id": np.array([22])}, extrapolate=True)

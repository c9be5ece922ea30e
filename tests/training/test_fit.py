"""What is fitted before the first step: on the training split alone, once, and stored with the weights."""

import numpy as np
import pytest
import torch

from caloforge.models.registry import create_model, read_model_config
from caloforge.models.released import read_card
from caloforge.models.store import load_model
from caloforge.showers import ShowerFile
from caloforge.training.data_split import split_showers
from caloforge.training.loop import train_model

# 240 showers, of which 15 % are held out
SPLIT = 204


@pytest.fixture
def fitting_model(new_model):
    """A 3DGAN that also keeps the energies it was fitted to, read twice, and a random number."""

    def make():
        model = new_model()

        class Fitting(type(model)):
            def fit(self, batches, rng):
                passes = [np.concatenate([batch.incident_energy for batch in batches]) for _ in range(2)]
                np.testing.assert_array_equal(*passes)
                self.fitted.append((passes[0], rng.random()))
                self.generator.seen.fill_(len(passes[0]))

        model.__class__ = Fitting
        model.fitted = []
        model.generator.register_buffer("seen", torch.zeros(()))
        return model

    return make


def test_the_fit_sees_the_training_split_alone_and_is_not_repeated(fitting_model, data, settings, tmp_path):
    first, second = fitting_model(), fitting_model()
    train_model(first, data, settings(epochs=1), tmp_path / "run", seed=1)
    with ShowerFile(data) as file:
        energies = file.column("incident_energy")
    split = split_showers(240, settings().evaluation)
    assert len(split.train) == SPLIT
    np.testing.assert_array_equal(first.fitted[0][0], energies[split.train])
    assert len(first.fitted) == 1
    train_model(second, data, settings(epochs=2), tmp_path / "run", seed=1, resume=True)
    # what was fitted came back with the checkpoint, and with the average of the weights
    assert second.fitted == []
    assert second.generator.seen == SPLIT


def test_the_seed_of_the_training_decides_the_fit(fitting_model, data, settings, tmp_path):
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model = fitting_model()
        train_model(model, data, settings(max_steps=1), tmp_path / name, seed=seed)
        drawn.append(model.fitted[0][1])
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_family_without_gradient_steps_is_fitted_evaluated_and_stored(data, settings, tmp_path):
    config = read_model_config({"family": "frozen", "preset": "debug"}, "model")
    out = tmp_path / "run"
    result = train_model(create_model(config, data), data, settings(), out, seed=1)
    assert (result.steps, result.reason) == (0, "fitted")
    model = load_model(out)
    with ShowerFile(data) as file:
        trained = split_showers(240, settings().evaluation).train
        energies = np.log(file.column("incident_energy")[trained].astype(np.float64))
    library = model.conditions[:, 0].numpy()
    assert len(library) == config.showers
    # the weights are the library, and a header
    assert 0 < read_card(out)["weights_bytes"] - model.library_bytes() < 2000
    assert np.isin(library.round(4), energies.astype(np.float32).round(4)).all()
    # taken again from the checkpoint: the same library, though it is of another size before it is loaded
    again = train_model(create_model(config, data), data, settings(), out, seed=1, resume=True)
    assert again.best == result.best
    assert torch.equal(load_model(out).codes, model.codes)

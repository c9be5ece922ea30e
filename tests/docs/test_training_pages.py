"""The pages about run and model directories name everything that a training writes."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
from pages import blocks, read

from caloforge import ShowerBatch, ShowerFile, ShowerWriter, load_detector
from caloforge.config import build
from caloforge.models.base import TrainingBatch
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.registry import create_model
from caloforge.models.store import save_model
from caloforge.models.training_metadata import facts_of_file
from caloforge.training.checkpoint import Progress, save_checkpoint
from caloforge.training.config import OptimizerConfig
from caloforge.training.evaluation import Evaluation
from caloforge.training.optimizers import build_optimizers
from caloforge.training.process_group import Communicator
from caloforge.training.timers import TimeSplit

SETTINGS = {
    "preset": "debug",
    "weights": {"angle": 1.0, "spectrum": 0.1},
    "generator": {
        "latent": 4,
        "seed_channels": 1,
        "blocks": [{"filters": 1, "kernel": [3, 3, 3], "same": True, "activation": "relu"}],
    },
    "discriminator": {"blocks": [{"filters": 2, "kernel": [3, 3, 3], "same": True}]},
}
SHOWERS = 24


def named(page):
    return set(re.findall(r"`([\w.]+)`", read(f"docs/reference/{page}.md")))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("docs") / "train.h5"
    detector = load_detector({"preset": "clic-ecal-25", "mesh": {"nx": 5, "ny": 5}})
    rng = np.random.default_rng(1)
    with ShowerWriter(path, detector, {}) as writer:
        writer.append(
            ShowerBatch(
                showers=rng.exponential(5.0, (SHOWERS, *detector.shower_shape)),
                incident_energy=rng.uniform(1e4, 1e5, SHOWERS),
                incident_theta=np.full(SHOWERS, np.pi / 2),
                incident_phi=np.zeros(SHOWERS),
                pdg_id=np.full(SHOWERS, 11),
            )
        )
    return path


@pytest.fixture(scope="module")
def model(data):
    return create_model(build(Gan3dConfig, SETTINGS, "model"), data, seed=1)


def test_every_key_of_metrics_jsonl_is_explained(model, data):
    with ShowerFile(data) as file:
        batch = TrainingBatch.of(file.read(0, 4))
    torch.manual_seed(1)
    logs = {name for phase in model.step(batch) for name in phase.logs}
    with Communicator(60) as alone:
        found = Evaluation(data, range(4, SHOWERS), alone)(model, torch.device("cpu"), "fp32")
    keys = {f"eval_{name}" for name in found} | {f"seconds_{name}" for name in asdict(TimeSplit())}
    assert logs | keys <= named("run-directory")


def test_every_file_of_a_checkpoint_is_named(model, tmp_path):
    optimizers = build_optimizers(model, OptimizerConfig())
    folder = save_checkpoint(tmp_path, Progress(), model, model.sampler(), optimizers, keep=1)
    tree = read("docs/reference/run-directory.md")
    assert all(path.name in tree for path in folder.iterdir())


def test_every_key_of_a_card_is_explained(model, tmp_path):
    save_model(model, tmp_path, dict(model.state_dict()), merit=1.0, step=1, epoch=1, seed=1)
    card = json.loads((tmp_path / "model.json").read_text())
    keys = set(card) - {"facts"} | {f"facts.{name}" for name in card["facts"]}
    assert keys <= named("model")


def test_the_family_of_the_guide_learns_the_mean_shower(data):
    names = {}
    config, family, _ = blocks("docs/how-to/new-model-family.md", "python")
    exec(compile(config, "config.py", "exec"), names)
    exec(compile(family, "model.py", "exec"), names)
    with ShowerFile(data) as file:
        batch, detector = TrainingBatch.of(file.read(0, SHOWERS)), file.detector
    model = names["MeanShower"](names["MeanShowerConfig"](), detector, facts_of_file(data))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(200):
        for phase in model.step(batch):
            optimizer.zero_grad()
            phase.loss.backward()
            optimizer.step()
    with torch.no_grad():
        showers = model.generate(batch.condition, torch.zeros(SHOWERS, *model.noise_shape))
    assert showers.shape == batch.showers.shape
    assert torch.allclose(showers.flatten(1).sum(1), 0.02 * batch.condition.energy)
    wanted = batch.showers.sum(0) / batch.showers.sum()
    assert torch.allclose(showers.sum(0) / showers.sum(), wanted, rtol=0.02, atol=1e-5)

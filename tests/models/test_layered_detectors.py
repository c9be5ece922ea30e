"""The layered family on unusual detectors, with made-up showers and a short training."""

import math

import numpy as np
import pytest
import torch

from caloforge.errors import ConfigError
from caloforge.geometry import load_detector
from caloforge.models.base import Condition, TrainingBatch
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerBatch

RANGES = TrainedRange(energy=(1e3, 5e4), theta=(math.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(22,))
FACTS = DataFacts(ranges=RANGES, response_fit=(0.02, -0.002))
DEBUG = {"family": "layered", "preset": "debug"}
STEPS, BATCH = 30, 50

# detector, overrides, particles of a GeV, thickness of the active plates of each layer by its index
CASES = {
    "one layer": ("crystal-pbwo4", ("layers.0.repeat=1", "mesh.nx=7", "mesh.ny=7"), 20.0, lambda _: 1.0),
    "90 layers": ("par04-siw", ("mesh.layers_per_voxel=1", "mesh.nr=4", "mesh.nphi=4"), 200.0, lambda _: 1.0),
    "few hits": ("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"), 0.4, lambda _: 1.0),
    "all cells hit": ("crystal-pbwo4", ("mesh.nx=5", "mesh.ny=5"), 4000.0, lambda _: 1.0),
    "layers differ": ("hgcal-like", ("mesh.nx=7", "mesh.ny=7"), 60.0, lambda layer: 1.0 + 2.0 * (layer % 3)),
    "unequal cells": ("par04-scipb", ("layers.0.repeat=9", "mesh.nr=7", "mesh.nphi=8"), 60.0, lambda _: 1.0),
}
# five hits a shower on average: few showers see what is rare
RARE = {"few hits": 0.1}


def made_up(detector, particles, thickness, count, seed):
    """Showers whose particles leave energies in proportion to the thickness of a plate.

    Their density falls exponentially with the distance from an axis that differs from shower to shower, and
    follows a Gamma distribution along the depth.
    """
    rng = np.random.default_rng(seed)
    layers, shape = detector.n_layers, detector.mesh.layer_shape()
    energy = np.exp(rng.uniform(*np.log(RANGES.energy), count))
    depth = (np.arange(layers) + 0.5) / layers * 20
    peak = np.log(energy / 10) - 0.5 + rng.normal(0, 0.7, count)
    profile = depth ** (peak[:, None] / 2) * np.exp(-depth / 2)
    x, y = (part.reshape(-1) for part in detector.mesh.positions())
    size = detector.mesh.half_extent()
    centre = rng.normal(0, 0.02 * size, (2, count, 1))
    density = np.exp(-np.hypot(x - centre[0], y - centre[1]) / (0.2 * size))
    if detector.mesh.kind == "cylindrical":
        density = density * np.hypot(x, y)
    expected = profile[:, :, None] * density[:, None]
    expected *= (particles * energy / 1e3 / expected.sum((1, 2)))[:, None, None]
    number = rng.poisson(expected)
    showers = rng.gamma(2.0 * number) * 0.1 * np.array([thickness(k) for k in range(layers)])[None, :, None]
    showers[showers < 1e-3] = 0
    return ShowerBatch(
        showers.reshape(count, layers, *shape).astype(np.float32),
        energy.astype(np.float32),
        np.full(count, math.pi / 2, np.float32),
        np.zeros(count, np.float32),
        np.full(count, 22, np.int32),
    )


def trained(detector, batch):
    config = DEBUG | {"likelihood_steps": STEPS, "matching_steps": STEPS}
    model = build_model(read_model_config(config, "model"), detector, FACTS, seed=1)
    model.fit([batch], np.random.default_rng(0))
    optimizers = {n: torch.optim.Adam(p.parameters(), lr=0.01) for n, p in model.optimized().items()}
    torch.manual_seed(0)
    for step in range(2 * STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % len(batch)
        for phase in model.step(TrainingBatch.of(batch[rows])):
            assert torch.isfinite(phase.loss)
            optimizers[phase.optimizer].zero_grad()
            phase.loss.backward()
            optimizers[phase.optimizer].step()
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_it_makes_the_energies_and_hits_that_it_was_trained_on(case):
    name, overrides, particles, thickness = CASES[case]
    detector = load_detector(name, overrides)
    real = made_up(detector, particles, thickness, 400, seed=1)
    model = trained(detector, real)
    torch.manual_seed(1)
    with torch.inference_mode():
        showers = model.generate(Condition.of(real), model.example_noise(len(real))).numpy()
    assert np.isfinite(showers).all() and (showers >= 0).all()
    want = real.showers.reshape(len(real), detector.n_layers, -1)
    got = showers.reshape(want.shape)
    ring = model.geometry.ring
    for measure in (lambda cells: cells, lambda cells: (cells > 0).astype(float)):
        both = [measure(cells).sum(2) for cells in (want, got)]
        mean, made = (part.mean(0) for part in both)
        error = np.hypot(*(part.std(0) for part in both)) / math.sqrt(len(real))
        # what is rarer is too frequent; see the sum
        often = (both[0] > 0).mean(0) > 0.1
        assert (np.abs(made - mean) < RARE.get(case, 0.05) * mean + 3 * error)[often].all()
        assert made.sum() == pytest.approx(mean.sum(), rel=RARE.get(case, 0.03))
        # what a cell expects goes with its size
        rings = [np.bincount(ring, measure(cells).sum((0, 1))) for cells in (want, got)]
        assert rings[1] == pytest.approx(rings[0], rel=RARE.get(case, 0.1), abs=0.05 * rings[0].sum())


def test_a_ragged_mesh_is_refused_with_what_its_layers_have_not_in_common():
    layers = [
        {"id": 0, "r_edges": ["0 mm", "5 mm", "10 mm"], "nphi": 1},
        {"id": 1, "r_edges": ["0 mm", "2 mm", "20 mm"], "nphi": 10},
    ]
    detector = load_detector({"name": "ragged", "mesh": {"kind": "ragged", "layers": layers}})
    config = read_model_config(DEBUG, "model")
    with pytest.raises(ConfigError) as refused:
        build_model(config, detector, FACTS, seed=1)
    message = str(refused.value)
    assert "the mesh of ragged is ragged, its layers have 2 to 20 cells" in message
    assert "needs a cartesian or cylindrical mesh, the same cells in every layer" in message
    assert "frozen" in message


def test_layers_behind_the_end_of_a_shower_stay_empty_at_another_energy():
    """Showers that end at a depth which grows with the energy; behind it one layer in fifty has a hit."""
    detector = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))
    rng, count, layers = np.random.default_rng(2), 1200, detector.n_layers
    energy = np.exp(rng.uniform(*np.log(RANGES.energy), count)).astype(np.float32)
    end = 4 + 4 * np.log(energy / 1e3)
    inside = np.arange(layers) < end[:, None] + rng.normal(0, 1, (count, 1))
    expected = np.where(inside, 4.0, 0.02)[:, :, None] / 25
    showers = (0.2 * (rng.random((count, layers, 25)) < expected)).astype(np.float32)
    angles = np.full(count, math.pi / 2, np.float32), np.zeros(count, np.float32)
    real = ShowerBatch(showers.reshape(count, layers, 5, 5), energy, *angles, np.full(count, 22, np.int32))
    model = build_model(read_model_config(DEBUG, "model"), detector, FACTS, seed=1)
    model.fit([real], np.random.default_rng(0))
    noise = torch.randn((count, model.layer_sampler.noise_size), generator=torch.Generator().manual_seed(1))
    made = model.sample_features(Condition.of(real), noise).hit_counts.sum(2).numpy()
    want, low = (showers > 0).sum(2), energy < 5e3
    behind = (np.arange(layers) > end[:, None] + 4) & low[:, None]
    assert made[behind].mean() == pytest.approx(want[behind].mean(), rel=0.25)
    assert made[low].mean() == pytest.approx(want[low].mean(), rel=0.04)


def test_models_of_earlier_releases_map_hits_and_empty_layers_alike():
    detector = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))
    model = build_model(read_model_config(DEBUG, "model"), detector, FACTS, seed=1)
    sampler, counts = model.layer_sampler, model.layout.root_counts
    sampler.least[counts] = 1
    state = sampler.state_dict()
    del state["least"]
    sampler.load_state_dict(state)
    assert sampler.least.max() < 0

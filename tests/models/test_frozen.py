"""The frozen library: what it takes, what it makes of it, and that it never invents."""

import math

import numpy as np
import pytest
import torch

from caloforge.errors import ModelError, TrainingError
from caloforge.generation.backend_selection import candidates
from caloforge.generation.engine import load_on_backend
from caloforge.generation.plan import Plan
from caloforge.geometry import load_detector
from caloforge.models.base import Condition
from caloforge.models.frozen.library import draw_library
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerBatch, ShowerFile

HALF = math.pi / 2


def library(batch, detector="clic-ecal-25", theta=(HALF, HALF), phi=(0.0, 0.0), mesh=(), **settings):
    """A fitted library of all showers of a batch."""
    ranges = TrainedRange(
        energy=(1e4, 5e5), theta=theta, phi=phi, pdg_ids=tuple(sorted(set(batch.pdg_id.tolist())))
    )
    config = read_model_config({"family": "frozen", "showers": 1000, **settings}, "model")
    model = build_model(config, load_detector(detector, mesh), DataFacts(ranges=ranges, response_fit=(0.02,)))
    model.fit([batch], np.random.default_rng(0))
    return model.eval()


def batch_of(energies, theta=HALF, phi=0.0, pdg_id=11, shape=(25, 25, 25), seed=0):
    """Showers of a few hundred cells that differ in every cell, with some below a keV."""
    rng = np.random.default_rng(seed)
    showers = rng.lognormal(0, 2, (len(energies), *shape)) * (rng.random((len(energies), *shape)) < 0.03)
    full = np.full(len(energies), 1.0)
    return ShowerBatch(showers, np.array(energies), full * theta, full * phi, np.int32(full * pdg_id))


def ask(model, energy, theta=HALF, phi=0.0, pdg_id=11, count=400, seed=0):
    full = torch.ones(count)
    noise = torch.randn((count, *model.noise_shape), generator=torch.Generator().manual_seed(seed))
    condition = Condition(full * energy, full * theta, full * phi, (full * pdg_id).int())
    with torch.inference_mode():
        return model.generate(condition, noise).numpy()


def test_a_shower_comes_back_as_it_was():
    batch = batch_of([1e4, 5e4, 2.5e5])
    model = library(batch, neighbours=1, symmetries=False)
    for row in range(3):
        shower = ask(model, batch.incident_energy[row], count=1)[0]
        kept = np.where(batch.showers[row] >= 1e-3, batch.showers[row], 0)
        # a step of the 16-bit code is 0.03 % of the cell's energy
        np.testing.assert_allclose(shower, kept, rtol=2e-4)
        assert ((shower > 0) == (kept > 0)).all()


def test_energies_are_scaled_by_the_ratio_of_the_incident_ones():
    batch = batch_of([1e5])
    model = library(batch, symmetries=False)
    np.testing.assert_allclose(ask(model, 1.1e5, count=1), 1.1 * ask(model, 1e5, count=1), rtol=1e-5)


def test_the_nearest_in_the_logarithm_are_taken_with_equal_chances():
    energies = np.geomspace(1e4, 5e5, 40)
    batch = batch_of(energies)
    # a cell of the first layer tells which one it was
    batch.showers[:, 0] = 0
    batch.showers[np.arange(40), 0, 0, np.arange(40) % 25] = np.arange(1, 41) > 25
    batch.showers[np.arange(40), 0, 1, np.arange(40) % 25] = np.arange(1, 41) <= 25
    model = library(batch, neighbours=4, symmetries=False)
    for asked, nearest in (
        (1e4, {0, 1, 2, 3}),
        (5e5, {36, 37, 38, 39}),
        (energies[20] * 1.01, {19, 20, 21, 22}),
    ):
        index = ask(model, asked)[:, 0, [1, 0]].reshape(-1, 50).argmax(1)
        found, counts = np.unique(index, return_counts=True)
        assert set(found.tolist()) == nearest
        # 400 draws among four: 100 expected, with a standard deviation of 9
        assert counts.min() > 60


def test_search_by_energy_alone_and_the_general_search_agree():
    batch = batch_of(np.geomspace(1e4, 5e5, 50), seed=1)
    batch.pdg_id[::3] = 22
    slow = library(batch, theta=(HALF - 1, HALF + 1), symmetries=False)
    fast = library(batch, symmetries=False)
    for pdg_id in (11, 22):
        for energy in (1e4, 7.7e4, 5e5):
            assert np.array_equal(ask(slow, energy, pdg_id=pdg_id), ask(fast, energy, pdg_id=pdg_id))


def test_the_particle_is_never_another_one():
    batch = batch_of([1e5] * 20)
    batch.pdg_id[:2] = 22
    batch.showers[:2] *= 100
    model = library(batch, neighbours=7, symmetries=False)
    photons = ask(model, 1e5, pdg_id=22).sum((1, 2, 3))
    assert len(np.unique(photons.round(-1))) == 2
    assert photons.min() > ask(model, 1e5, pdg_id=11).sum((1, 2, 3)).max()


@pytest.mark.parametrize(
    ("detector", "shape", "images"), [("clic-ecal-25", (25, 25, 25), 8), ("par04-siw", (45, 16, 9), 32)]
)
def test_every_image_of_a_shower_comes(detector, shape, images):
    batch = batch_of([1e5], shape=shape)
    model = library(batch, detector)
    found = ask(model, 1e5, count=20 * images)
    assert len({shower.tobytes() for shower in found}) == images
    # no cell changes its layer, and a ring of a cylinder stays a ring
    layers = np.broadcast_to(batch.showers.sum((2, 3)), (len(found), shape[0]))
    np.testing.assert_allclose(found.sum((2, 3)), layers, rtol=1e-3)
    if detector == "par04-siw":
        np.testing.assert_allclose(found.sum(2)[7], batch.showers[0].sum(1), rtol=1e-3, atol=1e-3)


def test_a_mirrored_shower_serves_the_mirrored_angle():
    # showers that lean one way, and their mirror images; either may be taken, each for its own angle
    batch = batch_of([1e5] * 8)
    batch.showers[:] = np.exp(-np.arange(25) / 5)[:, None]
    batch.showers[4:] = batch.showers[4:, :, ::-1]
    batch.incident_theta[:4], batch.incident_theta[4:] = HALF + 0.4, HALF - 0.4
    model = library(batch, theta=(HALF - 0.5, HALF + 0.5), neighbours=4)
    for row, theta in ((0, HALF + 0.4), (4, HALF - 0.4)):
        found = ask(model, 1e5, theta, count=30)
        np.testing.assert_allclose(found, np.broadcast_to(batch.showers[row], found.shape), rtol=1e-3)


def test_every_shower_has_the_same_chance_to_be_kept():
    batches = [batch_of(np.arange(1, 6) + 5 * k, shape=(1, 2, 2)) for k in range(4)]
    counts = np.zeros(21)
    for seed in range(300):
        kept = draw_library(batches, 4, 0.0, np.random.default_rng(seed))
        assert len(kept) == 4
        counts[np.rint(np.exp([shower.condition[0] for shower in kept])).astype(int)] += 1
    # 60 of each expected, with a standard deviation of 7
    assert counts[0] == 0
    assert counts[1:].min() > 32
    assert counts[1:].max() < 88


def test_what_a_library_says_when_it_cannot():
    batch = batch_of([1e4, 2e4])
    batch.pdg_id[0] = 22
    with pytest.raises(TrainingError, match=r"none of the particle .* larger\s+model.showers"):
        library(batch, showers=1)
    model = library(batch)
    empty = build_model(model.config, model.detector, model.facts)
    with pytest.raises(ModelError, match="empty"):
        ask(empty, 1e4)
    with pytest.raises(ModelError, match="backend torch"):
        load_on_backend(model, Plan("onnx"))
    assert [plan.backend for plan in candidates(model, Plan(), "auto", "auto")] == ["torch"]


def test_bytes_of_a_real_library(electrons):
    with ShowerFile(electrons) as file:
        batch = file.read(0, 200)
    model = library(batch)
    cells = (batch.showers >= 1e-3).sum()
    # two bytes for the place and two for the energy of a cell, and 24 a shower
    assert model.library_bytes() == pytest.approx(4 * cells + 24 * 200, rel=1e-3)

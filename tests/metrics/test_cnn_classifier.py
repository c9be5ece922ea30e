"""The strong classifier: symmetries, protocol, and what it sees that others do not."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from caloforge.metrics import cnn_network
from caloforge.metrics.cnn_classifier import StrongTraining, strong_classifier
from caloforge.metrics.cnn_network import Images, StrongNetwork, cell_planes, fit_scales, layer_sums
from caloforge.metrics.feature_table import DenseRows
from caloforge.showers import ShowerFile
from caloforge.testing.defects import Setting, shuffled_cells

SHAPE = (4, 6, 6)
QUICK = StrongTraining(epochs=2, batch=32)
# arrays of a few cells, whose order an operation must reproduce
GRID = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)


@pytest.fixture(autouse=True)
def small(request, monkeypatch):
    """A small network, for tests of everything around it."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(cnn_network, "STEM", 16)
        monkeypatch.setattr(cnn_network, "STAGES", ((16, 1), (16, 1)))
        monkeypatch.setattr(cnn_network, "HEAD", 16)


def noise(n, seed, shape=SHAPE):
    """Exponential cells, two thirds of them empty, that scale with the energy; MeV."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(10e3, 100e3, n).astype(np.float32)
    cells = rng.exponential(size=(n, *shape)) * (rng.random((n, *shape)) < 0.33)
    return (cells * energy[:, None, None, None] / 1e5).astype(np.float32), energy


def chained(n, seed, shape=SHAPE):
    """The same cells, each with the sign of its neighbour: every cell is distributed as in `noise`."""
    showers, energy = noise(n, seed, shape)
    for column in range(1, shape[2]):
        rng = np.random.default_rng((seed, column))
        left = showers[..., column - 1] > 0
        # half of the columns copy from the left whether they are filled
        copied = rng.random(showers.shape[:-1]) < 0.5
        value = rng.exponential(size=left.shape).astype(np.float32) * energy[:, None, None] / np.float32(1e5)
        showers[..., column] = np.where(copied, left * value, showers[..., column])
    return showers, energy


def test_images_are_the_eight_of_the_square():
    images = Images((3, 4, 4))
    seen = {tuple(images.image(GRID, number)[0, 0].flatten().tolist()) for number in range(len(images))}
    square = GRID[0, 0].numpy()
    want = {
        tuple(turned.flatten().tolist())
        for k in range(4)
        for turned in (np.rot90(square, k), np.rot90(square.T, k))
    }
    assert seen == want
    assert torch.equal(images.image(GRID, 0), GRID)


@pytest.mark.parametrize(
    ("flips", "allowed"),
    [
        ({"flip_rows": False, "swap": False}, [GRID, GRID.flip(-1)]),
        ({"flip_columns": False, "swap": False}, [GRID, GRID.flip(-2)]),
        ({"flip_rows": False, "flip_columns": False, "swap": False}, [GRID]),
    ],
)
def test_only_allowed_images_are_drawn(flips, allowed):
    images = Images((3, 4, 4), **flips)
    drawn = images.draw(GRID[:1].repeat(40, 1, 1, 1), np.random.default_rng(0))
    assert {tuple(d.flatten().tolist()) for d in drawn} == {tuple(a[0].flatten().tolist()) for a in allowed}


def test_sectors_are_turned_and_padded_by_one_another():
    images = Images((3, 4, 4), periodic=True, flip_columns=False, swap=False)
    drawn = images.draw(GRID[:1].repeat(80, 1, 1, 1), np.random.default_rng(0))
    turned = [base.roll(k, -2) for base in (GRID[0], GRID[0].flip(-2)) for k in range(4)]
    assert {tuple(d.flatten().tolist()) for d in drawn} == {tuple(t.flatten().tolist()) for t in turned}
    # a network around the circle cannot tell where it begins: two strides of 2 leave turns by 4 sectors
    images = Images((3, 8, 5), periodic=True, flip_columns=False, swap=False)
    showers, energy = (torch.from_numpy(a) for a in noise(20, 1, (3, 8, 5)))
    torch.manual_seed(0)
    network = StrongNetwork(images, fit_scales([(energy.log10(), showers)], images)).eval()
    torch.testing.assert_close(
        network(energy.log10(), showers), network(energy.log10(), showers.roll(4, -2)), rtol=1e-4, atol=1e-5
    )


def test_planes_are_whitened_at_every_energy():
    images = Images(SHAPE)
    showers, energy = (torch.from_numpy(a) for a in noise(4000, 2))
    blocks = [(energy[k : k + 500].log10(), showers[k : k + 500]) for k in range(0, 4000, 500)]
    scales = fit_scales(blocks, images)
    white = scales.planes(energy.log10(), cell_planes(showers, scales.unit))
    sums = scales.sums(energy.log10(), layer_sums(showers, scales.unit))
    for part in (energy < 4e4, energy > 7e4):
        # over cells as well: of one cell in a third of the showers 0 is known to 0.03
        assert white[part].mean(dim=(0, 2, 3)).abs().max() < 0.03
        assert sums[part].mean(dim=0).abs().max() < 0.15
    assert white.square().mean().sqrt() == pytest.approx(1, abs=0.01)
    assert sums.square().mean().sqrt() == pytest.approx(1, abs=0.01)
    # all images of a shower are equally likely
    torch.testing.assert_close(scales.planes.mean, scales.planes.mean.transpose(-1, -2))
    torch.testing.assert_close(scales.planes.spread, scales.planes.spread.flip(-1))


def test_a_single_energy_and_empty_cells_are_no_trouble():
    showers, _ = noise(60, 3)
    showers[:, 0] = 0
    energy = np.full(60, 5e4, np.float32)
    got = strong_classifier(showers[:30], showers[30:], (energy[:30], energy[30:]), epochs=1)
    assert 0 <= got.auc.value <= 1


def test_it_sees_how_cells_go_with_their_neighbours():
    truth, generated = noise(300, 1), chained(300, 2)
    # single cells are alike: filled as often, as high
    filled = [np.mean(s > 0) for s, _ in (truth, generated)]
    assert filled[0] == pytest.approx(filled[1], abs=0.01)
    got = strong_classifier(truth[0], generated[0], (truth[1], generated[1]), epochs=6)
    assert got.auc.value > 0.85


def test_equal_samples_and_the_measured_floor():
    (first, e1), (second, e2) = noise(150, 1), noise(200, 2)
    got = strong_classifier(first, second, (e1, e2), training=QUICK, measure_floor=True, repeats=2)
    assert len(got.repeats) == 2
    assert [len(r.scores_truth) for r in got.repeats] == [30, 30]
    assert got.auc.value == pytest.approx(0.5, abs=4 * got.auc.uncertainty)
    assert got.auc.floor != 0.5
    # 15 + 15 showers tested: the error of the area is 0.1
    assert got.auc.floor == pytest.approx(0.5, abs=0.4)


def test_tables_and_arrays_give_the_same():
    (first, e1), (second, e2) = noise(60, 1), noise(60, 2)
    tables = [
        DenseRows(np.column_stack([np.log10(e), s.reshape(len(s), -1)]))
        for s, e in ((first, e1), (second, e2))
    ]
    want = strong_classifier(first, second, (e1, e2), epochs=1, seed=3)
    got = strong_classifier(*tables, images=Images(SHAPE), epochs=1, seed=3)
    assert got.auc == want.auc


def test_seed_fixes_all_and_leaves_torch_alone():
    (first, e1), (second, e2) = noise(80, 1), noise(80, 2)
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    results = [strong_classifier(first, second, (e1, e2), epochs=1, seed=s) for s in (3, 3, 4)]
    assert torch.rand(1) == want
    scores = [r.repeats[0].scores_truth for r in results]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_progress_ends_complete_when_training_ends_early():
    calls = []
    (first, e1), (second, e2) = noise(60, 1), noise(60, 2)
    strong_classifier(
        first, 5 * second, (e1, e2), epochs=20, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (1000, 1000)
    done = [d for d, _ in calls]
    assert done == sorted(done)
    assert done[-2] < 1000


def test_what_is_missing_is_said():
    showers, energy = noise(30, 1)
    with pytest.raises(ValueError, match="with their energies"):
        strong_classifier(showers, showers)
    with pytest.raises(ValueError, match="at least 20"):
        strong_classifier(showers, showers[:19], (energy, energy[:19]))


@pytest.mark.slow
@pytest.mark.parametrize(("defect", "low", "high"), [("shuffled", 0.99, 1.0), ("library", 0.4, 0.6)])
def test_geant4_showers_with_planted_defects(truth, defect, low, high):
    n = 300 if os.environ.get("CALOFORGE_SCALE") == "small" else 1000
    with ShowerFile(truth) as file:
        batch, detector = next(file.iterate(2 * n)), file.detector
    setting = Setting(detector, np.random.default_rng(1))
    bad = {"shuffled": shuffled_cells, "library": library}[defect](batch[n:], setting)
    got = strong_classifier(
        batch.showers[:n], bad.showers, (batch.incident_energy[:n], bad.incident_energy), epochs=6
    )
    assert low <= got.auc.value <= high


def library(batch, setting):
    """Showers rescaled by half a percent, as the nearest of a library of thousands are to fresh energies.

    Each is used once: one that is used twice may train and test, and is then recognised.
    """
    factor = (1 + 0.005 * setting.rng.normal(size=len(batch))).astype(np.float32)
    return replace(
        batch,
        showers=batch.showers * factor[:, None, None, None],
        incident_energy=batch.incident_energy * factor,
    )

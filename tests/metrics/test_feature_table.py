"""Sparse rows give the dense table; classifier inputs follow the formulas of the CaloChallenge."""

import numpy as np
import pytest

from caloforge.geometry import CartesianMesh
from caloforge.metrics.feature_table import DenseRows, low_level, low_level_normed
from caloforge.showers.converters.binning import dataset_detector

MESH = CartesianMesh(nx=3, ny=4, cell_x="5 mm", cell_y="5 mm")


def blocks(shape=(2, 4, 3), sizes=(4, 1, 5), seed=1):
    rng = np.random.default_rng(seed)
    for size in sizes:
        showers = rng.exponential(size=(size, *shape)).astype(np.float32)
        showers[rng.random(showers.shape) < 0.6] = 0
        showers[0] = 0  # an empty shower
        yield showers, rng.uniform(1e3, 1e5, size).astype(np.float32)


def dense(parts):
    showers, energy = (np.concatenate(column) for column in zip(*parts, strict=True))
    return showers.astype(np.float64), energy.astype(np.float64)


def test_low_level_input():
    rows = low_level(blocks())
    showers, energy = dense(blocks())
    want = np.column_stack([np.log10(energy), showers.reshape(10, -1) / energy[:, None]])
    assert (len(rows), rows.width) == want.shape
    order = np.array([7, 0, 4, 4, 9])
    np.testing.assert_allclose(rows.take(order), want[order], rtol=1e-6)
    assert rows.take(order).dtype == np.float32
    visible = low_level(blocks(), response=0.02).take(order)
    np.testing.assert_allclose(visible[:, 1:], want[order, 1:] / 0.02, rtol=1e-5)
    np.testing.assert_allclose(visible[:, 0], want[order, 0], rtol=1e-6)


def test_layer_normalised_input():
    rows = low_level_normed(blocks(), MESH)
    showers, energy = dense(blocks())
    layers = showers.sum((2, 3))
    voxels = (showers / (layers[:, :, None, None] + 1e-16)).reshape(10, -1)
    want = np.column_stack([np.log10(energy), voxels, np.log10(layers + 1e-8)])
    np.testing.assert_allclose(rows.take(np.arange(10)), want, rtol=1e-5)


def test_layer_normalised_input_of_a_ragged_mesh():
    detector, _ = dataset_detector("1-pions")
    showers = np.random.default_rng(2).exponential(size=(3, 533)).astype(np.float32)
    rows = low_level_normed([(showers, np.full(3, 1e3, np.float32))], detector.mesh).take(np.arange(3))
    ends = np.cumsum([8, 100, 100, 5, 150, 160, 10])  # voxels of the layers of the challenge
    for start, end in zip([0, *ends], ends, strict=False):
        np.testing.assert_allclose(rows[:, 1 + start : 1 + end].sum(1), 1, rtol=1e-5)
    assert rows.shape == (3, 1 + 533 + 7)


def test_sparse_rows_take_less_memory_than_dense_ones():
    showers = np.zeros((100, 5, 20, 20), np.float32)
    showers[:, 2, 3:6, 3:6] = 1.0
    rows = low_level([(showers, np.ones(100, np.float32))])
    held = rows._values[0].nbytes + rows._columns[0].nbytes + rows._counts[0].nbytes + rows._starts.nbytes
    assert held < showers.nbytes / 50


def test_dense_rows_and_no_rows():
    table = np.arange(12.0).reshape(4, 3)
    rows = DenseRows(table)
    np.testing.assert_array_equal(rows.take(np.array([3, 1])), table[[3, 1]])
    assert (len(rows), rows.width) == (4, 3)
    with pytest.raises(ValueError, match="no showers"):
        low_level([])

"""The compiled form of the layered family makes the showers of the tensors, on every kind of mesh."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import njit

from caloforge.errors import ModelError
from caloforge.exporting.graph import export_graph
from caloforge.generation.engine import load_on_backend
from caloforge.generation.generate import stream
from caloforge.generation.plan import Plan
from caloforge.generation.runtimes import open_runtime
from caloforge.geometry import load_detector
from caloforge.models.base import Condition
from caloforge.models.layered.cell_density import gumbel_from_normal
from caloforge.models.layered.constants import EMPTY_SCORE, LANES
from caloforge.models.layered.noise_layout import noise_layout
from caloforge.models.layered.numba_backend.float_math import exp, gumbel
from caloforge.models.layered.numba_backend.simd import (
    above,
    count,
    first_of,
    gather,
    larger,
    load,
    pack,
    smaller,
    store,
    sum_of,
)
from caloforge.models.parity import condition_of, sample_inputs
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.testing.model_contract import fit_to_made_up

ORTHOGONAL = {"theta": (math.pi / 2,) * 2, "phi": (0.0, 0.0), "pdg_ids": (11,)}


def model_of(
    overrides, detector="clic-ecal-25", radial_bins=(0, 1, 2, 3, 5), layer_sampler="resampling", **ranges
):
    ranges = TrainedRange(energy=(1e4, 5e5), **(ORTHOGONAL | ranges))
    settings = {"radial_bins": radial_bins, "layer_sampler": layer_sampler}
    config = read_model_config({"family": "layered", "preset": "debug", **settings}, "model")
    facts = DataFacts(ranges=ranges, response_fit=(0.02, -0.002))
    model = fit_to_made_up(build_model(config, load_detector(detector, overrides), facts, seed=1), count=300)
    # weights as after a training: nothing is zero
    with torch.no_grad():
        torch.manual_seed(3)
        for name, weight in model.cell_sampler.state_dict().items():
            if weight.is_floating_point() and "energy_transform" not in name:
                weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def asked(model, count=40):
    rng, ranges = np.random.default_rng(5), model.ranges
    limits = (ranges.energy, ranges.theta, ranges.phi, ranges.impact_x, ranges.impact_y)
    columns = [torch.from_numpy(rng.uniform(*ends, count).astype(np.float32)) for ends in limits]
    pdg_id = torch.from_numpy(rng.choice(np.array(ranges.pdg_ids, np.int32), count))
    condition = Condition(*columns[:3], pdg_id, *columns[3:])
    return condition, rng.standard_normal((count, *model.noise_shape), np.float32)


def compiled(model, condition, noise):
    return model.compiled()(condition.to_numpy(), lambda start, stop: noise[start:stop])


@pytest.mark.parametrize(
    "settings",
    [
        {"overrides": ("mesh.nx=9", "mesh.ny=9")},
        {"overrides": ("mesh.nx=10", "mesh.ny=8"), "radial_bins": (0, 2)},
        {"overrides": ("mesh.nx=7", "mesh.ny=7"), "radial_bins": (0,), "theta": (1.2, 1.9)},
        {"overrides": ("mesh.nx=13", "mesh.ny=13"), "pdg_ids": (11, 22), "phi": (-0.3, 0.3)},
        {"overrides": (), "detector": "par04-siw", "radial_bins": (0, 1, 3)},
        {"overrides": ("mesh.nx=9", "mesh.ny=9"), "layer_sampler": "flow"},
        {"overrides": ("mesh.nx=9", "mesh.ny=9"), "layer_sampler": "flow", "phi": (-0.3, 0.3)},
        {"overrides": ("mesh.nx=10", "mesh.ny=8"), "radial_bins": (0, 2), "impact_x": (-2.5, 2.5)},
        {"overrides": ("mesh.nx=9", "mesh.ny=9"), "theta": (1.1, 2.0), "impact_y": (-2.5, 2.5)},
    ],
    ids=["square", "even", "angles", "particles", "cylinder", "flow", "flow-angles", "displaced", "inclined"],
)
def test_it_makes_the_showers_of_the_tensors(settings):
    model = model_of(**settings)
    condition, noise = asked(model)
    with torch.inference_mode():
        want = model.generate(condition, torch.from_numpy(noise)).numpy()
    got = compiled(model, condition, noise)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    moved = np.abs(got - want).sum((1, 2, 3)) / want.sum((1, 2, 3))
    # a rounding may decide whether a cell at its threshold is hit, or whether a bin has one hit more
    assert np.median(moved) < 1e-5
    assert np.sort(moved)[-2] < 1e-4
    assert ((got > 0) == (want > 0)).mean() > 0.9999


@pytest.mark.parametrize(
    ("detector", "overrides", "settings", "spared"),
    [
        ("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9"), {}, 1),
        ("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9"), {"layer_sampler": "flow"}, 1),
        ("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"), {"theta": (1.1, 2.0), "impact_x": (-2.5, 2.5)}, 1),
        # in five layers of five rings the two hits of a bin may share its energy otherwise by a rounding
        ("par04-siw", ("mesh.nr=5", "mesh.nphi=8", "layers.0.repeat=10"), {}, 2),
    ],
    ids=["square", "flow", "inclined", "cylinder"],
)
def test_a_graph_makes_the_showers_of_the_tensors(detector, overrides, settings, spared, tmp_path):
    """One export for both runtimes: it takes most of the time."""
    for package in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    model = model_of(overrides, detector, **settings)
    inputs, graph = sample_inputs(model, 20), export_graph(model, tmp_path / "graph.onnx")
    with torch.inference_mode():
        want = model.generate(condition_of(model, inputs), torch.from_numpy(inputs["noise"])).numpy()
    for backend in ("onnx", "openvino"):
        runtime = open_runtime(backend, graph, precision="fp32", batch=20, threads=1, cache=tmp_path)
        got = runtime.worker()(inputs)
        moved = np.abs(got - want).sum((1, 2, 3)) / want.sum((1, 2, 3))
        # one hit less in each radial bin must not pass
        assert np.median(moved) < 1e-5, backend
        assert np.sort(moved)[-1 - spared] < 1e-4, backend


@pytest.mark.parametrize("shape", [(13, 13), (10, 8), (1, 1)])
def test_noise_layout_holds_every_cell_once_and_classes_of_a_bin_together(shape):
    model = model_of((f"mesh.nx={shape[0]}", f"mesh.ny={shape[1]}"))
    geometry, layout = model.geometry, noise_layout(model.geometry)
    real = layout.cell >= 0
    assert sorted(layout.cell[real]) == list(range(geometry.cells))
    column = np.broadcast_to(np.arange(real.shape[1]), real.shape)
    for radial_bin, (begin, end) in enumerate(layout.bin_columns):
        inside = real & (column >= begin) & (column < end)
        assert set(layout.cell[inside]) == set(np.flatnonzero(geometry.radial_bin == radial_bin))
    # a column holds one symmetry class
    for place in np.unique(column[real]):
        assert len(set(geometry.symmetry_class[layout.cell[real & (column == place)]])) == 1
    # each cell has noise of its own, in the order of the places
    numbers = layout.noise_of_cells
    assert len(np.unique(numbers)) == geometry.cells
    assert numbers.min() == 0
    assert numbers.max() == (layout.ends[:, 1] - layout.ends[:, 0]).sum() - 1
    assert numbers.max() < layout.size
    # lanes that are read of the last layer end where its noise does: of hits, and of energies in the core
    for (begin, end), start in zip(layout.ends, layout.starts, strict=True):
        stop = start - begin + -(-end // LANES) * LANES
        assert stop <= 2 * layout.size
        assert min(stop, start - begin + -(-layout.bin_columns[-1, 0] // LANES) * LANES) <= layout.size
    np.testing.assert_array_equal(numbers[layout.cell[real]], layout.noise_index[real])
    assert (np.diff(layout.noise_index[real]) > 0).all()
    assert layout.size < 1.3 * geometry.cells + 16


def test_a_shower_without_energy_stays_empty():
    model = model_of(("mesh.nx=9", "mesh.ny=9"))
    with torch.no_grad():
        # no hits in any radial bin of any stored shower
        model.layer_sampler.resampler.normal_scores[:, model.layout.root_counts] = EMPTY_SCORE
    condition, noise = asked(model, 3)
    assert compiled(model, condition, noise).sum() == 0


def test_numbers_within_loops_are_those_of_the_libraries():
    @njit(fastmath=True)
    def over(values, exponentials, gumbels):
        for k in range(0, len(values), LANES):
            store(exp(load(values, k)), exponentials, k)
            store(gumbel(load(values, k)), gumbels, k)
        return np.array([exp(x) for x in values])

    x = np.linspace(-87, 87, 300 * LANES, dtype=np.float32)
    exponentials, gumbels = np.empty((2, len(x)), np.float32)
    np.testing.assert_allclose(over(x, exponentials, gumbels), np.exp(x.astype(np.float64)), rtol=1e-5)
    np.testing.assert_allclose(exponentials, np.exp(x.astype(np.float64)), rtol=1e-5)
    np.testing.assert_allclose(gumbels, gumbel_from_normal(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_operations_on_lanes_are_those_on_arrays():
    @njit(fastmath=True)
    def over(x, y, indices, results):
        a, b = load(x, 3), load(y, 0)
        store((a + b) * a - np.float32(2) / b, results, 0)
        store(smaller(a, b), results, 1 * LANES)
        store(larger(a, np.float32(0.5)), results, 2 * LANES)
        store(first_of(a, 5), results, 3 * LANES)
        store(gather(x, 2, indices, 1), results, 4 * LANES)
        return sum_of(a), above(a, np.float32(0.5)), count(above(a, np.float32(0.5)))

    rng = np.random.default_rng(0)
    x, y = rng.random((2, 3 * LANES), dtype=np.float32) + np.float32(0.1)
    indices = rng.integers(0, 2 * LANES, 2 * LANES).astype(np.uint32)
    results = np.empty((5, LANES), np.float32)
    total, bits, number = over(x, y, indices, results.reshape(-1))
    a, b = x[3 : 3 + LANES], y[:LANES]
    np.testing.assert_allclose(results[0], (a + b) * a - 2 / b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(results[1], np.minimum(a, b))
    np.testing.assert_array_equal(results[2], np.maximum(a, np.float32(0.5)))
    np.testing.assert_array_equal(results[3], np.where(np.arange(LANES) < 5, a, 0))
    np.testing.assert_array_equal(results[4], x[indices[1 : 1 + LANES] + 2])
    assert total == pytest.approx(a.sum(), rel=1e-5)
    assert [bool(bits >> lane & 1) for lane in range(LANES)] == list(a > 0.5)
    assert number == np.count_nonzero(a > 0.5)


def test_packing_lists_the_lanes_that_are_set():
    @njit
    def packed(values):
        listed = np.full(40, 99, np.uint32)
        bits = above(load(values, 3), np.float32(0.5))
        pack(bits, 3, listed, 2)
        return count(bits), listed

    values = np.random.default_rng(0).random(30).astype(np.float32)
    found, listed = packed(values)
    want = [3 + lane for lane in range(LANES) if values[3 + lane] > 0.5]
    assert found == len(want)
    assert list(listed[: 2 + found]) == [99, 99, *want]
    # what lies behind is a place too
    assert (listed[2 + found : 2 + LANES] == 0).all()


def test_the_command_and_several_threads_run_it(tmp_path):
    model = model_of(("mesh.nx=9", "mesh.ny=9"))
    condition, _ = asked(model, 30)
    columns = condition.to_numpy()
    results = [
        np.concatenate([part.showers for part in stream(model, columns, seed=2, plan=Plan(**options))])
        for options in (
            {"backend": "torch"},
            {"backend": "numba", "batch_size": 7},
            {"backend": "numba", "batch_size": 4, "threads": 2},
        )
    ]
    # features differ in their last bits between batches
    assert np.abs(results[1] - results[2]).sum() < 1e-4 * results[0].sum()
    assert np.abs(results[0] - results[1]).sum() < 1e-3 * results[0].sum()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "caloforge",
            "generate",
            "clic-electron",
            "-n",
            "20",
            "-o",
            tmp_path / "g.h5",
            "--backend",
            "numba",
        ],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=200,
    )
    assert "numba fp32" in done.stdout + done.stderr


def test_a_family_without_it_says_so(make_model):
    with pytest.raises(ModelError, match="no compiled form"):
        load_on_backend(make_model(), Plan("numba"))

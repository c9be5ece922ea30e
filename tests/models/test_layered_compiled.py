"""The compiled form of the layered family makes the showers of the tensors, on every kind of mesh."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import njit

from caloforge.errors import ModelError
from caloforge.generation.conditions import Columns
from caloforge.generation.generate import stream
from caloforge.generation.network import Plan, open_network
from caloforge.geometry import load_detector
from caloforge.models.base import Condition
from caloforge.models.facts import DataFacts, TrainedRange
from caloforge.models.layered.compiled.arithmetic import exp, gumbel, pack
from caloforge.models.layered.compiled.tables import tables_of
from caloforge.models.layered.density import gumbel_of_normal
from caloforge.models.registry import build_model, read_model_config
from caloforge.testing.model_contract import fit_to_made_up

ORTHOGONAL = {"theta": (math.pi / 2,) * 2, "phi": (0.0, 0.0), "pdg_ids": (11,)}


def model_of(overrides, detector="clic-ecal-25", zones=(0, 1, 2, 3, 5), **ranges):
    ranges = TrainedRange(energy=(1e4, 5e5), **(ORTHOGONAL | ranges))
    config = read_model_config({"family": "layered", "preset": "debug", "zones": zones}, "model")
    facts = DataFacts(ranges=ranges, response_fit=(0.02, -0.002))
    model = fit_to_made_up(build_model(config, load_detector(detector, overrides), facts, seed=1), count=300)
    # weights as after a training: nothing is zero
    with torch.no_grad():
        torch.manual_seed(3)
        for name, weight in model.cell_stage.state_dict().items():
            if weight.is_floating_point() and "spectrum" not in name:
                weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def asked(model, count=40):
    rng, ranges = np.random.default_rng(5), model.ranges
    columns = [rng.uniform(*limits, count) for limits in (ranges.energy, ranges.theta, ranges.phi)]
    pdg_id = torch.from_numpy(rng.choice(np.array(ranges.pdg_ids, np.int32), count))
    condition = Condition(*(torch.from_numpy(column.astype(np.float32)) for column in columns), pdg_id)
    return condition, rng.standard_normal((count, *model.noise_shape), np.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {"overrides": ("mesh.nx=9", "mesh.ny=9")},
        {"overrides": ("mesh.nx=10", "mesh.ny=8"), "zones": (0, 2)},
        {"overrides": ("mesh.nx=7", "mesh.ny=7"), "zones": (0,), "theta": (1.2, 1.9)},
        {"overrides": ("mesh.nx=13", "mesh.ny=13"), "pdg_ids": (11, 22), "phi": (-0.3, 0.3)},
        {"overrides": (), "detector": "par04-siw", "zones": (0, 1, 3)},
    ],
    ids=["square", "even", "angles", "particles", "cylinder"],
)
def test_it_makes_the_showers_of_the_tensors(settings):
    model = model_of(**settings)
    condition, noise = asked(model)
    with torch.inference_mode():
        want = model.generate(condition, torch.from_numpy(noise)).numpy()
    got = model.compiled()(condition, noise)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    assert np.abs(got - want).sum() < 1e-4 * want.sum()
    # whether a cell at the edge of its probability is hit may turn on a rounding
    assert ((got > 0) == (want > 0)).mean() > 0.9999


def test_places_hold_every_cell_once_and_orbits_of_a_zone_together():
    model = model_of(("mesh.nx=13", "mesh.ny=13"))
    plane, tables = model.plane, tables_of(model.cell_stage)
    real = (tables.nowhere == 0).reshape(-1)
    assert sorted(tables.cell[real]) == list(range(plane.cells))
    for zone, (begin, end) in enumerate(tables.zones):
        inside = real & (tables.column >= begin) & (tables.column < end)
        assert set(tables.cell[inside]) == set(np.flatnonzero(plane.zone == zone))
    # images stand below each other
    for column in np.unique(tables.column[real]):
        assert len(set(plane.orbit[tables.cell[real & (tables.column == column)]])) == 1


def test_a_shower_without_energy_stays_empty():
    model = model_of(("mesh.nx=9", "mesh.ny=9"))
    with torch.no_grad():
        # hits of no zone
        model.layer_stage.mean[:, model.layout.hits] = -100
        model.layer_stage.quantiles[..., model.layout.hits] = 0
    condition, noise = asked(model, 3)
    assert model.compiled()(condition, noise).sum() == 0


def test_numbers_within_loops_are_those_of_the_libraries():
    @njit
    def over(values):
        return np.array([exp(x) for x in values]), np.array([gumbel(x) for x in values])

    x = np.linspace(-70, 70, 5001, dtype=np.float32)
    np.testing.assert_allclose(over(x)[0], np.exp(x.astype(np.float64)), rtol=5e-6)
    near = np.linspace(-6, 6, 999, dtype=np.float32)
    np.testing.assert_allclose(over(near)[1], gumbel_of_normal(torch.from_numpy(near)).numpy(), atol=1e-5)


def test_packing_finds_the_lanes_between_two_that_are_above():
    @njit
    def packed(values, first, stop):
        listed = np.zeros(40, np.uint32)
        found = pack(values, 3, np.float32(0.5), first, stop, listed, 2)
        return found, listed

    values = np.random.default_rng(0).random(30).astype(np.float32)
    for first, stop in ((0, 16), (4, 9), (7, 7)):
        found, listed = packed(values, first, stop)
        want = [3 + lane for lane in range(first, stop) if values[3 + lane] > 0.5]
        assert found == len(want)
        assert list(listed[2 : 2 + found]) == want


def test_the_command_and_several_threads_run_it(tmp_path):
    model = model_of(("mesh.nx=9", "mesh.ny=9"))
    condition, _ = asked(model, 30)
    columns = Columns(*(getattr(condition, name).numpy() for name in ("energy", "theta", "phi", "pdg_id")))
    results = [
        np.concatenate([part.showers for part in stream(model, columns, seed=2, **options)])
        for options in (
            {"backend": "torch"},
            {"backend": "numba", "batch_size": 7},
            {"backend": "numba", "batch_size": 4, "threads": 2},
        )
    ]
    # a summary differs in its last bits between batches
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
        open_network(make_model(), Plan("numba"))

"""What every backend of the generation must do; see `caloforge.generation.runtimes.Backend`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHOWERS = 7


def check_backend(name: str) -> None:
    """The contract of a backend, by the name it is registered under.

    In each of its arithmetics it makes the showers that torch makes; in fp32 they are the same, up to
    rounding, whatever the batch size and the number of threads. The model is a small 3DGAN of random weights;
    its graph is written into the user's cache folder. Takes some seconds.
    """
    from caloforge.conditions import Conditions
    from caloforge.generation.engine import load_on_backend
    from caloforge.generation.generate import run
    from caloforge.generation.plan import Plan
    from caloforge.generation.runtimes import BACKENDS
    from caloforge.geometry import load_detector
    from caloforge.models.registry import build_model, read_model_config
    from caloforge.models.training_metadata import DataFacts, TrainedRange

    ranges = TrainedRange(energy=(1e4, 1e5), theta=(1.5, 1.6), phi=(0.0, 0.0), pdg_ids=(11,))
    config = read_model_config({"family": "gan3d", "preset": "debug"}, "model")
    detector = load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7"))
    model = build_model(config, detector, DataFacts(ranges=ranges, response_fit=(0.02,)), seed=1)
    energy = np.linspace(1e4, 1e5, SHOWERS, dtype=np.float32)
    ones = np.ones(SHOWERS, np.float32)
    conditions = Conditions(energy, 1.57 * ones, 0 * ones, np.full(SHOWERS, 11, np.int32))

    def showers(plan: Plan) -> NDArray[np.float32]:
        # which compares a few with torch's
        network = load_on_backend(model, plan)
        return np.concatenate([batch.showers for batch in run(network, conditions, seed=3)])

    for precision in BACKENDS.get(name, "backend").precisions:
        found = showers(Plan(name, precision, batch_size=4))
        assert found.shape == (SHOWERS, *detector.shower_shape), f"{precision}: showers of {found.shape}"
        assert found.dtype == np.float32, f"{precision}: {found.dtype}, expected float32"
        if precision == "fp32":
            want = showers(Plan("torch"))
            other = showers(Plan(name, precision, batch_size=3, threads=2))
            scale = want.max()
            assert np.allclose(found, want, atol=1e-4 * scale), "the showers are not those of torch"
            assert np.allclose(found, other, atol=1e-4 * scale), "batch size or threads change the showers"

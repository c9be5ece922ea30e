"""Small models for exports."""

import numpy as np

from caloforge.geometry import load_detector
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.testing.model_contract import fit_to_made_up

ORTHOGONAL = (np.pi / 2, np.pi / 2)


def small_model(
    detector="clic-ecal-25",
    overrides=("mesh.nx=8", "mesh.ny=6"),
    *,
    theta=ORTHOGONAL,
    particles=(11,),
    family="gan3d",
    meaning="visible",
    threshold="0.1 MeV",
):
    """A small model with random weights, whose showers have hits and empty cells."""
    settings = {} if family == "frozen" else {"preset": "debug", "cell_threshold": threshold}
    config = read_model_config({"family": family, **settings}, "model")
    ranges = TrainedRange(energy=(1e4, 5e5), theta=theta, phi=(0.0, 0.0), pdg_ids=particles)
    facts = DataFacts(ranges=ranges, response_fit=(0.02,), energy_meaning=meaning)
    model = build_model(config, load_detector(detector, tuple(overrides)), facts, seed=1)
    return (fit_to_made_up(model, count=300) if family == "layered" else model).eval()

import pytest

from caloforge.geometry import load_detector
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange

SMALL = {"generator": {"latent": 8, "seed_channels": 4}}


@pytest.fixture
def facts():
    ranges = TrainedRange(energy=(1e4, 5e5), theta=(1.1, 2.0), phi=(0.0, 0.0), pdg_ids=(11,))
    return DataFacts(ranges=ranges, response_fit=(0.02, -0.002))


@pytest.fixture
def make_model(facts):
    def make(preset="debug", detector="clic-ecal-25", overrides=(), *, family="gan3d", **changes):
        config = read_model_config({"family": family, "preset": preset, **changes}, "model")
        return build_model(config, load_detector(detector, tuple(overrides)), facts, seed=1)

    return make

import pytest

from caloforge.config import build
from caloforge.geometry import load_detector
from caloforge.models.facts import DataFacts, TrainedRange
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.registry import build_model

SMALL = {"generator": {"latent": 8, "seed_channels": 4}}


@pytest.fixture
def facts():
    ranges = TrainedRange(energy=(1e4, 5e5), theta=(1.1, 2.0), phi=(0.0, 0.0), pdg_ids=(11,))
    return DataFacts(ranges=ranges, response_fit=(0.02, -0.002))


@pytest.fixture
def make_model(facts):
    def make(preset="debug", detector="clic-ecal-25", overrides=(), **changes):
        config = build(Gan3dConfig, {"family": "gan3d", "preset": preset, **changes}, "model")
        return build_model(config, load_detector(detector, tuple(overrides)), facts, seed=1)

    return make

import pytest
import yaml
from toy import DETECTOR, MODEL, make_showers

from caloforge.config import build
from caloforge.geometry import load_detector
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.registry import create_model
from caloforge.showers import ShowerWriter
from caloforge.training.config import TrainingConfig


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "train.h5"
    with ShowerWriter(path, load_detector(DETECTOR), {}) as writer:
        writer.append(make_showers(240))
    return path


@pytest.fixture
def new_model(data):
    def make(**changes):
        return create_model(build(Gan3dConfig, MODEL | changes, "model"), data, seed=4)

    return make


@pytest.fixture
def settings():
    def make(**changes):
        base = {
            "batch_size": 12,
            "epochs": 2,
            "precision": "fp32",
            "threads": 1,
            "ema": 0.9,
            "evaluation": {"share": 0.15, "showers": 36},
        }
        return build(TrainingConfig, base | changes, "training")

    return make


@pytest.fixture
def run(tmp_path):
    document = {
        "detector": DETECTOR,
        "beam": {"energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}},
        "model": MODEL,
        "training": {"batch_size": 12, "precision": "fp32", "evaluation": {"share": 0.15, "showers": 36}},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)

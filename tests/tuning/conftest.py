import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from toy import DETECTOR, MODEL, make_showers

from caloforge.config import build
from caloforge.geometry import load_detector
from caloforge.showers import ShowerWriter
from caloforge.tuning.config import StudyConfig

RUN = {
    "name": "toy",
    "detector": "toy.yaml",
    "beam": {"particle": "e-", "energy": {"kind": "flat", "min": "10 GeV", "max": "100 GeV"}},
    "model": MODEL,
    "training": {"batch_size": 12, "epochs": 2, "precision": "fp32", "evaluation": {"share": 0.2}},
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A run.yaml, its detector and 240 showers."""
    path = tmp_path_factory.mktemp("study")
    (path / "toy.yaml").write_text(yaml.safe_dump(DETECTOR))
    (path / "run.yaml").write_text(yaml.safe_dump(RUN))
    with ShowerWriter(path / "train.h5", load_detector(DETECTOR), {}) as writer:
        writer.append(make_showers(240))
    return path


@pytest.fixture
def study():
    """Makes the configuration of a study."""

    def make(**changes):
        from synthetic import SPACE

        document = {"run": "run.yaml", "data": "train.h5", "space": SPACE, "sampler": {"kind": "random"}}
        return build(StudyConfig, document | changes, "study.yaml")

    return make

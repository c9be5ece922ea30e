"""Which model families exist. Importing this does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.gan3d.presets import PRESETS as GAN3D_PRESETS

if TYPE_CHECKING:
    from caloforge.geometry import Detector
    from caloforge.models.base import ShowerModel
    from caloforge.models.facts import DataFacts

# a discriminated union on `family` once there are two
ModelConfig = Gan3dConfig

_PRESETS: dict[str, dict[str, Any]] = {"gan3d": GAN3D_PRESETS}


def list_models() -> dict[str, list[str]]:
    """Family to the names of its presets."""
    return {family: sorted(presets) for family, presets in _PRESETS.items()}


def build_model(config: ModelConfig, detector: Detector, facts: DataFacts, *, seed: int = 0) -> ShowerModel:
    """A model with random weights.

    Args:
        config: The model section of a run.
        detector: What the showers are made in.
        facts: What is known of the training data.
        seed: Seed of the weights.

    Raises:
        ConfigError: The model does not fit the detector.
    """
    import torch

    from caloforge.models.gan3d.model import Gan3d

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Gan3d(config, detector, facts)


def create_model(config: ModelConfig, data: Path, *, seed: int = 0) -> ShowerModel:
    """A model with random weights for the showers of a file.

    Args:
        config: The model section of a run.
        data: The shower file it will be trained on; gives detector, ranges and response.
        seed: Seed of the weights.

    Raises:
        DataError: The file cannot be used.
        ConfigError: The model does not fit the detector.
    """
    from caloforge.models.facts import facts_of_file
    from caloforge.showers import ShowerFile

    with ShowerFile(data) as file:
        detector = file.detector
    return build_model(config, detector, facts_of_file(data), seed=seed)

"""The registry of model families. Importing this does not import torch.

A new family is one line of `FAMILIES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from caloforge.config import build
from caloforge.errors import ConfigError, nearest
from caloforge.models.frozen.config import FrozenConfig
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.layered.config import LayeredConfig
from caloforge.models.presets import FamilyConfig

if TYPE_CHECKING:
    from caloforge.beam import BeamConfig
    from caloforge.geometry import Detector
    from caloforge.models.base import ShowerModel
    from caloforge.models.training_metadata import DataFacts


@dataclass(frozen=True)
class Family:
    """A family: its configuration, and "module:class" of its `ShowerModel`, imported when it is built.

    `ragged`: whether it supports ragged meshes. `compiled`: "module:class" of its `CompiledForm`, empty if
    there is none; its import must not import torch.
    """

    config: type[FamilyConfig]
    model: str
    ragged: bool = False
    compiled: str = ""


FAMILIES: dict[str, Family] = {
    "gan3d": Family(Gan3dConfig, "caloforge.models.gan3d.model:Gan3d"),
    "layered": Family(
        LayeredConfig,
        "caloforge.models.layered.model:Layered",
        compiled="caloforge.models.layered.numba_backend.generator:CompiledGenerator",
    ),
    "frozen": Family(FrozenConfig, "caloforge.models.frozen.model:Frozen", ragged=True),
}

# characters of an invalid name that are shown
LONGEST_NAME = 60

if TYPE_CHECKING:
    ModelConfig = FamilyConfig
else:
    ModelConfig = Annotated[
        Union[tuple(family.config for family in FAMILIES.values())],  # noqa: UP007 - made from the table
        Field(discriminator="family"),
    ]


def list_models() -> dict[str, list[str]]:
    """The names of the presets of each family."""
    return {name: sorted(family.config.presets) for name, family in FAMILIES.items()}


def families_for(detector: Detector) -> list[str]:
    """Names of the families that support the mesh of a detector."""
    ragged = detector.mesh.kind == "ragged"
    return [name for name, family in FAMILIES.items() if family.ragged or not ragged]


def read_model_config(document: Mapping[str, Any], origin: str) -> FamilyConfig:
    """Read the configuration of the family that a document names.

    Args:
        document: The parsed model section of a run.
        origin: Its source, for messages.

    Raises:
        ConfigError: No or an unknown family, or settings that are unknown, missing or out of range.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(f"{origin}: got {type(document).__name__}, expected the settings of a model family")
    name = str(document.get("family", ""))[:LONGEST_NAME]
    if name not in FAMILIES:
        raise ConfigError(
            f"{origin}.family: got {name!r}, expected a model family. {nearest(name, FAMILIES)}"
        )
    return build(FAMILIES[name].config, document, origin)


def family_of(config: ModelConfig) -> type[ShowerModel]:
    """The `ShowerModel` class of a configuration; imports torch."""
    module, _, name = next(f.model for f in FAMILIES.values() if type(config) is f.config).partition(":")
    family: type[ShowerModel] = getattr(importlib.import_module(module), name)
    return family


def build_model(config: ModelConfig, detector: Detector, facts: DataFacts, *, seed: int = 0) -> ShowerModel:
    """A model with random weights.

    Args:
        config: The model section of a run.
        detector: Detector of the showers.
        facts: Metadata of the training data.
        seed: Seed of the weights.

    Raises:
        ConfigError: The model does not fit the detector.
    """
    import torch

    family = family_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family(config, detector, facts)


def create_model(
    config: ModelConfig, data: Path, *, seed: int = 0, beam: BeamConfig | None = None
) -> ShowerModel:
    """A model with random weights for the showers of a file.

    Args:
        config: The model section of a run.
        data: The shower file it will be trained on; gives detector, ranges and response.
        seed: Seed of the weights.
        beam: The beam of the run; gives the ranges if the file has no beam in its provenance.

    Raises:
        DataError: The file cannot be used.
        ConfigError: The model does not fit the detector.
    """
    from caloforge.models.training_metadata import facts_of_file
    from caloforge.showers import ShowerFile

    with ShowerFile(data) as file:
        detector = file.detector
    return build_model(config, detector, facts_of_file(data, beam), seed=seed)

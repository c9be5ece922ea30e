"""The registry of model families. Importing this does not import torch.

A new family is one line of `BUILT_IN`, or an entry point of the group `caloforge.families` of any package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, WrapSerializer, WrapValidator

from caloforge.config import build
from caloforge.errors import ConfigError
from caloforge.models.frozen.config import FrozenConfig
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.layered.config import LayeredConfig
from caloforge.models.presets import FamilyConfig
from caloforge.plugins import Registry

if TYPE_CHECKING:
    from caloforge.beam import BeamConfig, ClaimedRange
    from caloforge.geometry import Detector
    from caloforge.models.base import ShowerModel
    from caloforge.models.compiled_model import CompiledModel
    from caloforge.models.training_metadata import DataFacts


@dataclass(frozen=True)
class Family:
    """A family: its configuration, and "module:class" of its `ShowerModel`, imported when it is built.

    `ragged`: whether it supports ragged meshes. `compiled`: "module:class" of its `CompiledModel`, empty if
    there is none; its import must not import torch. The field `family` of the configuration has the name of
    the family as its default.
    """

    config: type[FamilyConfig]
    model: str
    ragged: bool = False
    compiled: str = ""


BUILT_IN: dict[str, Family] = {
    "gan3d": Family(Gan3dConfig, "caloforge.models.gan3d.model:Gan3d"),
    "layered": Family(
        LayeredConfig,
        "caloforge.models.layered.model:Layered",
        compiled="caloforge.models.layered.numba_backend.generator:CompiledGenerator",
    ),
    "frozen": Family(FrozenConfig, "caloforge.models.frozen.model:Frozen", ragged=True),
}


def _complaint(name: str, family: Family) -> str:
    # of a package, which may have put anything there
    config: Any = family.config
    if not (isinstance(config, type) and issubclass(config, FamilyConfig)):
        return f"its config is {config!r}, expected a class derived from FamilyConfig"
    if not {"family", "preset"} <= set(config.model_fields):
        return f"{config.__name__} lacks the field family or preset"
    if (stated := family_name(config)) != name:
        return f"the family of {config.__name__} is {stated!r}, expected {name!r}"
    return ""


FAMILIES = Registry("caloforge.families", "model family", BUILT_IN, Family, _complaint)


def family_name(config: FamilyConfig | type[FamilyConfig]) -> str:
    """The name of the family of a configuration."""
    kind = config if isinstance(config, type) else type(config)
    return str(kind.model_fields["family"].default)


def _of_a_package(value: Any) -> bool:
    """Whether a model section, or a configuration, is of a family that is not built in."""
    if isinstance(value, FamilyConfig):
        return family_name(value) not in BUILT_IN
    return isinstance(value, Mapping) and str(value.get("family")) not in BUILT_IN and bool(FAMILIES.added())


def _validated(value: Any, handler: Any) -> Any:
    if not _of_a_package(value):
        return handler(value)
    return value if isinstance(value, FamilyConfig) else read_model_config(value, "model")


if TYPE_CHECKING:
    ModelConfig = FamilyConfig
else:
    # pydantic knows the families that are built in: the schema has them, and messages their settings
    ModelConfig = Annotated[
        Annotated[
            Union[tuple(family.config for family in BUILT_IN.values())],  # noqa: UP007 - made from the table
            Field(discriminator="family"),
        ],
        WrapValidator(_validated),
        WrapSerializer(
            lambda value, handler, info: (
                value.model_dump(mode=info.mode) if _of_a_package(value) else handler(value)
            )
        ),
    ]


def list_models() -> dict[str, list[str]]:
    """The names of the presets of each family."""
    return {name: sorted(family.config.presets) for name, family in FAMILIES.usable().items()}


def families_for(detector: Detector) -> list[str]:
    """Names of the families that support the mesh of a detector."""
    ragged = detector.mesh.kind == "ragged"
    return [name for name, family in FAMILIES.usable().items() if family.ragged or not ragged]


def read_model_config(document: Mapping[str, Any], origin: str, *, of_card: bool = False) -> FamilyConfig:
    """Read the configuration of the family that a document names.

    Args:
        document: The parsed model section of a run.
        origin: Its source, for messages.
        of_card: Whether it is that of a stored model, which an earlier release may have written.

    Raises:
        ConfigError: No or an unknown family, or settings that are unknown, missing or out of range.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(f"{origin}: got {type(document).__name__}, expected the settings of a model family")
    family = FAMILIES.get(str(document.get("family", "")), f"{origin}.family")
    return build(family.config, family.config.of_card(document) if of_card else document, origin)


def entry_of(config: ModelConfig) -> Family:
    """The entry of a configuration's family."""
    return FAMILIES.get(family_name(config), "model.family")


def family_of(config: ModelConfig) -> type[ShowerModel]:
    """The `ShowerModel` class of a configuration; imports torch."""
    return _class_of(family_name(config), entry_of(config))


def _class_of(name: str, entry: Family) -> type[ShowerModel]:
    family: type[ShowerModel] = FAMILIES.resolve(name, entry.model)
    return family


def compiled_class_of(config: ModelConfig) -> type[CompiledModel]:
    """The class of the compiled models of a family that has one; does not import torch."""
    found: type[CompiledModel] = FAMILIES.resolve(family_name(config), entry_of(config).compiled)
    return found


def build_model(config: ModelConfig, detector: Detector, facts: DataFacts, *, seed: int = 0) -> ShowerModel:
    """A model with random weights.

    Args:
        config: The model section of a run.
        detector: Detector of the showers.
        facts: Metadata of the training data.
        seed: Seed of the weights.

    Raises:
        ConfigError: The model does not fit the detector, the impact points of the showers, or the memory.
    """
    import torch

    from caloforge.models.checks import check_memory

    family = family_of(config)
    if facts.ranges.off_axis and not family.takes_impacts(config):
        able = [name for name, entry in FAMILIES.usable().items() if _class_of(name, entry).takes_impact]
        raise ConfigError(
            f"model {family_name(config)}: the showers enter up to {facts.ranges.farthest_impact:.4g} mm "
            "beside the axis of the mesh, and this model makes them on the axis alone; simulate with "
            "beam.impact: centre" + (f", or take a family that can: {', '.join(able)}" if able else "")
        )
    check_memory(config, detector, facts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family(config, detector, facts)


def create_model(
    config: ModelConfig,
    data: Path,
    *,
    seed: int = 0,
    beam: BeamConfig | None = None,
    claim: ClaimedRange | None = None,
) -> ShowerModel:
    """A model with random weights for the showers of a file.

    Args:
        config: The model section of a run.
        data: The shower file it will be trained on; gives detector, ranges and response.
        seed: Seed of the weights.
        beam: The beam of the run; gives the ranges if the file has no beam in its provenance.
        claim: The part of the conditions that the model is made for.

    Raises:
        DataError: The file cannot be used.
        ConfigError: The model does not fit the detector, or the claim not the showers.
    """
    from caloforge.models.training_metadata import facts_of_file
    from caloforge.showers import ShowerFile

    with ShowerFile(data) as file:
        detector = file.detector
    return build_model(config, detector, facts_of_file(data, beam, claim), seed=seed)

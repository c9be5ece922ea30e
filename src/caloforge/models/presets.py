"""Base class of the families' configurations: a preset, and settings that override it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, model_validator

from caloforge.config import StrictModel, merge
from caloforge.errors import nearest


def _without_required(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


# in the JSON schema no setting is required: the preset gives those that are left out
FILLED_FROM_PRESET = ConfigDict(json_schema_extra=_without_required)


class FamilyConfig(StrictModel):
    """Base of every family's configuration; a family has a field `preset` with a default.

    A preset gives all settings; those in the document override it.

    Attributes:
        presets: Named sets of settings.
    """

    model_config = FILLED_FROM_PRESET

    presets: ClassVar[Mapping[str, dict[str, Any]]]

    def describe(self, training_showers: int) -> str:  # noqa: ARG002
        """How a model of this configuration makes showers, in one line for its card; may be empty.

        Args:
            training_showers: Number of showers it was trained on.
        """
        return ""

    @classmethod
    def of_card(cls, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings in the card of a stored model, those that cards of earlier releases lack included."""
        return document

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name = str(data.get("preset", cls.model_fields["preset"].default))
        if name not in cls.presets:
            raise ValueError(f"preset: got {name!r}. {nearest(name, cls.presets)}")
        return merge(cls.presets[name], data)

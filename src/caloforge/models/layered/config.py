"""Configuration of the layered family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from caloforge.models.layered.presets import PRESETS
from caloforge.models.presets import FamilyConfig
from caloforge.units import Energy

# keys of earlier releases: they stay valid
OLD_NAMES = {"zones": "radial_bins", "donors": "stored_showers"}


class LayeredConfig(FamilyConfig):
    """Layer features, resampled or from a learned density, then a learned conditional density of the cells.

    Layer features are fitted in closed form: `layer_sampler: resampling` splices those of training showers,
    `flow` is a density of them, which stores no shower and is a megabyte. The density of the cells is trained
    in two phases: for `likelihood_steps` the teacher, by maximum likelihood; from then on the student, which
    generates, by matching of moments. Its learning rate falls over `matching_steps`.

    `radial_bins` (formerly `zones`) are the rings around the axis, in cells, at which the radial bins of a
    layer begin; energy and number of hits of each bin are layer features. They follow the axis of showers
    that are inclined or enter beside the centre; with `frame: mesh` they are those of orthogonal incidence at
    the centre, as in earlier releases. A model keeps the features of `stored_showers` training showers at
    most (formerly `donors`).
    """

    presets = PRESETS

    family: Literal["layered"] = "layered"
    preset: Literal["base", "debug"] = "base"
    radial_bins: tuple[Annotated[int, Field(ge=0, le=4096)], ...] = (0, 1, 2, 3, 5)
    frame: Literal["shower", "mesh"] = "shower"
    cell_threshold: Energy = Field(default=1e-3, gt=0)
    layer_sampler: Literal["resampling", "flow"] = "resampling"
    # indices of stored showers are int16
    stored_showers: int = Field(default=16384, ge=16, le=32767)
    likelihood_steps: int = Field(ge=1, le=10_000_000)
    matching_steps: int = Field(ge=1, le=10_000_000)

    def describe(self, training_showers: int) -> str:
        """See the base class."""
        if self.layer_sampler == "flow":
            return (
                "layer features from a learned density, then all cells from a learned conditional density; "
                "no training shower is stored"
            )
        stored = f"{min(self.stored_showers, training_showers):,}".replace(",", " ")
        return (
            f"layer features resampled from those of {stored} stored training showers, "
            "then all cells from a learned conditional density"
        )

    @classmethod
    def of_card(cls, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """See the base class."""
        return {"frame": "mesh", **document}

    # validators that run before the fields do so in reverse order: this one before the preset is filled in
    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for old, new in OLD_NAMES.items():
            if old in data and new in data:
                raise ValueError(f"got {old} and {new}: {old} is the old name of {new}; give one of them")
        return {OLD_NAMES.get(key, key): value for key, value in data.items()}

    @field_validator("radial_bins")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] != 0 or list(value) != sorted(set(value)):
            raise ValueError(f"got {list(value)}, expected rings that rise from 0")
        return value

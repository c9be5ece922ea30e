"""Checks of an untrusted stored model: its size before it is built, then its weights."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from caloforge.errors import ConfigError
from caloforge.number_format import size

if TYPE_CHECKING:
    from torch import Tensor

    from caloforge.geometry import Detector
    from caloforge.models.base import ShowerModel
    from caloforge.models.presets import FamilyConfig
    from caloforge.models.training_metadata import DataFacts

# largest model that is loaded without --allow-large; the published 3DGANs have up to 4 million numbers
LARGEST_MODEL = 100_000_000
# of the largest type of a weight, and of the usual one
BYTES, FLOAT_BYTES = 8, 4
DIGEST = re.compile(r"[0-9a-f]{64}")


def weights_of_card(card: dict[str, Any]) -> tuple[str, int]:
    """Digest and size in bytes of the weights, from a card.

    Raises:
        ConfigError: One is missing or invalid.
    """
    digest, size = card.get("weights_sha256"), card.get("weights_bytes")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ConfigError(f"weights_sha256: got {_short(digest)}, expected 64 hexadecimal digits")
    if type(size) is not int or size < 0:
        raise ConfigError(f"weights_bytes: got {_short(size)}, expected a number of bytes")
    return digest, size


def check_size(config: FamilyConfig, detector: Detector, facts: DataFacts, weights_bytes: int) -> None:
    """Refuse a model that is too large, before it is built.

    Raises:
        ConfigError: The model or its weights have more than `LARGEST_MODEL` numbers, or it does not fit the
            detector.
    """
    from caloforge.models.registry import family_of

    numbers = family_of(config).count_numbers(config, detector, facts)
    for count, what in ((numbers, "numbers"), (weights_bytes // BYTES, "numbers of 8 bytes in its weights")):
        if count > LARGEST_MODEL:
            raise ConfigError(
                f"the model would hold {count:.3g} {what}, expected at most {LARGEST_MODEL:.3g}; if you know "
                "who made it, caloforge generate --allow-large takes it"
            )


def check_memory(config: FamilyConfig, detector: Detector, facts: DataFacts) -> None:
    """Refuse a model that this machine cannot hold, before it is built.

    Raises:
        ConfigError: Weights, tables and the activations of one shower are larger than the memory, or the
            model does not fit the detector.
    """
    from caloforge.models.registry import family_name, family_of

    needed = FLOAT_BYTES * family_of(config).count_numbers(config, detector, facts)
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > most:
        raise ConfigError(
            f"model {family_name(config)}: weights, tables and one shower take {size(needed)}, this machine "
            f"has {size(most)} of memory; take fewer filters or channels, smaller kernels, or a smaller mesh"
        )


def check_state(model: ShowerModel, state: dict[str, Tensor]) -> None:
    """Refuse weights that are not finite or not of the model's type.

    Raises:
        ValueError: Names the tensor.
    """
    own = model.state_dict()
    for name, value in state.items():
        if name in own and value.dtype != own[name].dtype:
            raise ValueError(f"{name} has the type {value.dtype}, expected {own[name].dtype}")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{name} holds a value that is not finite")


def check_between(name: str, values: Tensor, low: float, high: float) -> None:
    """Refuse values outside [low, high], for `ShowerModel.check_weights`.

    Raises:
        ValueError: Names the first of them.
    """
    bad = (values < low) | (values > high)
    if bool(bad.any()):
        raise ValueError(f"{name} holds {values[bad].flatten()[0].item():g}, expected {low:g} to {high:g}")


def check_rising(name: str, values: Tensor) -> None:
    """Refuse numbers (n,) that are not sorted, for `ShowerModel.check_weights`.

    Raises:
        ValueError: They are not.
    """
    if bool((values[1:] < values[:-1]).any()):
        raise ValueError(f"{name} falls somewhere, expected numbers that rise")


def check_shape(name: str, values: Tensor, *shape: int) -> None:
    """Refuse a tensor of another shape, for `ShowerModel.check_weights`.

    Raises:
        ValueError: Names both shapes.
    """
    if tuple(values.shape) != shape:
        raise ValueError(f"{name} has the shape {tuple(values.shape)}, expected {shape}")


def _short(value: Any) -> str:
    return repr(value)[:60]

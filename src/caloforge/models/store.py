"""Saving and loading of models: weights as safetensors, everything else as JSON, no pickle.

A model directory holds `weights-DIGEST.safetensors`, `model.json` and `README.md`; that of a run directory is
called `model`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge import number_format
from caloforge.config import build
from caloforge.errors import CaloforgeError, ConfigError, DataError, ModelError
from caloforge.files import read_regular, write_bytes, write_text, writing
from caloforge.geometry import Detector
from caloforge.models.checks import check_size, check_state, weights_of_card
from caloforge.models.presets import FamilyConfig
from caloforge.models.registry import build_model, entry_of, family_name, read_model_config
from caloforge.models.released import FORMAT, FORMAT_VERSION, claimed_ranges, model_folder, read_card
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.provenance import collect, digest_json
from caloforge.run_directory import CARD, README
from caloforge.showers.file import EnergyMeaning
from caloforge.units import format_angle, format_energy

if TYPE_CHECKING:
    from torch import Tensor

    from caloforge.models.base import ShowerModel


def save_model(model: ShowerModel, folder: Path, state: dict[str, Tensor], **facts: Any) -> Path:
    """Write a model directory; a kill at any moment leaves the old model or the new one.

    The card is written last and names the digest of its weights, so that the weights of one model are never
    combined with the card of another.

    Args:
        model: The model.
        folder: The directory; created if absent.
        state: The weights to save, a `state_dict` of the model.
        facts: Further entries of the card (figure of merit, steps, ...), JSON-compatible.
    """
    from caloforge.models.base import card_facts, parameter_count

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    data = _serialised(state)
    digest = hashlib.sha256(data).hexdigest()
    # named by its digest, so that the old card keeps its weights until it is replaced
    write_bytes(folder / _weights_name(digest), data)
    card = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **card_facts(model),
        "parameters": {name: parameter_count(part) for name, part in model.optimized().items()},
        "weights_sha256": digest,
        "weights_bytes": len(data),
        "provenance": collect(packages=("torch", "numpy")),
        **facts,
    }
    write_text(folder / CARD, json.dumps(card, indent=1))
    write_text(folder / README, _readme(card))
    for stale in folder.glob("*.safetensors"):
        if stale.name != _weights_name(digest):
            stale.unlink()
    return folder


def _weights_name(digest: str) -> str:
    return f"weights-{digest[:12]}.safetensors"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors as safetensors; returns the SHA-256 of the file."""
    data = _serialised(tensors)
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def _serialised(tensors: dict[str, Tensor]) -> bytes:
    # not save_file: its files are readable by their owner only, and its errors have no errno
    from safetensors.torch import save

    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def read_tensors(path: Path, digest: str, size: int | None = None) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: The file.
        digest: Its SHA-256.
        size: Its size in bytes, if known.

    Raises:
        ModelError: Missing, no regular file, damaged, or of another size or digest.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = read_regular(path, sys.maxsize - 1 if size is None else size)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); train again or take another copy"
        ) from error
    except DataError as error:
        raise ModelError(str(error)) from error
    if size not in (None, len(data)):
        raise ModelError(f"{path}: {len(data)} bytes, its description says {size}; take another copy")
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise ModelError(
            f"{path}: not the weights that their description names (SHA-256 {found[:12]}…, expected "
            f"{digest[:12]}…): damaged or tampered with; take another copy"
        )
    try:
        return load(data)
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged ({error}); take another copy") from error


def load_model(path: Path | str, *, allow_large: bool = False) -> ShowerModel:
    """Load a trained model.

    Args:
        path: A run directory, a model directory, or the name of a released model.
        allow_large: Allow models of any size.

    Raises:
        ModelError: Missing, damaged, tampered with, of another version, or too large.
    """
    return read_model(path, allow_large=allow_large).load()


def read_model(path: Path | str, *, allow_large: bool = False) -> StoredModel:
    """Read the card of a model, without its weights and without importing torch.

    Args:
        path: A run directory, a model directory, or the name of a released model.
        allow_large: Let `load` allow models of any size.

    Raises:
        ModelError: Missing, incomplete, or of another version.

    Examples:
        >>> model = read_model("clic-electron")
        >>> model.family, model.detector.name
        ('layered', 'clic-ecal-25')
    """
    folder = model_folder(path)
    return _stored_model(folder, read_card(folder), allow_large=allow_large)


def read_verified_card(path: Path | str) -> dict[str, Any]:
    """Read and check the card of a model, and the digest of its weights.

    Raises:
        ModelError: Missing, damaged, tampered with, or of another version.
    """
    folder = model_folder(path)
    card = read_card(folder)
    stored = _stored_model(folder, card, allow_large=False)
    with _card_errors(folder):
        if not isinstance(card.get("parameters"), dict):
            raise ConfigError("parameters: missing")
    stored.weights()
    return card


def _stored_model(folder: Path, card: dict[str, Any], *, allow_large: bool) -> StoredModel:
    with _card_errors(folder):
        digest, count = weights_of_card(card)
        stored = StoredModel(
            folder=folder,
            config=read_model_config(card["config"], "config", of_card=True),
            detector=build(Detector, card["detector"], "detector"),
            facts=build(DataFacts, card["facts"], "facts"),
            weights_sha256=digest,
            weights_bytes=count,
            allow_large=allow_large,
        )
        if card["family"] != stored.family:
            raise ConfigError(f"family: expected {stored.family}, that of its configuration")
        return stored


@contextmanager
def _card_errors(folder: Path) -> Iterator[None]:
    """Turn errors in the contents of a card into a `ModelError`."""
    try:
        yield
    except KeyError as error:
        raise ModelError(f"{folder / CARD}: incomplete or changed: it has no {error.args[0]}") from error
    except (TypeError, CaloforgeError) as error:
        reason, *more = str(error).splitlines()
        more_words = f", and {len(more)} more" if more else ""
        raise ModelError(f"{folder / CARD}: incomplete or changed: {reason}{more_words}") from error


@dataclass(frozen=True)
class StoredModel:
    """A model on disk, whose weights are read at `load`.

    Attributes:
        folder: The model directory.
        config: The family's configuration.
        detector: Detector of the showers.
        facts: Metadata of the training data.
        weights_sha256: Digest of the weights file.
        weights_bytes: Size of the weights file.
        allow_large: Whether `load` allows models of any size.
    """

    folder: Path
    config: FamilyConfig
    detector: Detector
    facts: DataFacts
    weights_sha256: str
    weights_bytes: int
    allow_large: bool = False

    @property
    def family(self) -> str:
        """Name in run.yaml."""
        return family_name(self.config)

    @property
    def compilable(self) -> bool:
        """Whether the family has a compiled form."""
        return bool(entry_of(self.config).compiled)

    @property
    def ranges(self) -> TrainedRange:
        """Range of the conditions in the training data."""
        return self.facts.ranges

    @property
    def claim(self) -> TrainedRange:
        """Range of the conditions that the model is made for."""
        return self.facts.claim

    @property
    def energy_meaning(self) -> EnergyMeaning:
        """Meaning of the voxel energies."""
        return self.facts.energy_meaning

    @property
    def digest(self) -> str:
        """SHA-256 of everything that affects generated showers."""
        parts = [part.model_dump(mode="json") for part in (self.config, self.detector, self.facts)]
        return digest_json([self.family, *parts, self.weights_sha256])

    def weights(self) -> dict[str, Tensor]:
        """Read the weights: tensors by name.

        Raises:
            ModelError: Missing, damaged or tampered with.
        """
        path = self.folder / _weights_name(self.weights_sha256)
        return read_tensors(path, self.weights_sha256, self.weights_bytes)

    def load(self) -> ShowerModel:
        """Build the model and load its weights.

        Raises:
            ModelError: Weights missing, damaged, tampered with or of another network, or a model too large.
        """
        with _card_errors(self.folder):
            if not self.allow_large:
                check_size(self.config, self.detector, self.facts, self.weights_bytes)
            model = build_model(self.config, self.detector, self.facts)
        load_state(model, self.weights(), self.folder)
        return model.eval()


def load_state(model: ShowerModel, state: dict[str, Tensor], origin: Path) -> None:
    """Load weights into a model and check them.

    Raises:
        ModelError: They belong to another network, or cannot be used.
    """
    try:
        check_state(model, state)
        model.load_state_dict(state)
        model.check_weights()
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{origin}: the weights are of another network ({reason})") from error
    except ValueError as error:
        raise ModelError(f"{origin}: the weights cannot be used: {error}") from error


def model_digest(path: Path | str) -> str:
    """SHA-256 of the weights of a model."""
    return str(read_card(path).get("weights_sha256", ""))


def _readme(card: dict[str, Any]) -> str:
    ranges, detector = claimed_ranges(card), card["detector"]
    energy = " to ".join(dict.fromkeys(format_energy(round(value, 3)) for value in ranges["energy"]))
    theta = " to ".join(dict.fromkeys(format_angle(round(value, 6)) for value in ranges["theta"]))
    merit = "not evaluated" if card.get("merit") is None else f"{card['merit']:.4g}"
    parts = [f"{name} {count}" for name, count in card["parameters"].items()]
    pdg_ids = ", ".join(map(str, ranges["pdg_ids"]))
    return f"""# {card["family"]} for {detector["name"]}

Made by caloforge {card["provenance"]["caloforge"]} on {card["provenance"]["created"]}.

- Particles (PDG): {pdg_ids}; {energy}; theta {theta}
- Voxels: {card["facts"]["energy_meaning"]} energy in MeV
- Weights: {number_format.size(card["weights_bytes"])}; trained parameters: {", ".join(parts) or "none"}
- Figure of merit (P + E against held-out full simulation, 0 is perfect): {merit}

Generate: `caloforge generate DIR --like TRUTH.h5 -o generated.h5`; weights SHA-256 {card["weights_sha256"]}.
"""

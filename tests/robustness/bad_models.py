"""Model directories that a stranger may send: damaged, changed with right digests, or no models at all."""

import copy
import hashlib
import json
import os
import shutil
import struct

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from caloforge.geometry import load_detector
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.store import save_model
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.testing.model_contract import fit_to_made_up

FAMILIES = ("layered", "frozen", "gan3d")


def write_good(family, folder, detector=None):
    """A small valid model of a family."""
    ranges = TrainedRange(energy=(1e4, 5e5), theta=(np.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(11,))
    config = {"family": family, "preset": "debug"} if family != "frozen" else {"family": family}
    model = build_model(
        read_model_config(config, "model"),
        detector or load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7")),
        DataFacts(ranges=ranges, response_fit=(0.02, -0.002)),
        seed=1,
    )
    with torch.no_grad():
        fit_to_made_up(model)
    return save_model(model, folder, dict(model.state_dict()))


def with_card(good, folder, change):
    """A copy whose model.json is `change(card)`: an object, or text."""
    shutil.copytree(good, folder)
    card = change(json.loads((good / "model.json").read_text()))
    (folder / "model.json").write_text(card if isinstance(card, str) else json.dumps(card))
    return folder


def with_weights(good, folder, change):
    """A copy whose tensors are changed, or whose weights are the bytes returned, with their right digest."""
    shutil.copytree(good, folder)
    old = next(folder.glob("*.safetensors"))
    changed = change(load_file(old))
    old.unlink()
    new = folder / "new"
    new.write_bytes(changed) if isinstance(changed, bytes) else save_file(changed, new)
    digest = hashlib.sha256(new.read_bytes()).hexdigest()
    new.rename(folder / f"weights-{digest[:12]}.safetensors")
    card = json.loads((folder / "model.json").read_text())
    card |= {"weights_sha256": digest, "weights_bytes": old.stat().st_size if old.exists() else _size(folder)}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def _size(folder):
    return next(folder.glob("*.safetensors")).stat().st_size


def nested(depth):
    return "[" * depth + "]" * depth


CARDS = {
    "null": lambda _: "null",
    "a list": lambda _: "[1, 2]",
    "text": lambda _: "hello",
    "empty": lambda _: "",
    "nested 100000 times": lambda _: nested(100_000),
    "cut": lambda card: json.dumps(card)[:-50],
    "no family": lambda card: {k: v for k, v in card.items() if k != "family"},
    "family of no name": lambda card: (
        card | {"family": "nobody", "config": card["config"] | {"family": "nobody"}}
    ),
    "family is a list": lambda card: card | {"config": card["config"] | {"family": ["layered"]}},
    "NUL in a name": lambda card: card | {"weights_sha256": "a\u0000b"},
    "digest is a path": lambda card: card | {"weights_sha256": "../../../etc/x"},
    "digest is a number": lambda card: card | {"weights_sha256": 5},
    "config is null": lambda card: card | {"config": None},
    "detector is a list": lambda card: card | {"detector": []},
    "facts are text": lambda card: card | {"facts": "x"},
    "a mesh of billions": lambda card: _mesh(card, nx=50_000, ny=50_000),
    "negative mesh": lambda card: _mesh(card, nx=-1),
    "energies not finite": lambda card: _range(card, energy=[1e4, 1e999]),
    "energies backwards": lambda card: _range(card, energy=[5e5, 1e4]),
    "no particles": lambda card: _range(card, pdg_ids=[]),
    "a particle too large": lambda card: _range(card, pdg_ids=[10**30]),
    "version of tomorrow": lambda card: card | {"format_version": 99},
    "version is text": lambda card: card | {"format_version": "1"},
}


def _mesh(card, **changes):
    card = copy.deepcopy(card)
    card["detector"]["mesh"] |= changes
    return card


def _range(card, **changes):
    card = copy.deepcopy(card)
    card["facts"]["ranges"] |= changes
    return card


def special_files(good, folder):
    """(label, directory) of copies whose weights are something else than a regular file."""
    for label in ("a FIFO", "a folder", "a link to a device", "missing", "empty", "cut"):
        copy_ = folder / label.replace(" ", "-")
        shutil.copytree(good, copy_)
        weights = next(copy_.glob("*.safetensors"))
        content = weights.read_bytes()
        weights.unlink()
        if label == "a FIFO":
            os.mkfifo(weights)
        elif label == "a folder":
            weights.mkdir()
        elif label == "a link to a device":
            weights.symlink_to("/dev/zero")
        elif label == "empty":
            weights.write_bytes(b"")
        elif label == "cut":
            weights.write_bytes(content[:-100])
        yield label, copy_


def bytes_of_headers(rng):
    """Files that are nearly safetensors."""
    yield "header longer than the file", struct.pack("<Q", 10**15) + b"{}"
    yield "header that is no JSON", struct.pack("<Q", 8) + b"\xff" * 8
    yield (
        "one tensor of 10^18 numbers",
        _tensors({"x": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}}),
    )
    yield "offsets backwards", _tensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}})
    yield "noise", rng.bytes(3000)


def _tensors(header):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 8


def corrupted(rng, tensors):
    """One tensor with values, or a shape, that it cannot have."""
    tensors = {name: value.copy() for name, value in tensors.items()}
    name = sorted(tensors)[int(rng.integers(len(tensors)))]
    value, kind = tensors[name], int(rng.integers(6))
    if kind == 0:
        tensors[name] = value[..., None]
    elif kind == 1:
        tensors[name] = value.reshape(-1)[:0]
    elif kind == 2:
        del tensors[name]
    elif np.issubdtype(value.dtype, np.floating):
        large = min(1e30, float(np.finfo(value.dtype).max))
        bad = rng.choice([np.nan, np.inf, -np.inf, large, -large])
        value.reshape(-1)[int(rng.integers(value.size))] = bad
    else:
        limits = np.iinfo(value.dtype)
        value.reshape(-1)[int(rng.integers(value.size))] = rng.choice([limits.min, limits.max, -1])
    return f"{name}, change {kind}", tensors

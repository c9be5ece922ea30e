"""Entry points of a generator of caloforge for the embedded Python of DDML; needs NumPy and ONNX Runtime.

DDML calls an entry point with kinetic energy (GeV) and the two angles (degrees) of a particle in the local
frame of the calorimeter, and reads space points in the layout of its CaloClouds model, which has changed:

    run_inference_2025_06   counts of the 30 layers in entries 0 to 29, then points; 35 000 entries
    run_inference_2026      count of layer i in entries 4 i to 4 i + 3, then points; 6868 entries

A point is x (mm), y (mm), layer, visible energy (MeV). The environment variable CALOFORGE_SEED sets the
seed of the noise; without it each job has a seed of its own.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Floats = npt.NDArray[np.float32]
LAYERS = 30
GEV = 1000.0


class Generator:
    """The exported model of a folder, after its self-test.

    Attributes:
        manifest: The document manifest.json.
    """

    def __init__(self, folder: Path) -> None:
        """Check and open the model.

        Raises:
            RuntimeError: The graph is not the one of the manifest, or makes other showers here.
        """
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        graph = _verified(folder, self.manifest["graph"]["files"][0])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("DDML_INTRA_OP_NUM_THREADS", "1")) or 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._test(_verified(folder, self.manifest["reference"]))
        trained = self.manifest["trained"]
        self._trained = {
            name: (trained[name]["min"], trained[name]["max"]) for name in ("energy", "theta", "phi")
        }
        names = [tensor["name"] for tensor in self.manifest["inputs"]]
        self._impact = [name for name in ("impact_x", "impact_y") if name in names]
        self._noise_shape = self.manifest["inputs"][-1]["shape"][1:]
        seed = os.environ.get("CALOFORGE_SEED")
        self._noise = np.random.default_rng(None if seed is None else int(seed))
        mesh = self.manifest["mesh"]
        self._x, self._y = np.array(mesh["x"]), np.array(mesh["y"])
        self._axis_depth = float(mesh["axis_crosses_centre_at_z"])
        self.showers = self.outside = self.reduced = 0

    def _test(self, data: bytes) -> None:
        arrays = {}
        for tensor in self.manifest["reference"]["tensors"]:
            kind = np.dtype(tensor["type"]).newbyteorder("<")
            size = math.prod(tensor["shape"])
            values = np.frombuffer(data, kind, size, tensor["first_byte"])
            arrays[tensor["name"]] = values.reshape(tensor["shape"])
        want = arrays.pop(self.manifest["output"]["name"])
        got = self._session.run(None, arrays)[0]
        difference = np.abs(got - want).sum() / max(np.abs(want).sum(), 1e-12)
        if not difference <= self.manifest["reference"]["largest_difference"]:
            raise RuntimeError(
                f"caloforge: the self-test fails: {difference:.2g} of the energy lies in other cells; export "
                "the model again"
            )

    def noise(self) -> Floats:
        """Noise of one shower, (1, ...)."""
        return self._noise.standard_normal((1, *self._noise_shape), np.float32)

    def shower(self, energy: float, theta: float, phi: float) -> Floats:
        """A shower (layer, y, x) in MeV.

        Args:
            energy: Kinetic energy, MeV; beyond the trained range the nearest energy is generated, and scaled.
            theta: Angle to the y axis, rad.
            phi: Azimuth around it, from the z axis, rad.
        """
        trained = {
            name: min(max(value, self._trained[name][0]), self._trained[name][1])
            for name, value in (("energy", energy), ("theta", theta), ("phi", phi))
        }
        self.showers += 1
        slack = 1e-3 * energy, 1e-3, 1e-3
        asked = (energy, theta, phi)
        self.outside += any(abs(a - t) > s for a, t, s in zip(asked, trained.values(), slack, strict=True))
        given = {name: np.array([value], np.float32) for name, value in trained.items()}
        # DDML places the mesh around each particle
        given |= {name: np.zeros(1, np.float32) for name in self._impact}
        given["noise"] = self.noise()
        shower: Floats = self._session.run(None, given)[0][0]
        return shower if trained["energy"] == energy else shower * np.float32(energy / trained["energy"])

    def points(self, energy: float, theta: float, phi: float) -> npt.NDArray[np.float64]:
        """Space points (n, 4): x, y (mm from the entry point), layer, energy (MeV).

        The angles are those that DDML passes, of the local frame turned by half a circle around z.

        Args:
            energy: Kinetic energy, GeV.
            theta: Angle to the normal of the layers, degrees.
            phi: Azimuth around the normal, degrees.
        """
        tilt, turn = math.radians(theta), math.radians(phi)
        x, y, z = math.sin(tilt) * math.cos(turn), math.sin(tilt) * math.sin(turn), math.cos(tilt)
        shower = self.shower(energy * GEV, math.acos(max(-1.0, min(1.0, y))), math.atan2(x, z))
        layer, row, column = np.nonzero(shower)
        # the axis crosses the centre of the mesh at this depth, and the entry point at depth 0
        shift = self._axis_depth / max(z, 1e-6)
        return np.stack(
            [
                self._x[column] + shift * x,
                self._y[row] + shift * y,
                layer.astype(np.float64),
                shower[layer, row, column].astype(np.float64),
            ],
            axis=1,
        )

    def reduce(self, points: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
        """At most so many points: the strongest of each layer and of all, with the energy of their layer."""
        if len(points) <= most:
            return points
        self.reduced += 1
        order = np.argsort(points[:, 3], kind="stable")[::-1]
        _, first = np.unique(points[order, 2], return_index=True)
        kept = np.concatenate([order[np.sort(first)], np.delete(order, first)])[:most]
        layers = points[:, 2].astype(int)
        energy = np.bincount(layers, points[:, 3], minlength=LAYERS)
        found = points[np.sort(kept)].copy()
        own = found[:, 2].astype(int)
        scale = energy[own] / np.bincount(own, found[:, 3], minlength=LAYERS)[own]
        found[:, 3] *= scale
        return np.asarray(found)

    def report(self) -> None:
        """Tell what was not as trained, at the end of the job."""
        if self.outside:
            sys.stderr.write(
                f"caloforge: {self.outside} of {self.showers} particles were outside the trained range: the "
                "nearest trained energy and angle was generated, and scaled in energy\n"
            )
        if self.reduced:
            sys.stderr.write(
                f"caloforge: {self.reduced} of {self.showers} showers had more hits than the layout holds: "
                "the weakest were given to the others of their layer\n"
            )


def _verified(folder: Path, facts: dict[str, Any]) -> bytes:
    path = folder / facts["name"]
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise RuntimeError(f"caloforge: {path} is not the file of its manifest.json; export the model again")
    return bytes(data)


@functools.cache
def generator() -> Generator:
    """The model of DDML's property ModelPath, or of the folder of this file; opened once."""
    model = Generator(Path(os.environ.get("DDML_MODEL_PATH", __file__)).resolve().parent)
    atexit.register(model.report)
    return model


def _layout(inputs: Sequence[Floats], size: int, first: int, stride: int) -> Floats:
    """The array that DDML reads: counts of layers `stride` entries apart, points from `first` on."""
    model = generator()
    energy, theta, phi = (float(value.reshape(-1)[0]) for value in inputs)
    points = model.reduce(model.points(energy, theta, phi), (size - first) // 4)
    output = np.zeros(size, np.float32)
    counts = np.bincount(points[:, 2].astype(int), minlength=LAYERS)
    output[:first] = np.repeat(counts, stride)
    output[first : first + points.size] = points.reshape(-1)
    return output


def run_inference_2025_06(inputs: Sequence[Floats]) -> Floats:
    """Entry point for the layout of DDML until 2025."""
    return _layout(inputs, 35_000, LAYERS, 1)


def run_inference_2026(inputs: Sequence[Floats]) -> Floats:
    """Entry point for the layout of DDML in 2026."""
    return _layout(inputs, 6868, 4 * LAYERS, 4)

"""Programs that run exported models, imitated: what they feed, buffer by buffer, and what they read."""

import importlib.util
import math
from typing import ClassVar

import numpy as np
import onnxruntime


class Par04:
    """Par04 11.4: Par04InferenceSetup, Par04OnnxInference and Par04MLFastSimModel with type VAE.

    `settings` are the commands of the macro.
    """

    HIT = 0.0005
    MAX_ENERGY, MAX_ANGLE = 1024000.0, 90.0

    def __init__(self, folder, settings):
        self.latent = int(settings["setSizeLatentVector"])
        self.conditions = int(settings["setSizeConditionVector"])
        self.number = tuple(int(settings[f"setNbOf{axis}Cells"]) for axis in ("Rho", "Phi", "Z"))
        self.size = tuple(
            float(settings[f"setSizeOf{axis}Cells"].removesuffix(" mm")) for axis in ("Rho", "Z")
        )
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(folder / settings["setModelPathName"], options)

    def energies(self, energy, theta, gauss):
        """Energies of all cells, MeV, in the order of the flat index."""
        vector = np.zeros(self.latent + self.conditions, np.float32)
        vector[: self.latent] = gauss
        vector[self.latent] = energy / self.MAX_ENERGY
        vector[self.latent + 1] = math.degrees(theta) / self.MAX_ANGLE
        vector[self.latent + 3] = 1
        # only the last name is kept, and one tensor is passed
        name = self.session.get_inputs()[-1].name
        first = self.session.run(None, {name: vector.reshape(1, -1)})[0]
        flat = np.ascontiguousarray(first).reshape(-1)[: math.prod(self.number)]
        return flat.astype(np.float64) * energy

    def hits(self, energy, direction, entry, gauss):
        """Positions (n, 3) and energies (n,) of the hits in the detector."""
        theta = math.acos(direction[2])
        energies = self.energies(energy, theta, gauss)
        back = np.linalg.inv(rotation(direction))
        positions, found = [], []
        flat = 0
        for i in range(self.number[0]):
            for j in range(self.number[1]):
                for k in range(self.number[2]):
                    if energies[flat] > self.HIT:
                        radius = (i + 0.5) * self.size[0]
                        angle = (j + 0.5) * 2 * math.pi / self.number[1] - math.pi
                        local = (radius * math.cos(angle), radius * math.sin(angle), (k + 0.5) * self.size[1])
                        positions.append(entry + back @ np.array(local))
                        found.append(energies[flat])
                    flat += 1
        return np.array(positions), np.array(found)


def rotation(direction):
    """The rotation of Par04 that turns a direction to the z axis."""
    theta, phi = math.acos(direction[2]), math.atan2(direction[1], direction[0])
    about_z = np.array([[np.cos(phi), np.sin(phi), 0], [-np.sin(phi), np.cos(phi), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(theta), 0, -np.sin(theta)], [0, 1, 0], [np.sin(theta), 0, np.cos(theta)]])
    return about_y @ about_z


class RegularGridGAN:
    """DDML: ONNXInference and RegularGridGANModel."""

    DIMENSIONS = ((1, 100, 1, 1, 1), (1, 1, 1, 1, 1))

    def __init__(self, graph, properties):
        self.properties = properties
        self.session = onnxruntime.InferenceSession(graph)

    def space_points(self, energy_mev, flat):
        """Per layer, x, y (mm) and energy of each space point; `flat` are the uniform numbers."""
        buffers = [np.asarray(flat, np.float32), np.array([energy_mev / 1000.0], np.float32)]
        given = {
            entry.name: buffer.reshape(dimensions)
            for entry, buffer, dimensions in zip(
                self.session.get_inputs(), buffers, self.DIMENSIONS, strict=True
            )
        }
        output = np.ascontiguousarray(self.session.run(None, given)[0]).reshape(-1)
        nx, ny, nz = (self.properties[f"NCells{axis}"] for axis in "XYZ")
        output = output[: nx * ny * nz]
        layers, hit = [], 0
        for _ in range(nz):
            points = []
            for i in range(nx):
                for j in range(ny):
                    if output[hit] > 0:
                        x = (i - nx // 2 + 0.5) * self.properties["CellSizeX"]
                        y = (j - ny // 2 + 0.5) * self.properties["CellSizeY"]
                        points.append((x, y, output[hit]))
                    hit += 1
            layers.append(points)
        return layers


class EmbeddedPython:
    """DDML: EmbeddedPyInference with CaloCloudsTwoAngleModel, of 2025-06 or of 2026."""

    LAYOUTS: ClassVar = {"run_inference_2025_06": (35_000, 1), "run_inference_2026": (6868, 4)}

    def __init__(self, folder, entry_point, monkeypatch):
        monkeypatch.setenv("DDML_MODEL_PATH", str(folder / "model.onnx"))
        spec = importlib.util.spec_from_file_location("caloforge_ddml", folder / "caloforge_ddml.py")
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        # only after the import
        monkeypatch.setenv("DDML_INTRA_OP_NUM_THREADS", "1")
        self.size, self.stride = self.LAYOUTS[entry_point]
        self.function = getattr(self.module, entry_point)

    def space_points(self, energy_mev, local_direction):
        """Per layer, x, y (mm, local) and energy of each space point."""
        x, y, z = -local_direction[0], -local_direction[1], local_direction[2]
        theta, phi = math.degrees(math.acos(z)), math.degrees(math.atan2(y, x))
        inputs = [np.full((1, 1), value, np.float32) for value in (energy_mev / 1000.0, theta, phi)]
        for value in inputs:
            # borrowed from C++
            value.flags.writeable = False
        output = self.function(inputs)
        assert output.dtype == np.float32 and output.flags.c_contiguous and output.size == self.size
        counts = [int(output[i * self.stride]) for i in range(30)]
        first = 30 * self.stride
        layers = [[] for _ in range(30)]
        for start in range(first, first + 4 * sum(counts), 4):
            px, py, layer, energy = output[start : start + 4]
            layers[int(layer)].append((-px, -py, energy))
        assert [len(points) for points in layers] == counts
        return layers

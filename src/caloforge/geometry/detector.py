"""The detector: slabs of material stacked along the depth z, and the readout mesh.

Frame: z is the depth, normal to the layers, 0 at the front face; x and y are transverse, 0 on the axis of
the mesh. The incident direction is (sin theta sin phi, cos theta, sin theta cos phi): theta is measured from
the y axis, so that theta = pi/2, phi = 0 is orthogonal incidence (the barrel convention of CLIC and Par04).
"""

from __future__ import annotations

import functools
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from caloforge.config import StrictModel, apply_overrides, build, merge, parse_yaml, read_yaml
from caloforge.errors import CaloforgeError, ConfigError, DataError, GeometryError, nearest
from caloforge.geometry import materials
from caloforge.geometry.materials import ComposedMaterial, Material
from caloforge.geometry.mesh import MAX_VOXELS, Mesh, RaggedMesh
from caloforge.geometry.random_detectors import random_detector
from caloforge.names import is_path, shipped_name
from caloforge.provenance import digest_json
from caloforge.units import Length


class Slab(StrictModel):
    """One plate of one material. `active` plates are read out."""

    material: str
    thickness: Length
    active: bool = False

    @field_validator("thickness")
    @classmethod
    def _positive(cls, value: float) -> float:
        if not 1e-4 <= value <= 1e4:
            raise ValueError(f"got a thickness of {value} mm, expected 0.0001 mm to 10 m")
        return value


class Layer(StrictModel):
    """One physical layer (absorber, active, gaps), front to back, repeated `repeat` times."""

    slabs: tuple[Slab, ...] = Field(min_length=1)
    repeat: int = Field(default=1, ge=1, le=1000)

    @property
    def thickness(self) -> float:
        """Thickness of one repetition, mm."""
        return sum(slab.thickness for slab in self.slabs)


class Detector(StrictModel):
    """A sampling or homogeneous calorimeter and its readout mesh.

    `layers` may be empty for showers of a detector whose material is not known (imported data); such a
    detector cannot be simulated. `width` is the transverse size of the plates, `axis_layer` the physical
    layer at whose front the shower axis crosses the centre of the mesh.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    description: str = ""
    materials: dict[str, ComposedMaterial] = Field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    width: Length = 1000.0
    axis_layer: int = Field(default=0, ge=0)
    mesh: Mesh

    @model_validator(mode="after")
    def _consistent(self) -> Detector:
        for name in self.materials:
            if name.startswith("G4_"):
                raise ValueError(f"materials.{name}: names with G4_ belong to Geant4, choose another")
        for index, layer in enumerate(self.layers):
            for slab in layer.slabs:
                try:
                    materials.resolve(slab.material, self.materials)
                except GeometryError as error:
                    raise ValueError(f"layers.{index}: {error}") from error
        if self.layers:
            self._check_layers()
        elif not isinstance(self.mesh, RaggedMesh):
            raise ValueError("layers: got none, expected at least one layer for this mesh")
        if (voxels := math.prod(self.shower_shape)) > MAX_VOXELS:
            raise ValueError(f"mesh: got {voxels} voxels, expected at most {MAX_VOXELS}")
        return self

    def _check_layers(self) -> None:
        if isinstance(self.mesh, RaggedMesh):
            raise ValueError("mesh: a ragged mesh describes imported data and takes no layers")
        for index, layer in enumerate(self.layers):
            if not any(slab.active for slab in layer.slabs):
                raise ValueError(f"layers.{index}: no slab is active, expected at least one to read out")
        physical = self.n_physical_layers
        if physical % self.mesh.layers_per_voxel:
            raise ValueError(
                f"mesh.layers_per_voxel: got {self.mesh.layers_per_voxel}, expected a divisor of the "
                f"{physical} physical layers"
            )
        if self.axis_layer >= physical:
            raise ValueError(f"axis_layer: got {self.axis_layer}, expected 0 to {physical - 1}")
        if 2 * self.mesh.half_extent() > self.width:
            raise ValueError(
                f"mesh: it is {2 * self.mesh.half_extent():g} mm wide, larger than the calorimeter "
                f"(width: {self.width:g} mm); enlarge width or take fewer or smaller cells"
            )

    # ---- sizes

    @property
    def n_physical_layers(self) -> int:
        """Absorber-active layers of the real detector."""
        return sum(layer.repeat for layer in self.layers)

    @property
    def n_layers(self) -> int:
        """Readout layers, the first axis of a shower."""
        if isinstance(self.mesh, RaggedMesh):
            return len(self.mesh.layers)
        return self.n_physical_layers // self.mesh.layers_per_voxel

    @property
    def shower_shape(self) -> tuple[int, ...]:
        """Shape of one shower: (nz, ny, nx), (nz, nphi, nr), or (n_voxels,) for a ragged mesh."""
        if isinstance(self.mesh, RaggedMesh):
            return (self.mesh.n_voxels,)
        return (self.n_layers, *self.mesh.layer_shape())

    def physical_layers(self) -> list[Layer]:
        """Every physical layer, front to back, repetitions written out."""
        return [layer for layer in self.layers for _ in range(layer.repeat)]

    # ---- depth

    @property
    def is_homogeneous(self) -> bool:
        """Whether every plate is read out, as in crystals."""
        return bool(self.layers) and all(slab.active for layer in self.layers for slab in layer.slabs)

    @property
    def depth(self) -> float:
        """Thickness of the whole calorimeter, mm."""
        return sum(layer.thickness * layer.repeat for layer in self.layers)

    def layer_fronts(self) -> NDArray[np.float64]:
        """Z of the front of each physical layer, mm, shape (n_physical_layers,)."""
        sizes = np.array([layer.thickness for layer in self.physical_layers()])
        return np.concatenate([[0.0], np.cumsum(sizes)[:-1]])

    def active_depths(self) -> NDArray[np.float64]:
        """Mean z of the active material of each readout layer, mm, shape (n_layers,)."""
        return self._active_mean(None)

    def active_depths_x0(self) -> NDArray[np.float64]:
        """Depth in radiation lengths before each readout layer's active material, shape (n_layers,)."""
        return self._active_mean(self.material_map())

    def _active_mean(self, lengths: dict[str, Material] | None) -> NDArray[np.float64]:
        position, means = 0.0, []
        for layer in self.physical_layers():
            weight = moment = 0.0
            for slab in layer.slabs:
                scale = lengths[slab.material].radiation_length if lengths else 1.0
                size = slab.thickness / scale
                if slab.active:
                    weight += slab.thickness
                    moment += slab.thickness * (position + size / 2)
                position += size
            means.append(moment / weight)
        depths: NDArray[np.float64] = np.array(means).reshape(self.n_layers, -1).mean(axis=1)
        return depths

    def material_map(self) -> dict[str, Material]:
        """Every material of the layers, resolved."""
        names = {slab.material for layer in self.layers for slab in layer.slabs}
        return {name: materials.resolve(name, self.materials) for name in sorted(names)}

    @property
    def radiation_lengths(self) -> float:
        """Total depth in X0."""
        lengths = self.material_map()
        return sum(
            layer.repeat * slab.thickness / lengths[slab.material].radiation_length
            for layer in self.layers
            for slab in layer.slabs
        )

    @property
    def effective_radiation_length(self) -> float:
        """Mean X0 of the stack, mm."""
        return self.depth / self.radiation_lengths

    @property
    def moliere_radius(self) -> float:
        """Molière radius of the stack, mm: 1/R_M is the thickness-weighted mean of the slabs' 1/R_M."""
        lengths = self.material_map()
        inverse = sum(
            layer.repeat * slab.thickness / lengths[slab.material].moliere_radius
            for layer in self.layers
            for slab in layer.slabs
        )
        return self.depth / inverse

    @property
    def critical_energy(self) -> float:
        """Effective critical energy of the stack, MeV."""
        return self.effective_radiation_length * materials.SCATTERING_ENERGY / self.moliere_radius

    # ---- identity

    def to_json(self) -> str:
        """The detector as JSON, as stored in shower files; `from_json` gives an equal detector."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, origin: str = "detector") -> Detector:
        """Read the `detector` attribute of a shower file, in this project's form or the compact one.

        Raises:
            DataError: The text is no detector.
        """
        try:
            document = json.loads(text)
            if not isinstance(document, dict):
                raise ConfigError("expected a JSON object")
            return build(cls, _expand_compact(document), origin)
        except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
            raise DataError(f"{origin}: the detector description cannot be read: {error}") from error

    @functools.cached_property
    def geometry_digest(self) -> str:
        """SHA-256 of everything that affects a shower (not name, description or plate width)."""
        document = self.model_dump(mode="json", exclude={"name", "description", "width", "layers"})
        document["layers"] = [
            [slab.model_dump(mode="json") for slab in layer.slabs] for layer in self.physical_layers()
        ]
        return digest_json(document)


def _expand_compact(document: dict[str, Any]) -> dict[str, Any]:
    """Translate the compact form (absorber_mm, active_mm, gap_mm; cell_mm) to slabs and a mesh."""
    layers = document.get("layers") or []
    if not layers or "absorber_mm" not in layers[0]:
        return document
    mesh = document["mesh"]
    if mesh["kind"] != "cartesian" or mesh["nz"] != len(layers):
        raise ConfigError("the compact form takes a cartesian mesh with one readout layer a layer")
    slabs = [
        [
            {"material": row["absorber"], "thickness": f"{row['absorber_mm']} mm"},
            {"material": row["active"], "thickness": f"{row['active_mm']} mm", "active": True},
            {"material": row.get("gap", "G4_AIR"), "thickness": f"{row['gap_mm']} mm"},
        ]
        for row in layers
    ]
    cell = f"{mesh['cell_mm']} mm"
    window = {"kind": "cartesian", "nx": mesh["nx"], "ny": mesh["ny"], "cell_x": cell, "cell_y": cell}
    # the compact form has no axis_layer; it was made for the CLIC samples, where it is 10
    return {
        "name": document["name"],
        "axis_layer": min(10, len(layers) - 1),
        "layers": [{"slabs": row} for row in slabs],
        "mesh": window,
    }


def preset_names() -> list[str]:
    """Names of the detectors that come with caloforge."""
    folder = resources.files("caloforge.geometry") / "presets"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """The YAML text of a preset.

    Raises:
        ConfigError: No such preset; with the nearest name.
    """
    if name not in preset_names():
        raise ConfigError(f"detector preset {name!r} does not exist. {nearest(name, preset_names())}")
    return (resources.files("caloforge.geometry") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def detector_document(source: str | Path | dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The document of a detector with its preset resolved, and its origin for messages.

    Args:
        source: "clic-ecal-25", "my-detector.yaml", or a mapping; a mapping with `preset` changes that preset,
            one with `random` the random detector of that number.

    Raises:
        ConfigError: Unknown preset, or an unreadable file.
    """
    if isinstance(source, dict):
        document = dict(source)
        if "random" in document:
            if "preset" in document:
                raise ConfigError(
                    'detector: got preset and random; give one of them, as in --set "detector={random: 7}"'
                )
            return merge(random_detector(document.pop("random")), document), "detector"
        if "preset" not in document:
            return document, "detector"
        preset = str(document.pop("preset"))
        return merge(parse_yaml(preset_text(preset), preset), document), "detector"
    text = str(source)
    if not shipped_name(source, preset_names(), "detector") and is_path(source):
        return read_yaml(text), text
    return parse_yaml(preset_text(text), text), text


def load_detector(source: str | Path | dict[str, Any], overrides: tuple[str, ...] = ()) -> Detector:
    """A detector from the name of a preset, a YAML file, or a parsed document.

    Args:
        source: See `detector_document`.
        overrides: Settings such as "mesh.nx=51".

    Raises:
        GeometryError: Unknown preset, unreadable file, or a description that cannot be built.

    Examples:
        >>> detector = load_detector("clic-ecal-25", ("mesh.nx=31",))
        >>> detector.shower_shape
        (25, 25, 31)
        >>> round(detector.radiation_lengths, 1)
        22.7
    """
    try:
        document, origin = detector_document(source)
        return build(Detector, apply_overrides(document, overrides), origin)
    except CaloforgeError as error:
        raise GeometryError(str(error)) from error

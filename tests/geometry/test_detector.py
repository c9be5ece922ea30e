"""Detectors: presets, refusals, numbers, round trips."""

import json

import numpy as np
import pytest

from caloforge.errors import DataError, GeometryError
from caloforge.geometry import Detector, load_detector, preset_names

# a detector of two layers as other programs write it into shower files
COMPACT = {
    "name": "compact",
    "layers": [
        {
            "absorber": "G4_W", "absorber_mm": 2.4, "active": "G4_Si", "active_mm": 0.5,
            "gap": "G4_AIR", "gap_mm": 2.65,
        },
        {"absorber": "G4_W", "absorber_mm": 4.8, "active": "G4_Si", "active_mm": 0.5, "gap_mm": 2.65},
    ],
    "mesh": {"kind": "cartesian", "nx": 3, "ny": 3, "nz": 2, "cell_mm": 5.0},
}  # fmt: skip
RAGGED = {
    "name": "ragged",
    "mesh": {
        "kind": "ragged",
        "layers": [
            {"id": 0, "r_edges": ["0 mm", "5 mm", "10 mm"], "nphi": 1},
            {"id": 3, "r_edges": ["0 mm", "2 mm", "20 mm"], "nphi": 10},
        ],
    },
}


# ---- presets


def test_the_presets():
    assert preset_names() == [
        "clic-ecal-25",
        "clic-ecal-51",
        "crystal-pbwo4",
        "hgcal-like",
        "par04-scipb",
        "par04-siw",
    ]


@pytest.mark.parametrize(
    ("name", "shape", "depth", "x0", "moliere"),
    [
        # tungsten 17 x 2.4 + 8 x 4.8 mm and 12.5 mm silicon in PDG radiation lengths (3.504 and 93.70 mm),
        # and 1/R_M weighted by thickness with the PDG's 9.327 mm and 49.44 mm
        (
            "clic-ecal-25",
            (25, 25, 25),
            157.95,
            79.2 / 3.504 + 12.5 / 93.70,
            157.95 / (79.2 / 9.327 + 12.5 / 49.44),
        ),
        (
            "clic-ecal-51",
            (25, 51, 51),
            157.95,
            79.2 / 3.504 + 12.5 / 93.70,
            157.95 / (79.2 / 9.327 + 12.5 / 49.44),
        ),
        ("par04-siw", (45, 16, 9), 153.0, 126 / 3.504 + 27 / 93.70, 153 / (126 / 9.327 + 27 / 49.44)),
        # lead 5.612 and 16.02 mm, polystyrene 413.1 and 94.09 mm
        ("par04-scipb", (45, 16, 9), 252.0, 198 / 5.612 + 54 / 413.1, 252 / (198 / 16.02 + 54 / 94.09)),
    ],
)
def test_sizes_of_the_presets(name, shape, depth, x0, moliere):
    detector = load_detector(name)
    assert detector.shower_shape == shape
    assert detector.depth == pytest.approx(depth)
    assert detector.radiation_lengths == pytest.approx(x0, rel=0.003)
    assert detector.moliere_radius == pytest.approx(moliere, rel=0.02)
    assert detector.critical_energy == pytest.approx(21.2052 * depth / x0 / moliere, rel=0.025)


def test_the_crystals_are_lead_tungstate():
    detector = load_detector("crystal-pbwo4")
    assert detector.is_homogeneous
    assert detector.shower_shape == (10, 11, 11)
    # PDG: 8.903 mm, 19.59 mm
    assert detector.radiation_lengths == pytest.approx(220 / 8.903, rel=0.005)
    assert detector.moliere_radius == pytest.approx(19.59, rel=0.03)


def test_the_endcap_is_as_deep_as_that_of_cms():
    detector = load_detector("hgcal-like")
    lead, steel, copper, silicon = 5 * 4 + 4 * 5.5 + 4 * 7.5, 13 * 0.6, 13 * 6, 26 * 0.3
    # radiation lengths of the PDG, mm; steel as iron; tungsten and copper by mass, 6.76 and 12.86 g/cm2
    base = 26 * 0.14 * 14.98 * (0.75 / 6.76 + 0.25 / 12.86)
    want = lead / 5.612 + steel / 17.57 + copper / 14.36 + silicon / 93.70 + base
    assert detector.radiation_lengths == pytest.approx(want, rel=0.01)
    assert 25 < detector.radiation_lengths < 27
    assert detector.n_layers == 26
    # the lead gets thicker further back
    thickness = [layer.thickness for layer in detector.physical_layers()[::2]]
    assert thickness == sorted(thickness)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(GeometryError, match=r"'clic-ecal-26' does not exist\. Did you mean 'clic-ecal-25'"):
        load_detector("clic-ecal-26")


def test_a_preset_can_be_changed():
    detector = load_detector({"preset": "clic-ecal-25", "name": "mine", "mesh": {"nx": 13}})
    assert (detector.mesh.nx, detector.mesh.ny) == (13, 25)
    assert load_detector("clic-ecal-25", ("mesh.nx=13", "name=mine")) == detector


def test_a_detector_from_a_file(tmp_path, document):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(document))
    assert load_detector(path) == load_detector(document)
    with pytest.raises(GeometryError, match=r"none\.yaml"):
        load_detector(tmp_path / "none.yaml")


# ---- refusals


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("layers.0.slabs.0.thickness=0 mm", "layers.0.slabs.0.thickness: got a thickness of 0.0 mm"),
        ("layers.0.slabs.0.thickness=-1 mm", "got a thickness of -1.0 mm, expected 0.0001 mm to 10 m"),
        ("layers.0.slabs.0.thickness=11 m", "expected 0.0001 mm to 10 m"),
        ("layers.0.slabs.0.thickness=5", "got 5 without a unit, expected something like '5 mm'"),
        ("layers.0.slabs.0.thickness=5 GeV", "'GeV' is no unit of length"),
        ("layers.0.slabs.0.thicknes=5 mm", "thicknes: unknown setting .* Did you mean 'thickness'"),
        ("layers.0.slabs.0.material=G4_Tungsten", "material 'G4_Tungsten' is unknown to Geant4"),
        ("layers.0.slabs.0.material=tungsten", "Did you mean 'G4_W'"),
        ("layers.0.slabs.1.active=false", "layers.0: no slab is active"),
        ("layers.0.slabs=[]", "layers.0.slabs"),
        ("layers.0.repeat=0", "layers.0.repeat"),
        ("layers.0.repeat=1000000000", "layers.0.repeat"),
        ("layers=[]", "layers: got none, expected at least one layer"),
        ("mesh.nx=21", "210 mm wide, larger than the calorimeter .width: 200 mm."),
        ("mesh.cell_y=40 mm", "larger than the calorimeter"),
        ("width=30 mm", "larger than the calorimeter"),
        ("width=-1 m", "width"),
        ("mesh.nx=0", "mesh.nx"),
        ("mesh.nx=-4", "mesh.nx"),
        ("mesh.nx=2.5", "mesh.nx"),
        ("mesh.nx=100000", "mesh.nx"),
        ("mesh.cell_x=0 mm", "above 0"),
        ("mesh.cell_x=5", "without a unit"),
        ("mesh.kind=cartesain", "cartesian"),
        ("mesh.kind=cylindrical", "mesh.nr: this setting is required"),
        ("mesh.layers_per_voxel=3", "got 3, expected a divisor of the 4 physical layers"),
        ("axis_layer=4", "axis_layer: got 4, expected 0 to 3"),
        ("axis_layer=-1", "axis_layer"),
        ("name=bad/name", "name"),
        ("name=../../etc", "name"),
        ("materials.G4_W={density: 19 g/cm3, fractions: {W: 1}}", "names with G4_ belong to Geant4"),
        ("wdith=1 m", "Did you mean 'width'"),
    ],
)  # fmt: skip
def test_detectors_that_cannot_exist(document, setting, message):
    with pytest.raises(GeometryError, match=message) as caught:
        load_detector(document, (setting,))
    assert caught.value.exit_code == 2


def test_a_mesh_with_too_many_voxels(document):
    document["layers"][0]["repeat"] = 1000
    with pytest.raises(GeometryError, match="voxels, expected at most"):
        load_detector(document, ("mesh.nx=2000", "mesh.ny=2000", "mesh.cell_x=1 um", "mesh.cell_y=1 um"))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (["0 mm", "5 mm", "5 mm"], "rising radii"),
        (["5 mm"], "two or more"),
        (["-1 mm", "5 mm"], "from >= 0"),
        ([0, 5], "without a unit"),
    ],
)
def test_ragged_layers_that_cannot_exist(edges, message):
    layer = {"id": 0, "r_edges": edges, "nphi": 1}
    with pytest.raises(GeometryError, match=message):
        load_detector({"name": "r", "mesh": {"kind": "ragged", "layers": [layer]}})


def test_a_ragged_mesh_takes_no_layers(document):
    with pytest.raises(GeometryError, match="takes no layers"):
        load_detector({**document, "mesh": RAGGED["mesh"]})


# ---- numbers


def test_depths_of_a_small_detector(document):
    detector = load_detector(document)
    assert detector.depth == 28.0
    np.testing.assert_allclose(detector.layer_fronts(), [0, 7, 14, 21])
    np.testing.assert_allclose(detector.active_depths(), [6, 13, 20, 27])
    # 5 mm lead and 2 mm polystyrene in PDG radiation lengths
    lead, plastic = 5 / 5.612, 2 / 413.1
    want = [(i + 1) * lead + (i + 0.5) * plastic for i in range(4)]
    np.testing.assert_allclose(detector.active_depths_x0(), want, rtol=0.005)


def test_readout_layers_of_several_physical_ones(document):
    detector = load_detector(document, ("mesh.layers_per_voxel=2",))
    assert detector.shower_shape == (2, 6, 4)
    np.testing.assert_allclose(detector.active_depths(), [9.5, 23.5])


def test_voxel_centres_are_centred_on_the_axis(document):
    mesh = load_detector(document).mesh
    np.testing.assert_allclose(mesh.x_centres(), [-15, -5, 5, 15])
    np.testing.assert_allclose(mesh.y_centres(), [-12.5, -7.5, -2.5, 2.5, 7.5, 12.5])
    x, y = mesh.positions()
    assert x.shape == y.shape == (6, 4)
    assert x[0, 3] == 15
    assert y[5, 0] == 12.5


def test_voxel_centres_of_rings_and_sectors():
    mesh = load_detector("par04-siw").mesh
    x, y = mesh.positions()
    assert x.shape == (16, 9)
    np.testing.assert_allclose(np.hypot(x, y), np.tile((np.arange(9) + 0.5) * 4.65, (16, 1)))
    np.testing.assert_allclose(np.arctan2(y, x)[:, 0], np.radians(-180 + 22.5 * (np.arange(16) + 0.5)))


def test_slices_of_a_ragged_mesh():
    detector = load_detector(RAGGED)
    assert detector.shower_shape == (22,)
    assert detector.mesh.slices() == [slice(0, 2), slice(2, 22)]
    assert detector.n_layers == 2


# ---- identity


@pytest.mark.parametrize("name", preset_names())
def test_json_round_trip_of_the_presets(name):
    detector = load_detector(name)
    again = Detector.from_json(detector.to_json())
    assert again == detector
    assert again.geometry_digest == detector.geometry_digest


def test_json_round_trip_with_mixtures_and_rough_numbers(document):
    document["materials"] = {"alloy": {"density": "17.123456789 g/cm3", "fractions": {"W": 0.9, "Cu": 0.1}}}
    document["layers"][0]["slabs"][0] = {"material": "alloy", "thickness": "2.4000000000000004 mm"}
    detector = load_detector(document)
    assert Detector.from_json(detector.to_json()) == detector
    assert Detector.from_json(load_detector(RAGGED).to_json()) == load_detector(RAGGED)


def test_the_digest_is_of_what_shapes_a_shower(document):
    detector = load_detector(document)
    written_out = {**document, "layers": [{"slabs": document["layers"][0]["slabs"]}] * 4}
    same = load_detector({**written_out, "name": "other", "description": "x", "width": "300 mm"})
    assert same.geometry_digest == detector.geometry_digest
    for setting in ("mesh.nx=6", "axis_layer=1", "layers.0.slabs.0.thickness=5.001 mm", "layers.0.repeat=5"):
        assert load_detector(document, (setting,)).geometry_digest != detector.geometry_digest, setting


def test_the_compact_form():
    detector = Detector.from_json(json.dumps(COMPACT))
    assert [slab.thickness for slab in detector.physical_layers()[1].slabs] == [4.8, 0.5, 2.65]
    assert detector.shower_shape == (2, 3, 3)
    assert detector.axis_layer == 1
    assert detector.mesh.cell_x == 5.0


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "3", "[]", "{}", "{", "NaN", '{"layers": 3}', '{"layers": [3]}', '{"layers": {"a": 1}}',
        '{"layers": [{"absorber_mm": 1}]}', json.dumps({**COMPACT, "mesh": {"kind": "cartesian", "nz": 5}}),
        json.dumps({**COMPACT, "mesh": 3}), '{"name": "x", "mesh": {"kind": "cartesian"}}', "[" * 50000,
    ],
)  # fmt: skip
def test_text_that_is_no_detector(text):
    with pytest.raises(DataError, match="detector description cannot be read"):
        Detector.from_json(text)

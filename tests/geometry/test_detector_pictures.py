"""Pictures of detectors: they can be drawn, say what they show, and nothing of it overlaps."""

import sys

import pytest

from caloforge.geometry import load_detector
from caloforge.geometry.pictures import cross_section, material_colours, spread

BLOCK = {
    "name": "block",
    "layers": [{"slabs": [{"material": "G4_PbWO4", "thickness": "230 mm", "active": True}]}],
    "mesh": {"kind": "cartesian", "nx": 9, "ny": 9, "cell_x": "22 mm", "cell_y": "22 mm"},
}
RAGGED = {
    "name": "ragged",
    "mesh": {
        "kind": "ragged",
        "layers": [{"id": i, "r_edges": ["0 mm", "5 mm", "9 mm"], "nphi": 1 + 9 * (i % 2)} for i in range(7)],
    },
}
# many slabs, thin ones, four kinds of layers
PLATES = [
    ("G4_W", 3.0),
    ("G4_AIR", 0.1),
    ("G4_KAPTON", 0.2),
    ("G4_Si", 0.3),
    ("G4_Cu", 1.0),
    ("G4_Fe", 0.005),
]
MANY = {
    "name": "many",
    "layers": [
        {
            "repeat": 1 + kind,
            "slabs": [
                {"material": m, "thickness": f"{t * (1 + kind)} mm", "active": m == "G4_Si"}
                for m, t in PLATES
            ],
        }
        for kind in range(4)
    ],
    "mesh": {"kind": "cylindrical", "nr": 12, "nphi": 50, "cell_r": "5 mm"},
}


@pytest.mark.parametrize(
    "source",
    ["clic-ecal-25", "par04-siw", "par04-scipb", "crystal-pbwo4", "hgcal-like", BLOCK, RAGGED, MANY],
    ids=[
        "clic-ecal-25",
        "par04-siw",
        "par04-scipb",
        "crystal-pbwo4",
        "hgcal-like",
        "block",
        "ragged",
        "many",
    ],
)
def test_nothing_overlaps_and_nothing_is_cut(source, assert_readable):
    assert_readable(cross_section(load_detector(source)))


def test_it_says_what_it_shows(assert_readable):
    texts = assert_readable(cross_section(load_detector("clic-ecal-25")))
    joined = "\n".join(texts)
    for wanted in (
        "clic-ecal-25", "G4_W", "G4_Si (active)", "G4_AIR", "2.4 mm", "4.8 mm", "2.65 mm", "17 x 5.55 mm",
        "8 x 7.95 mm", "25 x 25", "22.7", "depth z [mm]", "depth t [$X_0$]", "layer 10", "17.8 mm",
    ):  # fmt: skip
        assert wanted in joined


def test_layers_of_one_kind_are_drawn_once(assert_readable):
    texts = assert_readable(cross_section(load_detector("hgcal-like")))
    joined = "\n".join(texts)
    # 13 cooling plates between 5, 4 and 4 absorbers of rising thickness
    for wanted in ("13 x 12.3 mm", "5 x 8.1 mm", "4 x 9.6 mm", "1 further kind not shown"):
        assert wanted in joined


def test_every_material_and_role_has_a_colour_of_its_own():
    colours = material_colours(load_detector(MANY))
    assert len(colours) == len(PLATES) == len(set(colours.values()))


def test_drawing_leaves_no_state_behind():
    import matplotlib

    before = dict(matplotlib.rcParams)
    cross_section(load_detector(BLOCK))
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_labels_are_spread():
    assert spread([0.1, 0.1, 0.1, 5.0], 1.0, 0.0, 6.0) == pytest.approx([0, 1, 2, 5])
    assert spread([2.0, 2.0, 2.0], 1.0, 0.0, 6.0) == pytest.approx([1, 2, 3])
    assert spread([1.0, 3.0], 1.0, 0.0, 6.0) == [1.0, 3.0]
    # no room: evenly over all of it
    assert spread([1.0] * 5, 10.0, 0.0, 2.0) == pytest.approx([0, 0.5, 1, 1.5, 2])

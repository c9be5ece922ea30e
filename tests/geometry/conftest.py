import pytest

# lead and polystyrene, small
SLABS = [
    {"material": "G4_Pb", "thickness": "5 mm"},
    {"material": "G4_POLYSTYRENE", "thickness": "2 mm", "active": True},
]


@pytest.fixture
def document():
    """A small detector that tests change."""
    return {
        "name": "small",
        "width": "200 mm",
        "layers": [{"repeat": 4, "slabs": [dict(slab) for slab in SLABS]}],
        "mesh": {"kind": "cartesian", "nx": 4, "ny": 6, "cell_x": "10 mm", "cell_y": "5 mm"},
    }

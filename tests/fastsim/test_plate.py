"""Placement of showers in the plate, and which particles a model takes; no Geant4."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.conditions import Conditions
from caloforge.config import build
from caloforge.errors import ConfigError, GeometryError
from caloforge.fastsim.acceptance import Acceptance, Taken, angles
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.ledger import COLUMN, COLUMNS, lines, summary
from caloforge.fastsim.model import FastModel, check_model
from caloforge.fastsim.plate import Placement, check_same_calorimeter, plate_of, window_origin
from caloforge.generation.generate import stream
from caloforge.generation.plan import Plan
from caloforge.geometry import load_detector
from caloforge.models.store import read_model
from caloforge.models.training_metadata import TrainedRange

ORTHOGONAL = (math.pi / 2, math.pi / 2)
DETECTOR = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=3", "width=60 mm"))
RANGES = TrainedRange(energy=(1e4, 1e5), theta=ORTHOGONAL, phi=(0.0, 0.0), pdg_ids=(11, 22))


def particle(x=0.0, y=0.0, *, energy=5e4, pdg_id=11, theta=math.pi / 2, phi=0.0, event=0):
    direction = (math.sin(theta) * math.sin(phi), math.cos(theta), math.sin(theta) * math.cos(phi))
    return Taken(event, pdg_id, energy, theta, phi, (x, y, 0.0), direction, 0.0, 1)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (("mesh.nx=5", "mesh.ny=3", "width=60 mm"), (25, 11, 11)),
        (("mesh.nx=4", "mesh.ny=3", "width=60 mm"), (25, 11, 12)),
        (("mesh.nx=5", "mesh.ny=3", "width=59.9 mm", "mesh.cell_y=3 mm"), (25, 19, 11)),
        # 25 x 4 mm = 100 mm, which rounding must not lose
        (("mesh.nx=5", "mesh.ny=5", "mesh.cell_x=4 mm", "mesh.cell_y=4 mm", "width=100 mm"), (25, 25, 25)),
    ],
)
def test_the_plate_has_all_cells_of_the_width(settings, shape):
    detector = load_detector("clic-ecal-25", settings)
    plate = plate_of(detector)
    assert plate.shower_shape == shape
    row, column = window_origin(plate, detector)
    # the window's cells are cells of the plate
    for axis, first, count in (("x", column, detector.mesh.nx), ("y", row, detector.mesh.ny)):
        edges, own = (getattr(d.mesh, f"{axis}_edges")() for d in (plate, detector))
        np.testing.assert_allclose(edges[first : first + count + 1], own)
        assert edges[-1] <= detector.width / 2


def test_plates_that_cannot_be_read_out():
    with pytest.raises(GeometryError, match="its mesh is cylindrical"):
        plate_of(load_detector("par04-siw"))
    with pytest.raises(GeometryError, match=r"at most 20000000 .4096 a row.*; reduce its width"):
        plate_of(load_detector("clic-ecal-25", ("width=50 m",)))


@settings(max_examples=50, deadline=None)
@given(st.floats(-40, 40), st.floats(-40, 40))
def test_a_shower_moves_with_its_particle(x, y):
    placement = Placement(plate_of(DETECTOR), DETECTOR)
    crossing = np.array([[x, y]])
    origins, rest = placement.shifts(crossing)
    assert (np.abs(rest) <= 2.5 + 1e-9).all()
    # what is moved and what is left make the impact point
    first = np.array(window_origin(placement.plate, DETECTOR))
    np.testing.assert_allclose((origins - first)[:, ::-1] * 5.0 + rest, crossing, atol=1e-9)
    shower = np.zeros((1, *DETECTOR.shower_shape), np.float32)
    shower[0, 7, 1, 2] = 3
    number, cell, energy = placement.place(shower, origins)
    layer, row, column = np.unravel_index(cell, placement.plate.shower_shape) if len(cell) else ([], [], [])
    inside = abs(x) < 27.5 and abs(y) < 27.5
    assert len(cell) == inside
    if inside:
        centres = placement.plate.mesh.x_centres()[column[0]], placement.plate.mesh.y_centres()[row[0]]
        # the central cell of the window is the one that the particle hits
        np.testing.assert_allclose(centres, [x, y], atol=2.5 + 1e-9)
        assert (number[0], layer[0], energy[0]) == (0, 7, 3)


def test_cells_outside_of_the_plate_are_leakage_and_do_not_come_back():
    placement = Placement(plate_of(DETECTOR), DETECTOR)
    showers = np.ones((4, *DETECTOR.shower_shape), np.float32)
    corners = [[25.0, 0.0], [-25.0, 0.0], [0.0, 25.0], [0.0, -26.0]]
    origins, _ = placement.shifts(np.array(corners))
    number, cell, energy = placement.place(showers, origins)
    # at the border 3 of 5 columns, or 2 of 3 rows, are left
    assert np.bincount(number, energy).tolist() == [25 * 9, 25 * 9, 25 * 10, 25 * 10]
    assert len(np.unique(number * 10**6 + cell)) == len(cell)
    _, row, column = np.unravel_index(cell, placement.plate.shower_shape)
    assert column[number == 0].min() == 8 and column[number == 1].max() == 2
    assert row[number == 2].min() == 9 and row[number == 3].max() == 1


def test_inclined_tracks_are_placed_where_they_cross_the_axis_layer():
    placement = Placement(plate_of(DETECTOR), DETECTOR)
    theta, phi = math.radians(80), math.radians(10)
    one = particle(1.0, -2.0, theta=theta, phi=phi)
    [[x, y]] = placement.crossings(np.array([one.position]), np.array([one.direction]))
    # the front of layer 10 is 55.5 mm deep
    assert x == pytest.approx(1 + 55.5 * math.tan(phi))
    assert y == pytest.approx(-2 + 55.5 / (math.tan(theta) * math.cos(phi)))
    assert angles(one.direction) == pytest.approx((theta, phi))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("mesh.cell_x=4 mm",), r"mesh.cell_x \(5 and 4\)"),
        (("mesh.nx=4",), r"mesh.nx \(5 and 4: odd and even\)"),
        (("layers.0.slabs.0.thickness=2 mm",), "in layers;"),
        (("mesh.layers_per_voxel=5",), r"mesh.layers_per_voxel \(1 and 5\)"),
    ],
)
def test_a_model_of_another_calorimeter(changes, words):
    other = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=3", "width=60 mm", *changes))
    with pytest.raises(ConfigError, match=f"toy: trained for the detector clic-ecal-25, which .*{words}"):
        check_same_calorimeter(other, DETECTOR, "toy")


def test_a_model_of_a_smaller_window_of_the_same_calorimeter():
    check_same_calorimeter(load_detector("clic-ecal-51"), load_detector("clic-ecal-25"), "toy")
    with pytest.raises(ConfigError, match="a model of a cylindrical mesh for a detector with a cartesian"):
        check_same_calorimeter(DETECTOR, load_detector("par04-siw"), "toy")


@pytest.mark.parametrize(
    ("changes", "route"),
    [
        ({}, "taken"),
        ({"pdg_id": 22}, "taken"),
        ({"pdg_id": -11}, "kind"),
        ({"pdg_id": 211}, "tracked"),
        ({"energy": 9e3}, "energy"),
        ({"energy": 1.2e5}, "energy"),
        ({"energy": 15e3}, "taken"),
        ({"theta": math.radians(89.1)}, "taken"),
        ({"theta": math.radians(88.9)}, "direction"),
        ({"phi": math.radians(-1.1)}, "direction"),
    ],
)
def test_acceptance(changes, route):
    one = particle(**changes)
    accepted = Acceptance.of(RANGES, FastSimConfig())
    assert accepted.reason(one.pdg_id, one.energy, one.theta, one.phi) == route


def test_a_threshold_and_an_acceptance_of_its_own():
    config = build(FastSimConfig, {"threshold": "20 GeV", "acceptance": "0 deg"}, "fast")
    accepted = Acceptance.of(RANGES, config)
    assert accepted.reason(11, 19e3, math.pi / 2, 0.0) == "energy"
    assert accepted.reason(11, 21e3, math.pi / 2, 0.0) == "taken"
    assert accepted.reason(11, 21e3, math.pi / 2, 1e-3) == "direction"
    with pytest.raises(ConfigError, match="trained up to 100 GeV, so that it would take no particle"):
        Acceptance.of(RANGES, build(FastSimConfig, {"threshold": "200 GeV"}, "fast"))
    with pytest.raises(ConfigError, match=r"trained on PDG 13; .* takes models of electrons"):
        Acceptance.of(RANGES.model_copy(update={"pdg_ids": (13,)}), FastSimConfig())


@pytest.mark.parametrize(
    ("document", "words"),
    [({"threshold": "0 GeV"}, "expected more than 0"), ({"acceptance": "30 deg"}, "0 deg to 20 deg")],
)
def test_settings_that_are_refused(document, words):
    with pytest.raises(ConfigError, match=words):
        build(FastSimConfig, document, "fast")


def test_a_model_of_corrected_energies_is_refused():
    stored = read_model("clic-electron")
    facts = stored.facts.model_copy(update={"energy_meaning": "sampling-fraction corrected"})
    with pytest.raises(ConfigError, match="model clic-electron: its energies are sampling-fraction correc"):
        check_model(replace(stored, facts=facts), stored.detector, FastSimConfig())


def test_showers_depend_on_particle_seed_and_number_alone():
    detector = load_detector("clic-ecal-25")
    model = FastModel(read_model("clic-electron"), detector, FastSimConfig())
    some = [particle(7.0 * i, -3.0 * i, event=i) for i in range(70)]
    numbers = [3 * i for i in range(70)]
    hits = model.hits(some, 5, numbers)
    alone = model.hits(some[66:67], 5, numbers[66:67])
    mine = hits.shower == 66
    np.testing.assert_array_equal(hits.cell[mine], alone.cell)
    np.testing.assert_allclose(hits.energy[mine], alone.energy, rtol=1e-5)
    assert not np.isin(model.hits(some[66:67], 5, [1]).energy, alone.energy).any()


def test_showers_are_those_of_the_model_moved_by_whole_cells():
    detector = load_detector("clic-ecal-25")
    model = FastModel(read_model("clic-electron"), detector, FastSimConfig())
    conditions = Conditions(
        np.full(1, 5e4, np.float32), np.full(1, np.pi / 2, np.float32), np.zeros(1, np.float32),
        np.full(1, 11, np.int32),
    )  # fmt: skip
    [own] = stream(read_model("clic-electron"), conditions, seed=5, plan=Plan("numba"))
    placed = model.hits([particle(50.0, -15.0)], 5, [0])
    layer, row, column = np.unravel_index(placed.cell, model.placement.plate.shower_shape)
    shower = np.zeros(detector.shower_shape, np.float32)
    row_of_axis, column_of_axis = window_origin(model.placement.plate, detector)
    shower[layer, row - row_of_axis + 3, column - column_of_axis - 10] = placed.energy
    np.testing.assert_allclose(shower, own.showers[0], rtol=1e-5)


def test_the_summary_names_what_was_lost():
    rows = np.zeros((2, len(COLUMNS)))
    routes = {"taken": (40e3, 3), "energy": (5e3, 7), "left": (5e3, 1)}
    values = {"primary": 50e3, "n_off_centre": 2, "generated": 800, "leaked": 80}
    for route, (energy, count) in routes.items():
        values |= {route: energy, f"n_{route}": count}
    for name, value in values.items():
        rows[:, COLUMN[name]] = value
    words = lines(summary(rows))
    assert words[:3] == [
        "  simulated by the model: 6 particles, 80 GeV (80 %)",
        "  given back to Geant4: energy below the threshold or outside of the trained range: 14 particles, "
        "10 GeV (10 %)",
        "  did not enter through the front face: 2 particles, 10 GeV (10 %)",
    ]
    assert words[3].startswith("  4 of those of the model entered a cell off its centre")
    assert words[4].startswith("  of the generated visible energy, 10 % lies outside of the plates")


def test_the_impact_point_in_a_cell_is_passed_to_models_that_know_it():
    detector = load_detector("clic-ecal-25")
    model = FastModel(read_model("clic-electron"), detector, FastSimConfig())
    asked = []

    def generate(conditions, noise):
        asked.append(conditions)
        return np.zeros((len(conditions), *detector.shower_shape), np.float32)

    model._generate = generate
    some = [particle(1.5, 0.0), particle(10.0, -6.0)]
    # one of central incidence
    assert model.hits(some, 1, [0, 1]).off_centre.tolist() == [True, True]
    assert not asked[-1].off_axis
    model._ranges = model._ranges.model_copy(update={"impact_x": (-2.5, 2.5), "impact_y": (-2.5, 2.5)})
    assert model.hits(some, 1, [0, 1]).off_centre.tolist() == [False, False]
    np.testing.assert_allclose(asked[-1].impact_x, [1.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(asked[-1].impact_y, [0.0, -1.0], atol=1e-6)

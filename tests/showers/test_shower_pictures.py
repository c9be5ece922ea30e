"""Pictures of showers: what they show is what the showers hold, and every text can be read."""

import numpy as np
import pytest
from small_showers import make_batch, make_detector, write

from caloforge.errors import DataError
from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.showers.pictures import energy_overview, mean_shower, side_by_side, single_shower
from caloforge.showers.projections import views
from caloforge.showers.summary import scan_showers


def test_every_projection_holds_the_energy_of_its_layers(any_detector):
    shower, mesh = make_batch(any_detector, 1).showers[0], any_detector.mesh
    total, sums = shower.sum(dtype=np.float64), []
    for index, view in enumerate(views(any_detector)):
        image = view.image(shower)
        rows, columns = image.shape
        assert view.edges_x.shape in {(columns + 1,), (rows + 1, columns + 1)}
        assert view.edges_y.shape in {(rows + 1,), (rows + 1, columns + 1)}
        sectors = rows
        if mesh.kind == "ragged":
            sectors = mesh.layers[index].nphi
        elif mesh.kind == "cylindrical" and view.title == "front":
            sectors = mesh.nphi
        # a sector is cut into pieces that look round, and each repeats the energy of its voxel
        sums.append(image.sum() / (rows / sectors))
    whole = [total] if mesh.kind == "ragged" else [total] * 3
    assert ([sum(sums)] if mesh.kind == "ragged" else sums) == pytest.approx(whole)


def test_a_cell_appears_where_it_is():
    detector = make_detector()
    shower = np.zeros(detector.shower_shape)
    shower[4, 3, 1] = 2.0  # layer 4; x from -5 to 0 mm, y from 2.5 to 7.5 mm
    for view, (x, y) in zip(views(detector), [(4, 5.0), (-2.5, 5.0), (4, -2.5)], strict=True):
        row, column = np.argwhere(view.image(shower))[0]
        assert (view.edges_x[column] + view.edges_x[column + 1]) / 2 == pytest.approx(x), view.title
        assert (view.edges_y[row] + view.edges_y[row + 1]) / 2 == pytest.approx(y), view.title


def test_a_sector_appears_where_it_is():
    detector = make_detector("cylindrical")
    shower = np.zeros(detector.shower_shape)
    shower[4, 3, 1] = 2.0  # r from 5 to 10 mm; phi from 36 to 108 deg
    front = views(detector)[1]
    rows, columns = np.nonzero(front.image(shower))
    assert set(columns) == {1}
    corners = np.arctan2(front.edges_y[rows, 1], front.edges_x[rows, 1])
    assert np.degrees(corners).min() == pytest.approx(36)
    assert np.hypot(front.edges_x[rows[0], 2], front.edges_y[rows[0], 2]) == pytest.approx(10)


def test_texts_can_be_read(any_detector, assert_readable):
    batch = make_batch(any_detector, 30)
    texts = assert_readable(single_shower(batch, 3, any_detector))
    assert any("GeV" in text and "visible" in text and "hits" in text for text in texts)
    texts = assert_readable(mean_shower(batch, any_detector))
    assert any(f"{any_detector.name}: mean of 30 showers" in text for text in texts)
    texts = assert_readable(side_by_side(batch[:1], batch[1:2], any_detector, ("Geant4", "3DGAN")))
    assert {"Geant4", "3DGAN"} <= set(texts)


@pytest.mark.parametrize("energies", ["flat", "listed", "single", "log"])
def test_the_energies_of_a_file(tmp_path, energies, assert_readable):
    detector, batch = make_detector(), make_batch(make_detector(), 60)
    old = batch.incident_energy.copy()
    u = np.random.default_rng(2).random(60)
    kinds = {"listed": np.repeat([1e4, 5e4, 1e5], 20), "single": np.full(60, 1e4), "log": 10 * 1e5**u}
    batch.incident_energy = kinds.get(energies, old).astype(np.float32)
    batch.showers *= (batch.incident_energy / old)[:, None, None, None]
    path = write(tmp_path / f"{energies}.h5", detector, batch)
    texts = assert_readable(energy_overview(path))
    assert f"{energies}.h5: 60 showers" in texts
    assert len(energy_overview(path, scan_showers(path)).axes) == 3


def test_showers_without_energy_can_be_drawn(any_detector):
    batch = make_batch(any_detector, 3)
    batch.showers[:] = 0
    for figure in (
        single_shower(batch, 0, any_detector),
        mean_shower(batch, any_detector),
        side_by_side(batch[:1], batch[1:2], any_detector, ("a", "b")),
    ):
        figure.canvas.draw()


def test_both_sides_share_one_scale():
    detector, batch = make_detector(), make_batch(make_detector(), 2)
    figure = side_by_side(batch[:1], batch[1:], detector, ("a", "b"))
    scales = [(mesh.norm.vmin, mesh.norm.vmax) for axes in figure.axes[:4] for mesh in axes.collections]
    assert len(scales) == 4
    assert len(set(scales)) == 1
    want = max(view.image(shower).max() for view in views(detector)[:2] for shower in batch.showers)
    assert scales[0][1] == pytest.approx(want)


def test_wrong_showers_are_refused(any_detector):
    batch = make_batch(any_detector, 3)
    with pytest.raises(DataError, match="shower 3 was asked for, there are 3"):
        single_shower(batch, 3, any_detector)
    batch.showers = batch.showers[..., 1:]
    for draw in (lambda: single_shower(batch, 0, any_detector), lambda: mean_shower(batch, any_detector)):
        with pytest.raises(DataError, match=f"the shape of {any_detector.name}"):
            draw()


def test_real_showers(electrons, assert_readable):
    with ShowerFile(electrons) as file:
        batch, detector = file.read(0, 40), file.detector
    assert_readable(mean_shower(batch, detector))


def filled(detector, n=20):
    """Showers without an empty voxel."""
    rng = np.random.default_rng(1)
    energy = rng.uniform(1e3, 1e5, n).astype(np.float32)
    cells = rng.uniform(0.1, 1, (n, *detector.shower_shape)).astype(np.float32)
    full = np.full(n, np.pi / 2, np.float32)
    return ShowerBatch(cells, energy, full, 0 * full, np.full(n, 11, np.int32), 0 * full + 1)


def test_one_layer_and_one_cell_have_no_profiles(tmp_path, assert_readable):
    """No empty axes: what has one bin is left out."""
    slab = {"material": "G4_PbWO4", "thickness": "23 cm", "active": True}
    mesh = {"kind": "cartesian", "nx": 5, "ny": 5, "cell_x": "22 mm", "cell_y": "22 mm"}
    tower = {"nx": 1, "ny": 1}
    titles = {"crystal": ["front", "mean transverse profile"], "tower": ["front"]}
    for name, layers, cells in (("crystal", 1, {}), ("tower", 1, tower), ("towers", 4, tower)):
        document = {"name": name, "layers": [{"slabs": [slab], "repeat": layers}], "mesh": mesh | cells}
        detector = load_detector(document)
        batch = filled(detector)
        path = write(tmp_path / f"{name}.h5", detector, batch)
        figures = [mean_shower(batch, detector), single_shower(batch, 0, detector), energy_overview(path)]
        figures.append(side_by_side(batch[:1], batch[1:2], detector, ("A", "B")))
        for figure in figures:
            assert_readable(figure)
            for axes in figure.axes:
                assert axes.patches or axes.lines or axes.collections, axes.get_title(loc="left")
        found = [axes.get_title(loc="left") for axes in figures[0].axes if axes.get_title(loc="left")]
        if layers == 1:
            assert found == titles[name]
            assert len(figures[2].axes) == 2
        else:
            assert found == ["side", "front", "top", "mean energy of a layer; band: RMS over the showers"]


def test_layers_are_whole_bins_with_whole_numbers(assert_readable):
    detector = load_detector("clic-ecal-25", ("layers.0.repeat=2", "layers.1.repeat=1", "axis_layer=0"))
    figure = mean_shower(make_batch(detector, 5), detector)
    texts = assert_readable(figure)
    (profile,) = [a for a in figure.axes if a.get_title(loc="left").startswith("mean energy of a layer")]
    assert profile.get_xlim() == (-0.5, 2.5)
    assert profile.get_xlabel() == "layer"
    for axes in figure.axes:
        if axes.get_xlabel() == "layer":
            assert all(tick == int(tick) for tick in axes.get_xticks())
    assert "0.5" not in texts

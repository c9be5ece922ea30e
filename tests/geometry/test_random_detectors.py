"""Random detectors: drawn by number, the same everywhere, and changed like a preset."""

import numpy as np
import pytest

from caloforge.errors import ConfigError, GeometryError
from caloforge.geometry import load_detector
from caloforge.geometry.random_detectors import DEPTH, LAYER
from caloforge.run import load_run


def test_a_number_means_the_same_detector_on_every_machine():
    detector = load_detector({"random": 7})
    [layer] = detector.layers
    assert [slab.material for slab in layer.slabs] == ["G4_W", "G4_Si", "G4_AIR"]
    assert [slab.thickness for slab in layer.slabs] == [1.31, 0.3698, 1.654]
    assert (detector.name, layer.repeat, detector.mesh.cell_x) == ("random-7", 89, 2.771)


def test_the_family_is_what_it_says():
    family = [load_detector({"random": number}) for number in range(60)]
    pairs = {tuple(slab.material for slab in detector.layers[0].slabs[:2]) for detector in family}
    assert len(pairs) > 8
    assert len({detector.geometry_digest for detector in family}) == 60
    for detector in family:
        spacing = detector.radiation_lengths / detector.n_layers
        assert LAYER[0] * 0.99 < spacing < LAYER[1] * 1.2
        assert abs(detector.radiation_lengths - np.mean(DEPTH)) < np.ptp(DEPTH) / 2 + spacing
        # cells of an eighth of the Molière radius, four of these radii to either side
        assert detector.mesh.half_extent() / detector.moliere_radius == pytest.approx(4, abs=0.01)


def test_it_can_be_changed_and_chosen_for_any_recipe():
    run = load_run("par04-siw-electron", ["detector={random: 3}", "detector.mesh.nx=32"])
    assert (run.detector.name, run.detector.mesh.nx, run.detector.mesh.ny) == ("random-3", 32, 64)
    again = load_run("par04-siw-electron", ["detector={random: 3}", "detector.random=4"])
    assert again.detector == load_detector({"random": 4})


@pytest.mark.parametrize("number", ["x", -1, 1.5, True, None, 2**63])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(GeometryError, match=r"random: got .*, expected a whole number from 0"):
        load_detector({"random": number})


def test_a_random_preset_is_refused():
    with pytest.raises(ConfigError, match=r"got preset and random; give one of them"):
        load_run("par04-siw-electron", ["detector.random=3"])

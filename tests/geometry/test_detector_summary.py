"""The facts of a detector."""

import json

import numpy as np
import pytest

from caloforge.geometry import load_detector, preset_names
from caloforge.geometry.summary import describe_detector, longitudinal_containment, mean_profile


@pytest.mark.parametrize("name", preset_names())
def test_facts_of_the_presets_are_json_and_agree_with_the_detector(name):
    detector = load_detector(name)
    facts = describe_detector(detector)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["depth_mm"] == pytest.approx(detector.depth)
    assert facts["layers"] == {**facts["layers"], "physical": detector.n_physical_layers}
    assert facts["shower_shape"] == list(detector.shower_shape)
    assert facts["voxels"] == np.prod(detector.shower_shape)
    assert set(facts["materials"]) == set(detector.material_map())


def test_sampling_fraction_of_par04():
    # PDG densities and minimum ionisation: 0.3 mm x 2.329 x 1.664 over that and 1.4 mm x 19.3 x 1.145
    silicon, tungsten = 0.3 * 2.329 * 1.664, 1.4 * 19.3 * 1.145
    facts = describe_detector(load_detector("par04-siw"))["sampling"]
    assert facts["mip_sampling_fraction"] == pytest.approx(silicon / (silicon + tungsten), rel=0.025)
    assert facts["active_share_of_depth"] == pytest.approx(0.3 / 1.7)
    assert facts["radiation_lengths_per_layer"]["min"] == pytest.approx(0.4027, rel=0.002)


def test_a_homogeneous_block_samples_everything(document):
    block = [{"slabs": [{"material": "G4_PbWO4", "thickness": "230 mm", "active": True}]}]
    facts = describe_detector(load_detector({**document, "layers": block}))
    assert facts["sampling"]["mip_sampling_fraction"] == 1
    # CMS: 230 mm are 25.8 radiation lengths, the Molière radius is 22 mm by measurement, 19.6 mm in the PDG
    assert facts["depth_radiation_lengths"] == pytest.approx(25.8, rel=0.01)
    assert facts["moliere_radius_mm"] == pytest.approx(19.6, rel=0.04)


def test_a_detector_without_layers_has_only_its_mesh():
    mesh = {"kind": "ragged", "layers": [{"id": 0, "r_edges": ["0 mm", "5 mm"], "nphi": 4}]}
    facts = describe_detector(load_detector({"name": "r", "mesh": mesh}))
    assert facts["mesh"] == {"kind": "ragged", "cells_of_a_layer": "4 phi x 1 r", "half_extent_mm": 5.0}
    assert "materials" not in facts
    assert "depth_mm" not in facts


@pytest.mark.parametrize("energy", [1e3, 1e4, 1e5])
def test_the_mean_profile_is_the_gamma_distribution_of_the_pdg(energy):
    depth, critical = np.linspace(0, 200, 200_001), 8.0
    profile = mean_profile(depth, energy, critical)
    assert profile.sum() * 0.001 == pytest.approx(1, rel=1e-3)
    # PDG: the maximum of electron showers lies at ln(E / E_c) - 0.5
    assert depth[profile.argmax()] == pytest.approx(np.log(energy / critical) - 0.5, abs=0.01)
    inside = profile[depth <= 15].sum() * 0.001
    assert longitudinal_containment(15, energy, critical) == pytest.approx(inside, rel=1e-3)


def test_energies_below_the_critical_one_do_not_break_it():
    assert 0 < longitudinal_containment(1, 1.0, 8.0) < 1
    assert np.isfinite(mean_profile(np.array([0.0, 1.0]), 1.0, 8.0)).all()

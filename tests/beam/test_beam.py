"""The beam: its limits, its errors, and showers that do not depend on how a campaign is split."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from caloforge.beam import PARTICLES, BeamConfig, beam_from_text, sample_conditions
from caloforge.config import build
from caloforge.errors import ConfigError
from caloforge.geometry import CartesianMesh, CylindricalMesh

FIELDS = ("energy", "theta", "phi", "pdg_id", "impact_x", "impact_y")
MESH = CartesianMesh(nx=5, ny=5, cell_x="5 mm", cell_y="4 mm")
WIDE = {
    "energy": {"kind": "log-flat", "min": "1 GeV", "max": "100 GeV"},
    "theta": {"kind": "flat", "min": "60 deg", "max": "120 deg"},
    "phi": {"kind": "flat", "min": "-10 deg", "max": "20 deg"},
    "impact": "cell",
}


def beam(**changes) -> BeamConfig:
    return build(BeamConfig, {"energy": {"kind": "fixed", "value": "10 GeV"}, **changes}, "run.yaml")


def uniformity(u):
    """Largest distance of a distribution from the uniform one, times the root of N (Kolmogorov)."""
    u = np.sort(u)
    steps = np.arange(len(u) + 1) / len(u)
    return max(np.abs(u - steps[:-1]).max(), np.abs(u - steps[1:]).max()) * len(u) ** 0.5


@pytest.mark.parametrize("cuts", [[0, 1, 2, 1000], [0, 333, 334, 1000], [0, 256, 512, 1000]])
def test_same_showers_whatever_the_split(cuts):
    config = beam(**WIDE)
    whole = sample_conditions(config, MESH, 7, 0, 1000)
    parts = [sample_conditions(config, MESH, 7, a, b) for a, b in pairwise(cuts)]
    for name in FIELDS:
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name))


def test_first_showers_of_a_seed_never_change():
    # a change of these numbers changes what every recorded seed means
    energy = sample_conditions(beam(**WIDE), MESH, 3, 0, 3).energy
    np.testing.assert_allclose(energy, [14644.702, 4767.3413, 10288.845], rtol=1e-6)


def test_seed_changes_all():
    a, b = (sample_conditions(beam(**WIDE), MESH, seed, 0, 100) for seed in (1, 2))
    assert not np.any(a.energy == b.energy)
    assert not np.any(a.impact_x == b.impact_x)


def test_choice_of_energy_leaves_the_angles_alone():
    fixed = beam(**{**WIDE, "energy": {"kind": "fixed", "value": "5 GeV"}})
    a, b = sample_conditions(beam(**WIDE), MESH, 1, 0, 50), sample_conditions(fixed, MESH, 1, 0, 50)
    np.testing.assert_array_equal(a.theta, b.theta)


def test_types_and_empty():
    drawn = sample_conditions(beam(**WIDE), MESH, 0, 5, 5)
    assert len(drawn) == 0
    assert all(getattr(drawn, name).shape == (0,) for name in FIELDS)
    dtypes = {name: getattr(drawn, name).dtype for name in FIELDS}
    assert dtypes.pop("pdg_id") == np.int32
    assert set(dtypes.values()) == {np.dtype(np.float32)}


def test_log_flat_and_flat_are_uniform_and_independent():
    n = 20_000
    drawn = sample_conditions(beam(**WIDE), MESH, 11, 0, n)
    uniform = {
        "energy": np.log(drawn.energy / 1e3) / math.log(100),
        "theta": (drawn.theta - math.radians(60)) / math.radians(60),
        "phi": (drawn.phi + math.radians(10)) / math.radians(30),
        "impact_x": drawn.impact_x / 5 + 0.5,
        "impact_y": drawn.impact_y / 4 + 0.5,
    }
    for name, u in uniform.items():
        assert u.min() > -1e-6, name
        assert u.max() < 1 + 1e-6, name
        # 1.95: Kolmogorov's probability is 0.001
        assert uniformity(u.astype(np.float64)) < 1.95, name
    correlation = np.corrcoef(np.array(list(uniform.values())))
    assert np.abs(correlation - np.eye(5)).max() < 4.5 / n**0.5


def test_flat_energy():
    drawn = sample_conditions(
        beam(energy={"kind": "flat", "min": "10 GeV", "max": "500 GeV"}), MESH, 2, 0, 20_000
    )
    assert uniformity((drawn.energy.astype(np.float64) - 1e4) / 4.9e5) < 1.95


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
def test_mixed_energies(fraction):
    energy = {"kind": "mixed", "min": "1 GeV", "max": "500 GeV", "log_fraction": fraction}
    drawn = sample_conditions(beam(energy=energy), MESH, 2, 0, 20_000).energy.astype(np.float64)
    assert drawn.min() >= 1e3 and drawn.max() <= 5e5
    # the distribution function of the mixture makes them uniform
    u = fraction * np.log(drawn / 1e3) / math.log(500) + (1 - fraction) * (drawn - 1e3) / 4.99e5
    assert uniformity(u) < 1.95
    # the order of the uniform numbers is kept, as for the other kinds
    choice = beam(energy=energy).energy
    ends = choice.quantile(np.array([0.0, 0.3, 0.31, 1 - 1e-12]))
    assert (np.diff(ends) > 0).all()
    assert ends[[0, -1]] == pytest.approx([1e3, 5e5], rel=1e-6)


def test_a_mixture_has_low_and_high_energies():
    energy = {"kind": "mixed", "min": "1 GeV", "max": "500 GeV"}
    drawn = sample_conditions(beam(energy=energy), MESH, 2, 0, 10_000).energy
    # half of the log-flat share, which is 48 % below 20 GeV, and half of 4 %
    assert (drawn < 2e4).mean() == pytest.approx(0.26, abs=0.02)
    assert (drawn > 2.5e5).mean() == pytest.approx(0.306, abs=0.02)


def test_listed_energies_are_equally_likely():
    values = ["10 GeV", "50 GeV", "500 GeV"]
    drawn = sample_conditions(beam(energy={"kind": "list", "values": values}), MESH, 2, 0, 30_000)
    energies, counts = np.unique(drawn.energy, return_counts=True)
    np.testing.assert_array_equal(energies, [1e4, 5e4, 5e5])
    assert np.abs(counts - 10_000).max() < 4.5 * (30_000 * 2 / 9) ** 0.5


def test_defaults_are_orthogonal_electrons_at_the_centre():
    drawn = sample_conditions(beam(), MESH, 0, 0, 4)
    np.testing.assert_array_equal(drawn.energy, np.float32(1e4))
    np.testing.assert_array_equal(drawn.theta, np.float32(math.pi / 2))
    np.testing.assert_array_equal(drawn.phi, 0)
    np.testing.assert_array_equal(drawn.pdg_id, 11)
    np.testing.assert_array_equal(drawn.impact_x, 0)
    np.testing.assert_array_equal(drawn.impact_y, 0)


def test_impacts_lie_in_a_cell_of_a_cartesian_mesh_alone():
    rings = CylindricalMesh(kind="cylindrical", nr=3, nphi=4, cell_r="5 mm")
    drawn = sample_conditions(beam(**WIDE), rings, 0, 0, 10)
    assert not drawn.off_axis
    # the 4 mm of y and the 5 mm of x, and the seed decides where
    drawn = sample_conditions(beam(**WIDE), MESH, 3, 0, 1000)
    assert drawn.off_axis
    assert 2.45 < drawn.impact_x.max() <= 2.5
    assert -2.0 <= drawn.impact_y.min() < -1.95
    np.testing.assert_allclose(drawn.impact_x[:2], [0.0, 0.0], atol=2.5)


@pytest.mark.parametrize("name", PARTICLES)
def test_particle_numbers_agree_with_the_pdg(name):
    from particle import Particle

    assert Particle.from_pdgid(beam(particle=name).pdg_id).name == name


def test_limits_and_round_trip():
    config = beam(**WIDE)
    assert config.energy_range == (1e3, 1e5)
    assert config.theta_range == pytest.approx((math.pi / 3, 2 * math.pi / 3))
    assert config.phi_range == pytest.approx((-math.pi / 18, math.pi / 9))
    assert build(BeamConfig, config.model_dump(mode="json"), "dump") == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"particle": "e"}, ["beam.particle", "Did you mean 'e-'?"]),
        ({"energy": {"kind": "fixed", "value": "-1 GeV"}}, ["energy", "greater than 0"]),
        ({"energy": {"kind": "fixed", "value": "0 GeV"}}, ["energy", "greater than 0"]),
        ({"energy": {"kind": "fixed", "value": 10}}, ["without a unit", "10 GeV"]),
        ({"energy": {"kind": "flat", "min": "5 GeV", "max": "5 GeV"}}, ["min below max", "kind: fixed"]),
        ({"energy": {"kind": "flat", "min": "0 GeV", "max": "5 GeV"}}, ["greater than 0"]),
        ({"energy": {"kind": "log-flat", "min": "5 GeV", "max": "1 GeV"}}, ["min below max"]),
        ({"energy": {"kind": "flat", "min": "1 GeV", "maxx": "5 GeV"}}, ["maxx", "Did you mean 'max'?"]),
        ({"energy": {"kind": "list", "values": []}}, ["values"]),
        ({"energy": {"kind": "gaussian"}}, ["fixed, flat, list, log-flat, mixed"]),
        ({"theta": {"kind": "fixed", "value": "0 deg"}}, ["theta", "0 deg and 180 deg"]),
        ({"theta": {"kind": "flat", "min": "90 deg", "max": "180 deg"}}, ["theta", "0 deg and 180 deg"]),
        ({"phi": {"kind": "fixed", "value": "90 deg"}}, ["phi", "-90 deg and 90 deg"]),
        ({"impact": "edge"}, ["impact", "'centre' or 'cell'"]),
    ],
)
def test_errors_teach(changes, words):
    document = {"energy": {"kind": "fixed", "value": "10 GeV"}, **changes}
    with pytest.raises(ConfigError) as caught:
        build(BeamConfig, document, "beam")
    message = str(caught.value).replace("beam › ", "beam.")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("seed", "start", "stop"), [(-1, 0, 1), (2**64, 0, 1), (0, -1, 1), (0, 2, 1)])
def test_unusable_seeds_and_ranges(seed, start, stop):
    with pytest.raises(ConfigError, match="expected"):
        sample_conditions(beam(), MESH, seed, start, stop)


RANGES = SimpleNamespace(
    energy=(1e4, 5e5), theta=(1.0, 2.0), phi=(0, 0), impact_x=(0, 0), impact_y=(0, 0), pdg_ids=(22,)
)


def test_text_takes_what_is_missing_from_the_model():
    config = beam_from_text(RANGES)
    assert config.energy.kind == "flat"
    assert config.energy_range == RANGES.energy
    assert config.particle == "gamma"
    assert config.impact == "centre"
    assert config.theta_range == (math.pi / 2, math.pi / 2)
    off_axis = SimpleNamespace(**{**vars(RANGES), "impact_x": (-2.5, 2.5)})
    assert beam_from_text(off_axis).impact == "cell"
    assert beam_from_text(off_axis, impact="centre").impact == "centre"
    single = SimpleNamespace(**{**vars(RANGES), "energy": (1e4, 1e4)})
    assert beam_from_text(single).energy.kind == "fixed"


def test_angles_outside_of_the_trained_range_are_not_the_default():
    endcap = SimpleNamespace(**{**vars(RANGES), "theta": (0.96, 1.27), "phi": (0.1, 0.1)})
    config = beam_from_text(endcap)
    assert config.theta_range == pytest.approx(endcap.theta)
    assert config.phi_range == pytest.approx(endcap.phi)
    # float32 conditions do not quite reach 90 deg
    rounded = SimpleNamespace(**{**vars(RANGES), "theta": (1.0, 1.57079)})
    assert beam_from_text(rounded).theta_range == (math.pi / 2, math.pi / 2)


def test_text_is_read():
    config = beam_from_text(
        RANGES, energy="10 GeV:20 GeV", theta="60 deg : 90 deg", phi="5 deg", particle="e+"
    )
    assert config.energy_range == (1e4, 2e4)
    assert config.theta_range == pytest.approx((math.pi / 3, math.pi / 2))
    assert config.phi_range == pytest.approx((math.pi / 36,) * 2)
    assert config.pdg_id == -11


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"energy": "10"}, ["--energy", "without a unit"]),
        ({"energy": "1e5"}, ["--energy", "without a unit"]),
        ({"energy": "1 GeV:2 GeV:3 GeV"}, ["--energy", "LOW:HIGH"]),
        ({"energy": "1 GeV:"}, ["--energy"]),
        ({"energy": "2 GeV:1 GeV"}, ["min below max"]),
        ({"theta": "90 GeV"}, ["--theta", "angle"]),
        ({"particle": "gama"}, ["Did you mean 'gamma'?"]),
    ],
)
def test_text_errors(options, words):
    with pytest.raises(ConfigError) as caught:
        beam_from_text(RANGES, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_particle_must_be_named_where_the_model_knows_several():
    several = SimpleNamespace(**{**vars(RANGES), "pdg_ids": (11, 22)})
    with pytest.raises(ConfigError, match=r"trained on e-, gamma; give --particle"):
        beam_from_text(several)

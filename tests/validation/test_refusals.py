"""What `validate` refuses to compare, and what it says."""

import numpy as np
import pytest
import toy_showers

from caloforge.conditions import Conditions
from caloforge.errors import ConfigError, DataError, OutputError
from caloforge.geometry import load_detector
from caloforge.validation import validate_files
from caloforge.validation.compatibility import compare_spectra, thin_to
from caloforge.validation.inputs import admit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("showers")


@pytest.fixture(scope="module")
def truth(folder):
    return toy_showers.write(folder / "truth.h5", toy_showers.batch(300, 1))


def conditions(batch):
    return Conditions(
        batch.incident_energy.astype(float),
        batch.incident_theta.astype(float),
        batch.incident_phi.astype(float),
        batch.pdg_id,
    )


def test_another_mesh(truth, folder):
    other = toy_showers.write(folder / "r.h5", toy_showers.batch(200, 2, "cylindrical"), "cylindrical")
    with pytest.raises(DataError, match=r"its mesh is cylindrical .* cartesian \(25, 7, 7\)"):
        admit(truth, [other])


def test_another_material(truth, folder):
    other = load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=7", "layers.0.slabs.0.material=G4_Pb"))
    path = toy_showers.write(folder / "lead.h5", toy_showers.batch(200, 2), detector=other)
    with pytest.raises(DataError, match="other layers or materials"):
        admit(truth, [path])


def test_another_meaning_of_energy(truth, folder):
    path = toy_showers.write(
        folder / "corrected.h5", toy_showers.batch(300, 2), energy_meaning="sampling-fraction corrected"
    )
    with pytest.raises(DataError, match="one meaning"):
        admit(truth, [path])


def test_another_particle(truth, folder):
    batch = toy_showers.batch(300, 2)
    batch.pdg_id[:] = 22
    with pytest.raises(DataError, match=r"showers of gamma, the truth .* has e-"):
        admit(truth, [toy_showers.write(folder / "gamma.h5", batch)])


def test_too_few_showers(truth, folder):
    path = toy_showers.write(folder / "few.h5", toy_showers.batch(99, 2))
    with pytest.raises(DataError, match="got 99 showers, expected at least 100"):
        admit(truth, [path])


def test_gev_in_place_of_mev(truth, folder, tmp_path):
    batch = toy_showers.batch(300, 1)
    batch.showers /= np.float32(1000)
    path = toy_showers.write(folder / "gev.h5", batch)
    with pytest.raises(DataError, match="are its voxels in MeV"):
        validate_files(truth, [path], tmp_path / "out", classifier=False, pdf=False)
    assert not (tmp_path / "out").exists()


def displaced(n, seed, low=-2.5, high=2.5):
    """n toy showers whose recorded impact points (mm) are random: the voxels stay on the axis."""
    batch = toy_showers.batch(n, seed)
    rng = np.random.default_rng(seed)
    batch.impact_x, batch.impact_y = rng.uniform(low, high, (2, n)).astype(np.float32)
    return batch


def test_other_impact_points_are_refused_or_thinned(truth, folder, tmp_path):
    wide = toy_showers.write(folder / "cell.h5", displaced(1500, 2))
    with pytest.raises(DataError, match=r"incident impact_x .* and impact_y .* --like TRUTH"):
        admit(truth, [wide])
    with pytest.raises(DataError, match="incident conditions that this sample lacks"):
        admit(truth, [wide], reweight=True)
    part = toy_showers.write(folder / "part.h5", displaced(300, 3, 0, 2.5))
    kept = admit(part, [wide], reweight=True, seed=1).files[1].taken
    assert kept.impact_x.min() > -0.1 and len(kept) > 100


def test_the_position_is_judged_where_there_are_impact_points(folder, tmp_path):
    truth = toy_showers.write(folder / "one.h5", displaced(400, 2))
    other = toy_showers.write(folder / "two.h5", displaced(400, 3))
    result = validate_files(truth, [other], tmp_path / "out", classifier=False, pdf=False)
    observables = result.metrics["generators"]["two"]["observables"]
    assert {"impact_residual_x", "impact_residual_y"} <= set(observables)
    assert result.metrics["truth"]["impact_x_mm"][0] < -2.4


def test_another_spectrum_is_refused_or_thinned(truth, folder, tmp_path):
    batch = toy_showers.batch(3000, 2, low=10e3, high=200e3)
    path = toy_showers.write(folder / "wide.h5", batch)
    with pytest.raises(DataError, match=r"energy .KS probability .* --like TRUTH.* --reweight"):
        admit(truth, [path])
    admitted = admit(truth, [path], reweight=True, seed=1)
    kept = admitted.files[1].taken
    # uniform on 10 to 200, wanted on 10 to 100 GeV: about 47 % can stay, less the acceptance of noisy bins
    assert 0.2 * 3000 < len(kept) < 0.5 * 3000
    assert kept.energy.max() <= conditions(toy_showers.batch(300, 1)).energy.max()
    assert compare_spectra(admitted.files[0].taken, kept).agree
    assert f"{len(kept)} of 3000 showers are used" in admitted.notes()[0]


def test_thinning_follows_the_truth():
    """Of a flat sample, a falling spectrum is kept; the share in each bin follows the truth."""
    rng = np.random.default_rng(3)
    energies = np.sqrt(rng.uniform(0, 1, 4000)) * 1e5, rng.uniform(0, 1e5, 20_000)
    one, other = (
        Conditions(e, np.full(len(e), 1.5), np.zeros(len(e)), np.full(len(e), 11, np.int32)) for e in energies
    )
    kept = other[thin_to(one, other, "x.h5", seed=1)]
    edges = np.linspace(0, 1e5, 6)
    shares = [np.histogram(c.energy, edges)[0] / len(c) for c in (one, kept)]
    np.testing.assert_allclose(*shares, atol=0.015)


def test_a_spectrum_with_holes_cannot_be_reweighted(truth, folder):
    path = toy_showers.write(folder / "half.h5", toy_showers.batch(1000, 2, low=60e3, high=100e3))
    with pytest.raises(
        DataError, match=r"of the truth's showers have incident conditions that this sample lacks"
    ):
        admit(truth, [path], reweight=True)


def test_equal_conditions_agree_even_when_listed():
    energies = np.repeat([1e4, 2e4], 200)
    c = Conditions(energies, np.full(400, 1.5), np.zeros(400), np.full(400, 11, np.int32))
    assert compare_spectra(c, c).agree


def test_values_that_are_not_finite(truth, folder, tmp_path):
    import h5py

    path = toy_showers.write(folder / "nan.h5", toy_showers.batch(300, 1))
    with h5py.File(path, "r+") as file:
        file["showers"][7, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="shower 7 holds NaN"):
        validate_files(truth, [path], tmp_path / "out", classifier=False, pdf=False)


def test_an_output_that_is_no_report_is_never_replaced(truth, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="holds no report"):
        validate_files(truth, [truth], tmp_path / "out", force=True)
    with pytest.raises(OutputError, match="--force"):
        validate_files(truth, [truth], tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"neural": ["hihg"]}, "high"), ({"protocol": "calochalenge"}, "calochallenge")],
)
def test_misspelt_requests_name_the_nearest(truth, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        validate_files(truth, [truth], tmp_path / "out", **options)


def test_nothing_to_judge(truth, tmp_path):
    with pytest.raises(ConfigError, match="no generated sample"):
        validate_files(truth, [], tmp_path / "out")

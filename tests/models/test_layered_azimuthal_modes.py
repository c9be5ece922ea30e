"""Coupling of azimuthal modes between radial bins and along the depth."""

import math

import numpy as np
import pytest
import torch

from caloforge.geometry import load_detector
from caloforge.models.layered.azimuthal_modes import SCALE, AzimuthalCoupling
from caloforge.models.layered.constants import LAYER_DECAYS
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.training_metadata import TrainedRange

LAYERS, RADIAL_BINS = 5, (0, 1, 2, 3)
DIPOLE, QUADRUPOLE = 0, 1


@pytest.fixture
def geometry():
    ranges = TrainedRange(energy=(1e4, 5e5), theta=(math.pi / 2,) * 2, phi=(0.0, 0.0), pdg_ids=(11,))
    return layer_geometry(load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9")), ranges, RADIAL_BINS)


@pytest.fixture
def coupling(geometry):
    return AzimuthalCoupling(LAYERS, geometry).requires_grad_(False)


def residuals_of(geometry, layer, cells):
    """Of one shower: 1 in some cells of a layer, by their columns and rows from the axis."""
    residuals = torch.zeros(1, LAYERS, geometry.rows, geometry.columns)
    for x, y in cells:
        residuals[0, layer, geometry.rows // 2 + y, geometry.columns // 2 + x] = 1
    return residuals.flatten(2)


@pytest.mark.parametrize("source", [1, 2])
def test_modes_come_in_from_layers_in_front_and_decay(geometry, coupling, source):
    coupling.mode_coupling[source, QUADRUPOLE, 2, 1] = 1.0
    shift = coupling(residuals_of(geometry, 1, [(1, 0), (-1, 0)]))[0]
    assert (shift[:2] == 0).all()
    assert (shift[2].abs() > 0).any()
    assert shift[3] == pytest.approx(LAYER_DECAYS[source - 1] * shift[2])
    # nothing but the radial bin that is coupled
    assert (shift[:, geometry.radial_bin != 2] == 0).all()


def test_a_quadrupole_shifts_energies_up_along_it_and_down_across_it(geometry, coupling):
    coupling.mode_coupling[0, QUADRUPOLE, 2, 1] = 1.0
    shift = coupling(residuals_of(geometry, 0, [(1, 0), (-1, 0)])).view(
        LAYERS, geometry.rows, geometry.columns
    )
    row = column = geometry.rows // 2
    # two of four cells on the axes; the modes of 16 cells have the square sum 4 + 8 * (3 / 5)^2
    amplitude = SCALE * 2 / math.sqrt(4) / math.sqrt(4 + 8 * 0.36)
    assert float(shift[0, row, column + 2]) == pytest.approx(amplitude, rel=1e-5)
    assert float(shift[0, row, column - 2]) == pytest.approx(amplitude, rel=1e-5)
    assert float(shift[0, row + 2, column]) == pytest.approx(-amplitude, rel=1e-5)
    assert float(shift[0, row + 2, column + 2]) == pytest.approx(0, abs=1e-7)


def test_a_dipole_shifts_energies_to_its_side(geometry, coupling):
    coupling.mode_coupling[0, DIPOLE, 1, 1] = 1.0
    shift = coupling(residuals_of(geometry, 0, [(1, 0)])).view(LAYERS, geometry.rows, geometry.columns)
    row = column = geometry.rows // 2
    assert shift[0, row, column + 1] == -shift[0, row, column - 1]
    assert shift[0, row, column + 1] > shift[0, row + 1, column + 1] > 0
    assert float(shift[0, row + 1, column]) == pytest.approx(0, abs=1e-7)


def test_mode_products_are_those_of_each_mode_with_incoming_ones(geometry, coupling):
    """Compared with loops over showers, layers and modes."""
    residuals = torch.randn(3, LAYERS, geometry.cells, generator=torch.Generator().manual_seed(0))
    found = coupling.mode_products(residuals).numpy()
    modes = geometry.fourier_modes((1, 2))
    want = np.zeros_like(found)
    for mode, values in enumerate(modes):
        bins = [
            np.where(geometry.radial_bin == radial_bin, values, 0) for radial_bin in range(len(RADIAL_BINS))
        ]
        amplitude = [residuals.numpy() @ (part / max(np.linalg.norm(part), 1e-6)) for part in bins]
        for i, j in np.ndindex(len(RADIAL_BINS), len(RADIAL_BINS)):
            want[0, mode // 2, i, j] += (amplitude[i] * amplitude[j]).sum() / 3
            for layer in range(LAYERS):
                for front in range(layer):
                    product = (amplitude[i][:, layer] * amplitude[j][:, front]).sum() / 3
                    for source, decay in enumerate(LAYER_DECAYS, start=1):
                        want[source, mode // 2, i, j] += decay ** (layer - front - 1) * product
    assert found == pytest.approx(want, abs=1e-4)
    assert want[1].std() > 0.1


def test_a_coupling_of_one_decay_still_loads(geometry, coupling):
    """As models of earlier releases have."""
    torch.nn.init.normal_(coupling.mode_coupling)
    state = coupling.state_dict()
    stored = state["mode_coupling"] = state["mode_coupling"][:2].clone()
    fresh = AzimuthalCoupling(LAYERS, geometry)
    fresh.load_state_dict(state)
    assert torch.equal(fresh.mode_coupling[:2], stored)
    assert (fresh.mode_coupling[2:] == 0).all()


def test_each_coupling_raises_its_own_product(geometry, coupling):
    residuals = torch.randn(4000, LAYERS, geometry.cells, generator=torch.Generator().manual_seed(0))
    before = coupling.mode_products(residuals)
    for place in ((0, QUADRUPOLE, 3, 1), (1, DIPOLE, 2, 1), (2, QUADRUPOLE, 1, 1)):
        coupling.mode_coupling.zero_()
        coupling.mode_coupling[place] = 1.0
        rise = coupling.mode_products(residuals + coupling(residuals)) - before
        # cosine and sine, by the variance of the incoming modes
        want = 2 * SCALE * float((coupling.layer_weights[place[0]] ** 2).sum())
        assert float(rise[place]) == pytest.approx(want, rel=0.15)


@pytest.mark.parametrize("source", [0, 1, 2])
def test_a_coupling_stays_where_its_product_rises_with_it(geometry, source):
    """Beyond, matching of moments runs away."""
    coupling = AzimuthalCoupling(25, geometry).requires_grad_(False)
    residuals = torch.randn(500, 25, geometry.cells, generator=torch.Generator().manual_seed(0))
    place = (source, DIPOLE, 1, 1)
    coupling.mode_coupling[place] = -20.0
    coupling.clamp_parameters()
    products = []
    for _ in range(3):
        products.append(float(coupling.mode_products(residuals + coupling(residuals))[place]))
        coupling.mode_coupling *= 0.8
    assert products == sorted(products)


def test_a_moderate_coupling_is_left_as_it_is(geometry, coupling):
    torch.nn.init.normal_(coupling.mode_coupling, std=0.1)
    before = coupling.mode_coupling.clone()
    coupling.clamp_parameters()
    assert torch.equal(coupling.mode_coupling, before)

"""The layered family on cylindrical meshes: cells of unequal size, neighbours around the axis, graphs."""

import math

import numpy as np
import pytest
import torch

from caloforge.geometry import load_detector
from caloforge.models.layered.cell_sampler import HITS_PER_UNCOUPLED_HIT, CellSampler
from caloforge.models.layered.constants import KERNEL
from caloforge.models.layered.couplings import NeighbourCoupling, StudentCoupling
from caloforge.models.layered.features import layer_features
from caloforge.models.layered.geometry import layer_geometry
from caloforge.models.layered.independent_cells import PARAMETER_SCALE, IndependentCells
from caloforge.models.training_metadata import TrainedRange

LAYERS, RADIAL_BINS = 5, (0, 1, 3)
ORTHOGONAL = {"theta": (math.pi / 2,) * 2, "phi": (0.0, 0.0)}


def geometry_of(rings=6, sectors=8, **angles):
    ranges = TrainedRange(energy=(1e4, 5e5), pdg_ids=(11,), **(ORTHOGONAL | angles))
    detector = load_detector("par04-siw", (f"mesh.nr={rings}", f"mesh.nphi={sectors}"))
    return layer_geometry(detector, ranges, RADIAL_BINS)


@pytest.fixture
def geometry():
    return geometry_of()


def filled(coupling, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return coupling.requires_grad_(False)


def one_by_one(coupling, x, index):
    """Sums over neighbours, cell by cell."""
    geometry, kernel, half = coupling.geometry, coupling.kernel()[index], KERNEL // 2
    result = torch.zeros_like(x)
    for row in range(geometry.rows):
        for ring in range(geometry.columns):
            for turn in range(-half, half + 1):
                if coupling.causal and not 0 <= row + turn < geometry.rows:
                    continue
                for out in range(max(-half, -ring), min(half, geometry.columns - 1 - ring) + 1):
                    source = (row + turn) % geometry.rows * geometry.columns + ring + out
                    weight = kernel[ring, (turn + half) * KERNEL + out + half]
                    result[:, :, row * geometry.columns + ring] += weight * x[:, :, source]
    return result


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_each_ring_sums_over_its_neighbours_around_the_axis(geometry, kind):
    causal = kind == "teacher"
    coupling = (
        NeighbourCoupling(LAYERS, geometry, causal=True) if causal else StudentCoupling(LAYERS, geometry)
    )
    filled(coupling)
    x = torch.randn(2, LAYERS, geometry.cells)
    for index in (0, 1):
        got = coupling._coupling_sum(x, index)
        assert torch.allclose(got, one_by_one(coupling, x, index), atol=1e-5)
    # rings differ
    kernel = coupling.kernel()[0]
    beside = KERNEL * KERNEL // 2 - KERNEL
    assert len(set(kernel[:, beside].tolist())) == geometry.columns


def test_kernels_of_the_student_are_the_same_on_either_side(geometry):
    student = filled(StudentCoupling(LAYERS, geometry))
    x = torch.randn(1, LAYERS, geometry.cells)
    there = student._coupling_sum(x, 1)
    reflected = x.view(1, LAYERS, geometry.rows, -1).flip(2).flatten(2)
    want = there.view(1, LAYERS, geometry.rows, -1).flip(2).flatten(2)
    assert torch.allclose(student._coupling_sum(reflected, 1), want, atol=1e-5)


def test_the_student_starts_with_half_of_the_teacher_there_and_back(geometry):
    sampler = CellSampler(LAYERS, geometry, threshold=1e-3)
    with torch.no_grad():
        sampler.teacher.kernels.zero_()
        # of ring 4, from ring 3 one sector before
        place = (KERNEL // 2 - 1) * KERNEL + KERNEL // 2 - 1
        sampler.teacher.kernels[0, sampler.teacher.kernel_class[4, place]] = 1.0
    sampler.start_student()
    pairs = sampler.student.kernel().detach()[0].nonzero().tolist()
    middle = KERNEL // 2
    want = {(4, (middle + turn) * KERNEL + middle - 1) for turn in (-1, 1)}
    want |= {(3, (middle + turn) * KERNEL + middle + 1) for turn in (-1, 1)}
    assert {tuple(pair) for pair in pairs} == want
    # four displacements share what the teacher has there, and back
    assert float(sampler.student.kernels.detach().max()) == pytest.approx(HITS_PER_UNCOUPLED_HIT / 4)


@pytest.mark.parametrize("sectors", [1, 2, 3, 4])
def test_no_cell_is_counted_twice_where_sectors_are_few(sectors):
    geometry = geometry_of(sectors=sectors)
    index = geometry.neighbour_index(KERNEL)
    for cell in range(geometry.cells):
        own = index[:, cell][index[:, cell] >= 0]
        assert len(set(own)) == len(own)
    student = filled(StudentCoupling(LAYERS, geometry))
    x = torch.randn(2, LAYERS, geometry.cells)
    assert torch.allclose(student._coupling_sum(x, 0), one_by_one(student, x, 0), atol=1e-5)


def test_products_of_pairs_are_summed_by_both_rings(geometry):
    student = StudentCoupling(LAYERS, geometry)
    field = torch.randn(3, LAYERS, geometry.cells)
    pairs, _, _ = student.pair_products(field)
    grid = field.view(-1, geometry.rows, geometry.columns)
    middle = KERNEL * KERNEL // 2
    for ring in range(geometry.columns - 1):
        want = float((grid[..., ring] * grid[..., ring + 1]).sum()) / field.numel()
        assert float(pairs[student.kernel_class[ring, middle + 1]]) == pytest.approx(want, abs=1e-5)
        around = float((grid[..., ring] * grid[..., ring].roll(1, 1)).sum()) / field.numel()
        assert float(pairs[student.kernel_class[ring, middle + KERNEL]]) == pytest.approx(around, abs=1e-5)


@pytest.mark.parametrize("angles", [{}, {"theta": (1.2, 1.5)}], ids=["orthogonal", "inclined"])
@pytest.mark.parametrize("mesh", ["cylinder", "square"])
def test_a_pair_counts_for_the_displacements_from_either_cell(mesh, angles):
    geometry = geometry_of(**angles)
    if mesh == "square":
        ranges = TrainedRange(energy=(1e4, 5e5), pdg_ids=(11,), **(ORTHOGONAL | angles))
        detector = load_detector("clic-ecal-25", ("mesh.nx=7", "mesh.ny=8"))
        geometry = layer_geometry(detector, ranges, RADIAL_BINS)
    student = StudentCoupling(LAYERS, geometry)
    pairs, _, _ = student.pair_products(torch.randn(3, LAYERS, geometry.cells))
    back = geometry.opposite_displacement(KERNEL)
    of_place, reach = pairs[student.kernel_class].flatten(), student.reach.flatten()
    assert torch.allclose(of_place[reach], of_place[back][reach])
    assert (of_place[reach] != 0).all()


def test_a_model_with_one_kernel_for_all_rings_still_loads(geometry):
    student = filled(StudentCoupling(LAYERS, geometry))
    state = student.state_dict()
    common = torch.from_numpy(geometry.plane_classes(KERNEL, mirrored=True))
    state["kernels"] = torch.randn(2, int(common.max()) + 1)
    state["anisotropy"] = torch.randn(2, int(common.max()) + 1)
    fresh = StudentCoupling(LAYERS, geometry).requires_grad_(False)
    fresh.load_state_dict(state)
    kernel, want = fresh.kernel()[0], 0.04 * state["kernels"][0, common]
    assert torch.allclose(kernel[fresh.reach], want.expand_as(kernel)[fresh.reach])


def test_the_first_guess_of_a_rate_goes_with_the_size_of_the_cell(geometry):
    cells = IndependentCells(LAYERS, geometry, threshold=1e-3)
    guess = PARAMETER_SCALE * cells.coefficients[0, 0, 0].detach()[geometry.symmetry_class]
    guess = guess.exp().view(geometry.rows, geometry.columns)[0].numpy()
    # rings 1 and 2 share a bin: their cells have sizes 3 and 5
    assert guess[2] / guess[1] == pytest.approx(5 / 3)
    assert guess[1] + guess[2] == pytest.approx(2)


def test_the_centre_is_where_the_energy_is(geometry):
    showers = np.zeros((1, LAYERS, geometry.rows, geometry.columns), np.float32)
    sector, ring = 5, 1
    showers[0, 2, sector, ring] = 3.0
    features = layer_features(showers, np.array([1e4]), geometry, 0.1, np.random.default_rng(0))
    phi = (sector + 0.5) * 2 * math.pi / geometry.rows - math.pi
    assert features[0, -4:-2] == pytest.approx([1.5 * math.cos(phi), 1.5 * math.sin(phi)], abs=1e-5)

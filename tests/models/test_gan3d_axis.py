"""The compact networks at an angle: windows that follow the axis, what depends on it, the angle."""

import math

import numpy as np
import pytest
import torch

from caloforge.conditions import Conditions
from caloforge.config import build
from caloforge.errors import ConfigError
from caloforge.geometry import load_detector
from caloforge.models.base import TrainingBatch
from caloforge.models.gan3d.cell_field import CellField
from caloforge.models.gan3d.cell_field_fit import fit_cell_field
from caloforge.models.gan3d.compact_discriminator import LayerDirection
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.gan3d.energy_argument import EnergyArgument
from caloforge.models.gan3d.shower_axis import AxisWindow
from caloforge.models.registry import build_model, read_model_config
from caloforge.models.training_metadata import DataFacts, TrainedRange

RANGES = TrainedRange(
    energy=(1e4, 5e5),
    theta=(1.1, math.pi - 1.1),
    phi=(0.0, 0.0),
    impact_x=(-2.5, 2.5),
    impact_y=(-2.5, 2.5),
    pdg_ids=(11,),
)
DETECTOR = load_detector("clic-ecal-25", ("mesh.nx=11", "mesh.ny=11", "mesh.layers_per_voxel=5"))
LAYERS = DETECTOR.n_layers
middle, half = np.log([1e4, 5e5]).mean(), np.log(50) / 2
ARGUMENT = EnergyArgument(float(middle), float(1 / half))


def conditions(count, seed=0):
    rng = np.random.default_rng(seed)

    def flat(low, high):
        return rng.uniform(low, high, count).astype(np.float32)

    energy = np.exp(flat(*np.log(RANGES.energy))).astype(np.float32)
    zero, pdg_id = np.zeros(count, np.float32), np.full(count, 11, np.int32)
    return Conditions(energy, flat(*RANGES.theta), zero, pdg_id, flat(-2.5, 2.5), flat(-2.5, 2.5)).to_torch()


def planted_field(window, seed=5, energy_dependent=False):
    """A field whose cells depend on place and direction of the axis."""
    geometry = window.geometry
    field = CellField(LAYERS, geometry, 2, window, energy_dependent=energy_dependent)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        level = 1.2 - 0.25 * torch.arange(geometry.symmetry_classes) - 0.1 * torch.arange(LAYERS)[:, None]
        field.mean[:] = level[..., None] + 0.3 * torch.linspace(-1, 1, field.mean.shape[-1])
        field.log_energy[:] = torch.linspace(-3, 4, field.log_energy.shape[-1])
        field.axis_mean.normal_(0, 0.3, generator=rng)
        field.axis_mean[5:9] = 0
        field.axis_mean[18 + 5 :] = 0
        field.inclined_mean[0] = 0.4 * (torch.arange(LAYERS)[:, None, None] / LAYERS - 0.5)
    return field


@pytest.mark.parametrize("energy_dependent", [False, True])
def test_fit_recovers_how_cells_depend_on_the_axis(energy_dependent):
    by_energy = {"energy_dependent": energy_dependent}
    window = AxisWindow(DETECTOR, RANGES, 7, (0, 1, 2), **by_energy)
    planted = planted_field(window, **by_energy)
    found = CellField(LAYERS, window.geometry, 2, window, **by_energy)
    condition = conditions(1500)
    argument = ARGUMENT(condition.energy)
    axis = window(condition, argument)
    with torch.no_grad():
        mean, sigma = planted.moments(argument, axis)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
        cells = planted.energies(mean + sigma * noise, argument)
        exists = window.frame.available(axis.position) > 0
        fit_cell_field(found, torch.where(exists, cells, -1.0), condition.energy, argument, axis)
        again, width = found.moments(argument, axis)
    assert 0.05 < float((~exists).float().mean()) < 0.5
    # levels in units of their width, where cells are hit often enough to know them
    edge, fitted = mean / sigma, again / width
    known = exists & (edge.abs() < 2)
    own, other = (x - x.mean(0) for x in (edge, fitted))
    slope = float((own * other)[known].sum() / own[known].square().sum())
    assert slope == pytest.approx(1, abs=0.06)
    assert np.corrcoef(own[known], other[known])[0, 1] > 0.97
    # the hits of cells on one side, for axes on that side of a cell and on the other
    right = axis.position.remainder[:, 0, 0] > 0
    hits = [torch.special.ndtr(x)[:, 0].unflatten(1, (7, 7)) for x in (edge, fitted)]
    sides = [float(x[right][:, 3, 4].mean() / x[~right][:, 3, 4].mean()) for x in hits]
    assert sides[1] == pytest.approx(sides[0], rel=0.05)


@pytest.mark.parametrize("axis_of_mirror", [0, 1])
def test_cells_are_mirrored_with_the_axis(axis_of_mirror):
    window = AxisWindow(DETECTOR, RANGES, 7, (0, 1, 2))
    field = planted_field(window)
    condition = conditions(20)
    if axis_of_mirror == 0:
        mirrored = Conditions(
            *(getattr(condition, name).numpy() for name in ("energy", "theta", "phi", "pdg_id")),
            -condition.impact_x.numpy(),
            condition.impact_y.numpy(),
        ).to_torch()
    else:
        mirrored = Conditions(
            condition.energy.numpy(),
            (math.pi - condition.theta).numpy(),
            condition.phi.numpy(),
            condition.pdg_id.numpy(),
            condition.impact_x.numpy(),
            -condition.impact_y.numpy(),
        ).to_torch()
    argument = ARGUMENT(condition.energy)
    with torch.no_grad():
        plain, image = (field.moments(argument, window(c, argument))[0] for c in (condition, mirrored))
    flipped = plain.unflatten(2, (7, 7)).flip(-1 if axis_of_mirror == 0 else -2).flatten(2)
    torch.testing.assert_close(image, flipped, atol=1e-4, rtol=1e-4)


def test_windows_become_showers_and_back():
    window = AxisWindow(DETECTOR, RANGES, 9, (0, 1, 2))
    condition = conditions(30)
    axis = window(condition, ARGUMENT(condition.energy))
    cells = torch.rand(30, LAYERS, 81) * window.frame.available(axis.position)
    showers = window.frame.showers(cells, axis.position)
    assert showers.shape == (30, *DETECTOR.shower_shape)
    torch.testing.assert_close(window.frame.windows(showers, axis.position), cells)


def test_angle_of_a_straight_line():
    window = AxisWindow(DETECTOR, RANGES, 9, (0, 1, 2))
    condition = conditions(200)
    axis = window(condition, ARGUMENT(condition.energy))
    cells = torch.zeros(200, LAYERS, 81)
    cells[..., 40] = 10 * window.frame.available(axis.position)[..., 40]
    estimate = LayerDirection(window, LAYERS, 4)(cells, axis).detach()
    # cells are known to half of their width only
    assert float((estimate - condition.theta).abs().mean()) < 0.03
    assert np.corrcoef(estimate, condition.theta)[0, 1] > 0.99


def make(**changes):
    document = {
        "preset": "compact-angle",
        "generator": {"factors": 3, "width": 8, "channels": [2, 2, 2], "window": 9},
        "discriminator": {"channels": [2, 4], "width": 8},
        "adversarial_after": 0,
        **changes,
    }
    config = build(Gan3dConfig, document, "model")
    return build_model(config, DETECTOR, DataFacts(ranges=RANGES, response_fit=(0.02,)), seed=1)


def test_a_layer_without_energy_leaves_gradients_finite():
    model = make()
    condition = conditions(6)
    showers = torch.rand(6, *DETECTOR.shower_shape)
    showers[:, -1] = 0
    for phase in model.step(TrainingBatch(showers, condition)):
        phase.loss.backward()
        assert f"{phase.optimizer[0]}_angle" in phase.logs or phase.optimizer == "generator"
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name


def test_size_with_a_window_is_estimated_from_above():
    model = make()
    held = sum(part.numel() for part in (*model.parameters(), *model.buffers()))
    estimate = type(model).count_numbers(model.config, model.detector, model.facts)
    assert held < estimate < 100 * held


def test_an_even_window_is_refused():
    with pytest.raises(ConfigError, match="window: got 8, expected an odd number of cells"):
        make(generator={"window": 8})


def test_models_of_earlier_releases_have_one_table_for_all_energies():
    settings = make().config.model_dump(mode="json")
    assert settings["generator"]["energy_dependent"]
    for name in ("energy_dependent", "map_energies", "response_squared"):
        del settings["generator"][name]
    config = read_model_config(settings, "model.json", of_card=True)
    assert isinstance(config, Gan3dConfig)
    assert config.generator.kind == "compact"
    assert not config.generator.energy_dependent
    assert (config.generator.map_energies, config.generator.response_squared) == (3, False)

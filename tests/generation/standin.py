"""A model of the size and the operations of a fast generator, for tests that need no training."""

import math

import torch
from torch import Tensor, nn

from caloforge.config import StrictModel
from caloforge.geometry import load_detector
from caloforge.models.base import Condition, ShowerModel
from caloforge.models.training_metadata import DataFacts, TrainedRange

STAGE1 = 275


class StandInConfig(StrictModel):
    """Nothing to choose."""


class StandIn(ShowerModel):
    """Layer energies from a matrix, then two convolutions over the layers' cells with FiLM between them."""

    family = "stand-in"

    def __init__(self, config, detector, facts):
        super().__init__(config, detector, facts)
        depth, rows, columns = detector.shower_shape
        self.cells = depth * rows * columns
        self.stage1 = nn.Linear(STAGE1 + 2, depth)
        self.film = nn.Linear(depth + 2, 64)
        self.first = nn.Conv2d(2 * depth, 32, 3, padding=1)
        self.second = nn.Conv2d(32, depth, 3, padding=1)
        distance = [torch.linspace(-1, 1, n) ** 2 for n in (rows, columns)]
        radius = (distance[0][:, None] + distance[1]).expand(depth, -1, -1)
        self.register_buffer("place", -6 * radius)

    @property
    def noise_shape(self):
        return (STAGE1 + self.cells,)

    def generate(self, condition: Condition, noise: Tensor) -> Tensor:
        energy = torch.stack([condition.energy.log() - math.log(1e5), condition.theta - 1.57], 1)
        share = torch.softmax(self.stage1(torch.cat([noise[:, :STAGE1] * 0.1, energy], 1)), 1)
        cells = noise[:, STAGE1:].reshape(-1, *self.detector.shower_shape)
        place = self.place.expand_as(cells)
        gain, bias = self.film(torch.cat([share, energy], 1))[:, :, None, None].chunk(2, 1)
        hidden = torch.nn.functional.silu(self.first(torch.cat([cells, place], 1)) * (1 + gain) + bias)
        field = torch.expm1(torch.relu(place + cells + self.second(hidden)))
        wanted = share * (0.02 * condition.energy)[:, None]
        return field * (wanted / (field.sum((2, 3)) + 1e-6))[:, :, None, None]


def stand_in(overrides=()):
    """The model for `clic-ecal-25`, always with the same weights."""
    ranges = TrainedRange(energy=(1e4, 5e5), theta=(1.5, 1.6), phi=(0.0, 0.0), pdg_ids=(11,))
    detector = load_detector("clic-ecal-25", tuple(overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return StandIn(StandInConfig(), detector, DataFacts(ranges=ranges, response_fit=(0.02,))).eval()

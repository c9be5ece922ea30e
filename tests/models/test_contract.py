"""Every family and preset keeps the contract; and the contract notices who does not."""

import pytest
import torch

from caloforge.models.registry import list_models
from caloforge.testing import check_model, check_transform
from caloforge.transforms import PowerScale

MESH = ("mesh.nx=13", "mesh.ny=11")
# every phase of the training within a few steps
SHORT = {"layered": {"likelihood_steps": 1, "matching_steps": 1}}


# compact networks have two phases after a while only: test_gan3d_compact.py
PRESETS = [(f, p) for f, names in list_models().items() for p in names if not p.startswith("compact")]


@pytest.mark.parametrize(("family", "preset"), PRESETS)
def test_contract(make_model, family, preset):
    # the kernels of the angle version need a larger mesh
    mesh = () if preset == "angle" else MESH
    check_model(lambda: make_model(preset, "clic-ecal-25", mesh, family=family, **SHORT.get(family, {})))


def test_contract_with_every_term(make_model):
    check_model(lambda: make_model("debug", overrides=MESH, weights={"angle": 25.0, "spectrum": 0.1}))


@pytest.mark.parametrize("family", list_models())
def test_contract_on_a_cylindrical_mesh(make_model, family):
    check_model(lambda: make_model("debug", "par04-siw", family=family, **SHORT.get(family, {})))


@pytest.mark.parametrize("power", [1.0, 0.85, 0.5])
def test_transform_contract(power):
    check_transform(PowerScale(unit=20.0, power=power, threshold=1e-3), threshold=1e-3)


def test_a_transform_that_is_not_invertible_is_noticed():
    class Clipped(PowerScale):
        def forward(self, energy):
            return super().forward(energy).clip(0, 10)

    with pytest.raises(AssertionError, match="undo"):
        check_transform(Clipped(20.0, 1.0))


def broken(make_model, **methods):
    def build():
        model = make_model("debug", overrides=MESH)
        kind = type("Broken", (type(model),), methods)
        model.__class__ = kind
        return model

    return build


def off_axis(make_model, **methods):
    """A model whose facts say that it was trained on impact points within 2.5 mm."""

    def build():
        model = broken(make_model, __repr__=lambda self: "gan3d", **methods)()
        ranges = model.ranges.model_copy(update={"impact_x": (-2.5, 2.5), "impact_y": (-2.5, 2.5)})
        model.facts = model.facts.model_copy(update={"ranges": ranges})
        return model

    return build


def test_impact_points_must_be_declared_and_used(make_model):
    with pytest.raises(AssertionError, match="does not declare takes_impact"):
        check_model(off_axis(make_model))
    with pytest.raises(AssertionError, match="the impact point makes no difference"):
        check_model(off_axis(make_model, takes_impact=True))


def test_negative_energies_are_noticed(make_model):
    def generate(self, condition, noise):
        return super(type(self), self).generate(condition, noise) - 1

    with pytest.raises(AssertionError, match="negative"):
        check_model(broken(make_model, generate=generate, __repr__=lambda self: "gan3d"))


def test_showers_that_depend_on_their_neighbours_are_noticed(make_model):
    def generate(self, condition, noise):
        showers = super(type(self), self).generate(condition, noise)
        return showers + showers.mean(dim=0) + 1

    with pytest.raises(AssertionError, match="neighbours"):
        check_model(broken(make_model, generate=generate, __repr__=lambda self: "gan3d"))


def test_a_parameter_that_learns_nothing_is_noticed(make_model):
    def build():
        model = make_model("debug", overrides=MESH)
        model.generator.idle = torch.nn.Parameter(torch.zeros(1))
        return model

    with pytest.raises(AssertionError, match="idle"):
        check_model(build)

"""The published architectures, their arithmetic, and other meshes."""

import numpy as np
import pytest
import torch

from caloforge.config import build
from caloforge.errors import ConfigError
from caloforge.models.base import Condition, parameter_count
from caloforge.models.gan3d.config import Gan3dConfig


def keras_count(network):
    """Keras counts the running statistics of batch normalisation as parameters."""
    buffers = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    return sum(p.numel() for p in network.parameters()) + buffers


@pytest.mark.parametrize(
    ("preset", "detector", "generator", "trained", "discriminator"),
    [
        # 3DGAN, branches Energy-gan and Anglegan
        ("orthogonal", "clic-ecal-25", 872_948, 872_808, 73_450),
        ("angle", "clic-ecal-51", 1_365_047, 1_364_983, 87_402),
    ],
)
def test_published_parameters(make_model, preset, detector, generator, trained, discriminator):
    model = make_model(preset, detector)
    assert keras_count(model.generator) == generator
    assert parameter_count(model.generator) == trained
    assert keras_count(model.discriminator) == discriminator
    # no cell of the image is cut off or made up
    assert model.generator.crop == (0, 0, 0)


@pytest.mark.parametrize(
    ("preset", "detector", "shapes"),
    [
        (
            "orthogonal",
            "clic-ecal-25",
            [(64, 8, 7, 7), (6, 9, 14, 13), (6, 26, 26, 26), (1, 25, 25, 25)],
        ),
        (
            "angle",
            "clic-ecal-51",
            [
                (8, 41, 49, 49),
                (6, 38, 50, 50),
                (6, 35, 51, 51),
                (6, 32, 52, 52),
                (6, 28, 52, 52),
                (6, 26, 52, 52),
                (1, 25, 51, 51),
            ],
        ),
    ],
)
def test_published_layer_shapes(make_model, preset, detector, shapes):
    model = make_model(preset, detector).eval()
    seen = []
    for layer in model.generator.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape[1:])))
    with torch.no_grad():
        model.generator(torch.ones(1), torch.full((1,), 1.57), torch.randn(1, *model.noise_shape))
    assert seen == shapes


def test_energy_multiplies_the_noise_or_stands_beside_it(make_model):
    orthogonal, angle = make_model("orthogonal"), make_model("angle", "clic-ecal-51")
    assert orthogonal.noise_shape == (200,)
    assert angle.noise_shape == (254,)
    noise = torch.randn(2, 200)
    orthogonal.eval()
    with torch.no_grad():
        double = orthogonal.generator(torch.full((2,), 2.0), torch.zeros(2), noise)
        same = orthogonal.generator(torch.ones(2), torch.ones(2), 2 * noise)
    assert torch.allclose(double, same, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("preset", "detector", "overrides"),
    [
        ("debug", "par04-siw", ()),
        ("debug", "par04-scipb", ()),
        ("debug", "clic-ecal-25", ("mesh.nx=9", "mesh.ny=13")),
        ("orthogonal", "clic-ecal-51", ()),
        ("orthogonal", "par04-siw", ()),
    ],
)
def test_any_mesh(make_model, preset, detector, overrides):
    model = make_model(preset, detector, overrides).eval()
    n = 2
    condition = Condition(torch.full((n,), 1e5), torch.full((n,), 1.57), torch.zeros(n), torch.full((n,), 11))
    with torch.no_grad():
        showers = model.generate(condition, torch.randn(n, *model.noise_shape))
        score, energy = model.discriminator(model.transform.forward(showers))
    assert showers.shape == (n, *model.detector.shower_shape)
    assert score.shape == energy.shape == (n,)


def test_a_mesh_too_small_for_the_kernels_is_refused(make_model):
    with pytest.raises(ConfigError, match=r"too small.*same.*debug"):
        make_model("angle", "par04-siw", weights={"angle": 0.0})


def test_a_network_larger_than_the_memory_is_refused(make_model):
    wide = {"filters": 1024, "kernel": (32, 32, 32), "same": True}
    last = {"filters": 1, "kernel": (3, 3, 3), "same": True}
    with pytest.raises(
        ConfigError, match=r"model gan3d: .* take 1\.\d* TB, this machine has .* fewer filters"
    ):
        make_model("debug", overrides=("mesh.nx=7", "mesh.ny=7"), generator={"blocks": [*[wide] * 9, last]})


def test_fewer_and_wider_filters_through_the_configuration(make_model):
    wide = [
        {"filters": 4, "kernel": [3, 7, 7], "same": True, "upsample": [4, 4, 4]},
        {"filters": 1, "kernel": [1, 3, 3], "same": True, "activation": "relu"},
    ]
    model = make_model(generator={"blocks": wide, "latent": 16})
    assert model.generator.seed_shape == (7, 7, 7)
    assert [tuple(layer.conv.kernel_size) for layer in model.generator.layers] == [(3, 7, 7), (1, 3, 3)]


def test_blocks_that_cannot_reach_the_mesh(make_model):
    shrinking = [{"filters": 1, "kernel": [2, 2, 2], "stride": [4096, 1, 1], "same": True}]
    with pytest.raises(ConfigError):
        make_model(generator={"blocks": shrinking})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generater": {}}, "Did you mean 'generator'"),
        ({"preset": "orthogonl"}, "preset"),
        ({"cell_unit": 10}, "without a unit"),
        ({"generator": {"blocks": [{"filters": 2, "kernel": [1, 1, 1]}]}}, "expected 1, the image"),
        ({"fake_conditions": "fresh", "weights": {"angle": 1.0}}, "fresh"),
        ({"spectrum_edges": ["2 MeV", "1 MeV"]}, "rising"),
        ({"power": 0}, "power"),
        ({"weights": {"real_fake": 0}}, "real_fake"),
    ],
)
def test_bad_configuration(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(Gan3dConfig, {"family": "gan3d", **changes}, "model")


def test_a_preset_is_only_the_start():
    config = build(Gan3dConfig, {"preset": "angle", "weights": {"spectrum": 0.1}}, "model")
    assert config.weights.spectrum == 0.1
    assert config.weights.angle == 25.0
    assert config.power == 0.85
    again = build(Gan3dConfig, config.model_dump(mode="json"), "model")
    assert again == config


def test_even_kernels_pad_one_more_behind(make_model):
    # Keras pads (k - 1) // 2 in front: an even kernel looks further ahead than back
    model = make_model("orthogonal")
    layer = model.generator.layers[0]
    image = torch.zeros(1, 8, 8, 7, 7)
    image[..., 3, 3, 3] = 1.0
    with torch.no_grad():
        layer.eval().conv.weight.fill_(1.0)
        layer.conv.bias.zero_()
        lit = np.argwhere(layer(image)[0, 0].numpy() > 0.5)
    assert lit.min(axis=0).tolist() == [0, 0, 0]
    assert lit.max(axis=0).tolist() == [6, 5, 5]

"""Each consumer, imitated, gets back the showers of `caloforge generate` from the exported files."""

import atexit
import json
import re

import numpy as np
import pytest
import torch
from consumers import EmbeddedPython, Par04, RegularGridGAN, rotation

import caloforge
from caloforge import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.exporting.noise_expansion import LATENT, NoiseExpansion
from caloforge.generation.noise import NoiseStream
from caloforge.models.base import Condition

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SEED, SHOWERS = 3, 4
ENERGIES = np.geomspace(1.1e4, 4.9e5, SHOWERS).astype(np.float32)


def like(path, detector, theta):
    """A file with the conditions to generate."""
    write(path, detector, np.ones((SHOWERS, *detector.shower_shape), np.float32), theta)
    return path


def write(path, detector, showers, theta):
    with ShowerWriter(path, detector, {}) as writer:
        writer.append(
            ShowerBatch(
                showers,
                ENERGIES,
                np.full(SHOWERS, theta, np.float32),
                np.zeros(SHOWERS, np.float32),
                np.full(SHOWERS, 11, np.int32),
            )
        )


def assert_same(path, generated, atol=0.0):
    """The same hits in the same cells, with the same energies but for rounding."""
    with ShowerFile(path) as ours, ShowerFile(generated) as theirs:
        got, want = ours.read().showers, theirs.read().showers
    assert (want > 0).sum() > 100 and (want == 0).sum() > 100
    np.testing.assert_array_equal(got > 0, want > 0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=atol)


# ---- Par04


def commands(macro):
    """The commands of a macro, in order, each with what follows it."""
    lines = [line for line in macro.splitlines() if line and not line.startswith("#")]
    return [tuple(line.rsplit("/", 1)[-1].split(" ", 1)) if " " in line else (line, "") for line in lines]


CYLINDER = {"detector": "par04-siw", "overrides": (), "theta": (1.1, 2.0)}
# options of the default family, and of another whose noise is a hundred times as long
FAMILIES = [
    pytest.param({}, id="gan3d"),
    pytest.param({"family": "layered"}, id="layered", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=FAMILIES)
def cylinder(request):
    return CYLINDER | request.param


@pytest.fixture(scope="module")
def par04(exported, cylinder):
    folder = exported("par04", **cylinder)
    return Par04(folder, dict(commands((folder / "caloforge.mac").read_text())))


@pytest.mark.parametrize("theta", [np.pi / 2, 1.2])
def test_par04(par04, cylinder, stored, tmp_path, theta):
    model = stored(**cylinder)
    detector = caloforge.load_model(model).detector
    generated = tmp_path / "generated.h5"
    conditions = like(tmp_path / "like.h5", detector, theta)
    caloforge.generate(model, out=generated, like=conditions, seed=SEED, backend="torch", progress=False)
    noise = NoiseStream(SEED, (par04.latent,))
    # the beam axis of Par04 is z, which is y for caloforge
    direction = np.array([0.6 * np.sin(theta), 0.8 * np.sin(theta), np.cos(theta)])
    showers = np.zeros((SHOWERS, *detector.shower_shape), np.float32)
    entry = np.array([100.0, 200.0, -30.0])
    for number, energy in enumerate(ENERGIES.astype(float)):
        positions, energies = par04.hits(energy, direction, entry, noise.take(number, number + 1)[0])
        x, y, z = (rotation(direction) @ (positions - entry).T).astype(float)
        mesh = detector.mesh
        depth = 2 * detector.layers[0].thickness
        cells = (
            np.floor(z / depth).astype(int),
            np.floor((np.arctan2(y, x) + np.pi) / (2 * np.pi / mesh.nphi)).astype(int),
            np.floor(np.hypot(x, y) / mesh.cell_r).astype(int),
        )
        np.add.at(showers[number], cells, energies)
    write(tmp_path / "hits.h5", detector, showers, theta)
    # Par04 rounds the incident energy to a float; 10 eV is a hundredth of the weakest hit
    assert_same(tmp_path / "hits.h5", generated, atol=1e-5 if "family" in cylinder else 0.0)


def test_the_macro_of_par04_has_its_order(exported):
    text = (exported("par04", **CYLINDER) / "caloforge.mac").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]

    def place(pattern):
        (found,) = [i for i, line in enumerate(lines) if re.fullmatch(pattern, line)]
        return found

    assert place("/Par04/mesh/setNbOfZCells 45") < place("/run/initialize") < place("/gun/energy 10 GeV")
    library = place("/Par04/inference/setInferenceLibrary ONNX")
    for setting in ("setSizeLatentVector 30", "setSizeConditionVector 4", "setModelPathName model.onnx"):
        assert place("/run/initialize") < place(f"/Par04/inference/{setting}") < library
    assert place("/Par04/inference/setModelType VAE") < library
    assert place("/Par04/inference/setSizeOfZCells 3.4 mm") > library
    models = [line for line in lines if line.startswith("/param/")]
    assert models == ["/param/ActivateModel defineMesh", "/param/ActivateModel inferenceModel"]
    assert lines[-1].startswith("/run/beamOn")


def test_par04_beyond_the_trained_range(par04):
    noise = NoiseStream(SEED, (par04.latent,)).take(0, 1)[0]
    at_limit, beyond = (par04.energies(energy, np.pi / 2, noise) for energy in (5e5, 1e6))
    np.testing.assert_allclose(beyond, 2 * at_limit, rtol=1e-6)


# ---- DDML


@pytest.mark.parametrize("options", FAMILIES)
def test_regular_grid(exported, stored, tmp_path, options):
    folder = exported("ddml", **options)
    manifest = json.loads((folder / "manifest.json").read_text())
    consumer = RegularGridGAN(folder / manifest["graph"]["file"], manifest["ddml"]["properties"])
    loaded = caloforge.load_model(stored(**options))
    mesh = loaded.detector.mesh
    flat = np.random.default_rng(2).uniform(-1, 1, (SHOWERS, LATENT)).astype(np.float32)
    showers = np.zeros((SHOWERS, *loaded.detector.shower_shape), np.float32)
    for number, energy in enumerate(ENERGIES.astype(float)):
        for layer, points in enumerate(consumer.space_points(energy, flat[number])):
            for x, y, deposit in points:
                cell = np.searchsorted(mesh.y_edges(), y) - 1, np.searchsorted(mesh.x_edges(), x) - 1
                showers[number, layer, cell[0], cell[1]] += deposit
    with torch.inference_mode():
        noise = NoiseExpansion(int(np.prod(loaded.noise_shape)))(torch.from_numpy(flat))
        condition = Condition(
            torch.from_numpy(ENERGIES),
            torch.full((SHOWERS,), np.pi / 2, dtype=torch.float32),
            torch.zeros(SHOWERS),
            torch.full((SHOWERS,), 11, dtype=torch.int32),
        )
        want = loaded.generate(condition, noise).numpy()
    for name, values in (("hits.h5", showers), ("generated.h5", want)):
        write(tmp_path / name, loaded.detector, values, np.pi / 2)
    assert_same(tmp_path / "hits.h5", tmp_path / "generated.h5")


# an odd number of cells, an axis that crosses the mesh inside, few enough hits for the layout of 2026
ODD = {"overrides": ("mesh.nx=7", "mesh.ny=7", "axis_layer=10"), "theta": (1.1, 2.0)}


@pytest.mark.parametrize("entry_point", EmbeddedPython.LAYOUTS)
@pytest.mark.parametrize("theta", [np.pi / 2, 1.2])
def test_embedded_python(exported, stored, tmp_path, monkeypatch, entry_point, theta):
    model = stored(**ODD)
    consumer = EmbeddedPython(exported("ddml-python", **ODD), entry_point, monkeypatch)
    detector = caloforge.load_model(model).detector
    generated = tmp_path / "generated.h5"
    conditions = like(tmp_path / "like.h5", detector, theta)
    caloforge.generate(model, out=generated, like=conditions, seed=SEED, backend="torch", progress=False)
    noise = NoiseStream(SEED, caloforge.load_model(model).noise_shape)
    mesh = detector.mesh
    showers = np.zeros((SHOWERS, *detector.shower_shape), np.float32)
    # the local frame of DDML is turned by half a circle
    direction = np.array([0.0, -np.cos(theta), np.sin(theta)])
    shift = detector.layer_fronts()[10] * direction[:2] / direction[2]
    for number, energy in enumerate(ENERGIES.astype(float)):
        monkeypatch.setattr(consumer.module.generator(), "noise", lambda n=number: noise.take(n, n + 1))
        for layer, points in enumerate(consumer.space_points(energy, direction)):
            for x, y, deposit in points:
                # from the entry point to the centre of the mesh, and back to the frame of caloforge
                x, y = -(x - shift[0]), -(y - shift[1])
                cell = np.searchsorted(mesh.y_edges(), y) - 1, np.searchsorted(mesh.x_edges(), x) - 1
                showers[number, layer, cell[0], cell[1]] += deposit
    assert consumer.module.generator().outside == consumer.module.generator().reduced == 0
    write(tmp_path / "hits.h5", detector, showers, theta)
    assert_same(tmp_path / "hits.h5", generated)


def test_embedded_python_counts_what_it_changes(exported, monkeypatch, capsys):
    folder = exported("ddml-python", threshold="0.001 MeV", overrides=("mesh.nx=30", "mesh.ny=30"))
    few = EmbeddedPython(folder, "run_inference_2026", monkeypatch)
    monkeypatch.setenv("CALOFORGE_SEED", "5")
    reduced = few.space_points(1e6, (0.0, 0.0, 1.0))
    many = EmbeddedPython(folder, "run_inference_2025_06", monkeypatch)
    whole = many.space_points(1e6, (0.0, 0.0, 1.0))
    assert sum(map(len, whole)) > 1687 == sum(map(len, reduced))
    layer_energies = [[sum(e for _, _, e in points) for points in layers] for layers in (reduced, whole)]
    np.testing.assert_allclose(*layer_energies, rtol=1e-5)
    for model in (few.module.generator(), many.module.generator()):
        atexit.unregister(model.report)
    few.module.generator().report()
    told = capsys.readouterr().err
    assert "1 of 1 particles were outside the trained range" in told
    assert "1 of 1 showers had more hits than the layout holds" in told


@pytest.mark.parametrize("file", ["model.onnx", "reference.bin"])
def test_embedded_python_refuses_other_files(copied, monkeypatch, file):
    folder = copied("ddml-python", **ODD)
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    consumer = EmbeddedPython(folder, "run_inference_2026", monkeypatch)
    with pytest.raises(RuntimeError, match=rf"{file} is not the file of its manifest.json"):
        consumer.space_points(1e5, (0.0, 0.0, 1.0))


def test_the_steering_files_are_python(exported):
    for folder in (exported("ddml"), exported("ddml-python", **ODD)):
        text = (folder / "ddsim_steer.py").read_text()
        compile(text, "ddsim_steer.py", "exec")
        assert "'ModelPath': 'model.onnx'" in text and 'triggers={"e-": 10 * GeV}' in text


# ---- noise from a hundred numbers


def test_expanded_noise_is_normal_and_independent():
    rng = np.random.default_rng(1)
    latent = rng.uniform(-1, 1, (300, LATENT)).astype(np.float32)
    with torch.inference_mode():
        noise = NoiseExpansion(4001)(torch.from_numpy(latent)).numpy().astype(np.float64)
    assert noise.shape == (300, 4001)
    count = noise.size
    # moments of a normal distribution, in standard errors
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((noise**power).mean() - moment) < 4 * np.sqrt(variance / count)
    for lag in (1, 2, 3, 16, 1000):
        assert abs((noise[:, lag:] * noise[:, :-lag]).mean()) < 4 / np.sqrt(count * (1 - lag / 4001))
    between = np.corrcoef(noise)[np.triu_indices(300, 1)] * np.sqrt(4001)
    assert between.std() == pytest.approx(1, abs=0.03) and np.abs(between).max() < 5.5
    # the last bit of any of the numbers changes everything
    other = latent[:1].repeat(LATENT, axis=0)
    other[np.arange(LATENT), np.arange(LATENT)] += np.float32(5e-7)
    with torch.inference_mode():
        changed = NoiseExpansion(4001)(torch.from_numpy(other)).numpy()
    assert np.abs([np.corrcoef(noise[0], row)[0, 1] for row in changed]).max() < 5 / np.sqrt(4001)

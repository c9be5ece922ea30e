"""Libraries of showers: storage, mapping to another detector, transport of planted showers, bad files."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import caloforge
from caloforge.beam import BeamConfig
from caloforge.config import build
from caloforge.errors import ModelError, TrainingError
from caloforge.geometry import load_detector
from caloforge.geometry.random_detectors import random_detector
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.layered.config import LayeredConfig
from caloforge.models.layered.features import FeatureLayout
from caloforge.models.layered.shower_library.bin_sample import BinSample
from caloforge.models.layered.shower_library.detector_family import DetectorFamily
from caloforge.models.layered.shower_library.hit_scores import hits_of_scores, scores_of_hits
from caloforge.models.layered.shower_library.hits import DetectorHits
from caloforge.models.layered.shower_library.mesh_change import summed_into
from caloforge.models.layered.shower_library.store import read_library, write_library
from caloforge.models.layered.shower_library.transport import transported
from caloforge.models.registry import build_model
from caloforge.models.released import library_folder, released_libraries
from caloforge.models.store import write_tensors
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.showers import ShowerWriter
from caloforge.training.preflight import synthetic_showers

ORTHOGONAL = {"theta": (math.pi / 2,) * 2, "phi": (0.0, 0.0), "pdg_ids": (11,)}


def box(number=0):
    return load_detector(random_detector(number))


def model_of(detector, family="layered", energy=(2e3, 2e5), **ranges):
    config = {"layered": LayeredConfig, "gan3d": Gan3dConfig}[family]
    facts = {"energy": energy, **ORTHOGONAL} | ranges
    return build_model(
        build(config, {"preset": "debug", "family": family}, "model"),
        detector,
        DataFacts(ranges=TrainedRange(**facts), response_fit=(0.02,)),
        seed=1,
    )


def clic(*changes):
    return load_detector("clic-ecal-25", ("mesh.nx=9", "mesh.ny=9", *changes))


def few_showers(detector, count):
    beam = build(
        BeamConfig, {"particle": "e-", "energy": {"kind": "flat", "min": "2 GeV", "max": "200 GeV"}}, "beam"
    )
    return synthetic_showers(detector, beam, count)


def planted_library(folder, showers=12, seed=0):
    """A library of two random detectors with a few hits in a few layers."""
    rng, groups = np.random.default_rng(seed), []
    for number in (0, 3):
        detector = box(number)
        cells = np.zeros((showers, *detector.shower_shape), np.float32)
        for shower in cells:
            place = tuple(rng.integers(0, size, 200) for size in (detector.n_layers, 16, 16))
            shower[place[0], place[1] + 24, place[2] + 24] = rng.exponential(0.3, 200)
        groups.append(DetectorHits.of(detector, np.geomspace(1e3, 3e5, showers), cells))
    return write_library(folder, "planted", groups, pdg_id=11, energy_meaning="visible")


# ---- storage


def test_stored_hits_keep_their_cells_and_their_energies_to_three_percent(tmp_path):
    detector, rng = box(), np.random.default_rng(1)
    showers = np.zeros((3, *detector.shower_shape), np.float32)
    flat = showers.reshape(3, -1)
    # gaps beyond 65535 cells, the first and the last cell, and a shower without hits
    for place in (0, 70_000, flat.shape[1] - 1):
        flat[0, place] = 5.0
    flat[2, rng.integers(0, flat.shape[1], 500)] = np.exp(rng.uniform(np.log(2e-3), np.log(1e3), 500))
    [found] = [DetectorHits.of(detector, np.array([1e3, 2e3, 3e3]), showers)]
    planted_library(tmp_path / "other")
    write_library(
        tmp_path, "one", [found, replace(found, detector=box(1))], pdg_id=11, energy_meaning="visible"
    )
    first, second = read_library(tmp_path).read()
    assert first.detector == detector
    assert list(second.energy) == [1e3, 2e3, 3e3]
    read = first.showers()
    assert np.array_equal(read > 0, showers > 0)
    np.testing.assert_allclose(read, showers, rtol=0.031)
    assert np.array_equal(first.showers(slice(2, 3)), read[2:])


def test_damaged_libraries_are_refused(tmp_path):
    library = planted_library(tmp_path)
    [path] = tmp_path.glob("*.safetensors")
    from safetensors.torch import load_file

    good = load_file(path)

    def changed(**changes):
        tensors = {key: value.clone() for key, value in good.items()} | changes
        digest = write_tensors(path.with_name("new"), {k: v for k, v in tensors.items() if v is not None})
        new = path.with_name("new").replace(path.with_name(f"hits-{digest[:12]}.safetensors"))
        size = new.stat().st_size
        card = library.card.model_copy(update={"weights_sha256": digest, "weights_bytes": size})
        return replace(library, card=card).read()

    energy, gap = good["energy"].clone(), good["gap"].clone()
    energy[0] = torch.nan
    for changes, said in (
        ({"energy": energy}, "not positive"),
        ({"energy": None}, "energy is missing"),
        ({"level": good["level"].float()}, "float32"),
        ({"entries": good["entries"] + 1}, "numbers of hits"),
        ({"detector": good["detector"] * 0}, "2 detectors"),
        ({"gap": torch.full_like(gap.int(), 60_000).to(gap.dtype)}, "outside the"),
        ({"gap": torch.zeros_like(gap.int()).to(gap.dtype)}, "outside the"),
    ):
        with pytest.raises(ModelError, match=said):
            changed(**changes)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="its description says"):
        library.read()
    for text in ("[]", "{", json.dumps({"format": "caloforge-library"})):
        (tmp_path / "library.json").write_text(text)
        with pytest.raises(ModelError, match=r"library\.json"):
            read_library(tmp_path)


# ---- mapping


def test_showers_in_the_cells_of_their_own_detector_stay_as_they_are():
    detector, rng = box(), np.random.default_rng(2)
    showers = np.zeros((2, *detector.shower_shape), np.float32)
    showers.reshape(2, -1)[:, rng.integers(0, showers[0].size, 300)] = 1.0
    found, known = summed_into(detector, detector, showers, rng)
    np.testing.assert_array_equal(found, showers)
    assert known.all()


def test_a_ring_is_at_its_distance_in_moliere_radii():
    """All energy is summed, in the cells of the new detector that lie where the old ones are."""
    detector, target = box(), load_detector("par04-siw")
    showers = np.zeros((1, *detector.shower_shape), np.float32)
    # 10.5 cells from the axis, an eighth of a Molière radius each
    showers[0, 20, 32, 42] = showers[0, 20, 42, 32] = showers[0, 5, 21, 31] = 1.0
    found, _ = summed_into(target, detector, showers, np.random.default_rng(3))
    ring = 10.5 / 8 / (target.mesh.cell_r / target.moliere_radius)
    filled = np.nonzero(found[0])[2]
    assert found.sum() >= 3
    assert set(filled) <= {math.floor(ring) - 1, math.floor(ring), math.floor(ring) + 1}


# ---- transport


def test_numbers_of_hits_come_back_from_their_scores():
    rng, cells = np.random.default_rng(4), np.array([1.0, 4.0, 16.0, 400.0])
    mean = cells * rng.uniform(0.02, 0.98, (500, 4))
    dispersion = rng.uniform(1.0, 3.0, mean.shape)
    hits = rng.binomial(cells.astype(int), mean / cells).astype(float)
    uniform = rng.uniform(0.01, 0.99, hits.shape)
    scores = scores_of_hits(hits, uniform, mean, dispersion, cells)
    inside = np.abs(scores) < 4
    assert inside.mean() > 0.99
    found = hits_of_scores(scores, mean, dispersion, cells)
    np.testing.assert_array_equal(found[inside], hits[inside])


def planted_sample(rng, showers, shift, layout, cells):
    """Showers of a detector whose hits have a planted share of the cells and a planted energy."""
    energy = np.exp(rng.uniform(np.log(1e3), np.log(1e5), showers))
    size = layout.layers * layout.radial_bins
    # how far a shower fluctuates is common to all columns
    common = rng.normal(size=(showers, 1))
    share = 1 / (1 + np.exp(-(np.log(energy / 1e4)[:, None] / 4 + shift + 0.2 * common)))
    hits = rng.binomial(cells.astype(int), share).astype(float)
    hit_energy = shift + 0.1 * common + 0.05 * rng.normal(size=(showers, size))
    known = np.ones((showers, size), bool)
    return BinSample(energy, 0.05 * common[:, 0], hit_energy, hits, known, rng.normal(size=(showers, 4)))


def test_transported_showers_have_the_means_of_the_new_detector_and_fluctuate_as_the_others():
    """Planted: detectors differ in the means of hits and energies, which depend on the energy."""
    rng, layout, cells = np.random.default_rng(5), FeatureLayout(4, 2), np.tile([20.0, 60.0], 4)
    boxes = [planted_sample(rng, 40, shift, layout, cells) for shift in (-0.3, -0.2, 0.0, 0.1, 0.3)]
    sample = planted_sample(rng, 100, 0.2, layout, cells)
    # positions half as wide
    sample.position = sample.position / 2
    found = transported(DetectorFamily(boxes, layout, cells), sample, rng)
    truth = planted_sample(rng, 20_000, 0.2, layout, cells)
    assert len(found.energy) == 200
    for low, high in ((1e3, 1e4), (1e4, 1e5)):
        parts = [(one, (one.energy >= low) & (one.energy < high)) for one in (found, truth)]
        hits, energies = (
            [getattr(one, name)[own].mean(0) for one, own in parts] for name in ("hits", "hit_energy")
        )
        np.testing.assert_allclose(hits[0] / cells, hits[1] / cells, atol=0.03)
        np.testing.assert_allclose(*energies, atol=0.03)
    # the common fluctuation is still there: columns of one shower rise together
    rest = found.hit_energy - 0.2
    assert np.corrcoef(rest.T)[np.triu_indices(8, 1)].mean() > 0.6
    assert 0.4 < found.position.std() < 0.6


# ---- what it can be used for


def test_runs_that_a_library_cannot_help_are_refused(tmp_path):
    planted_library(tmp_path)
    for model, said in (
        (model_of(clic(), pdg_ids=(22,)), "particle 11"),
        (model_of(clic(), energy=(1e3, 1e6)), "those of the run 1 GeV to 1 TeV"),
        (model_of(clic(), theta=(1.0, 1.2)), "enter at 90 deg"),
        (model_of(load_detector("crystal-pbwo4")), r"times beyond, expected at most 2 times"),
        (model_of(clic("mesh.cell_x=0.5 mm", "mesh.cell_y=0.5 mm")), "size of a cell in Molière radii"),
        (model_of(load_detector("clic-ecal-25"), "gan3d"), "family gan3d"),
    ):
        with pytest.raises(ModelError, match=said):
            model.start_from_library(tmp_path)
    record, notes = model_of(clic()).start_from_library(tmp_path)
    assert record["model"] == "planted"
    # a little outside: said, with the distance
    assert notes == [
        "radiation lengths of a layer of clic-ecal-25: 0.909, those of its detectors 0.459 to 0.66, "
        "1.4 times beyond; validate the model"
    ]
    for detector in (clic(), load_detector("par04-siw"), load_detector("hgcal-like")):
        assert model_of(detector).start_from_library(library_folder("foundation"))[1] == []


def test_train_from_a_library(tmp_path):
    """Twice the same model; its card says what it started from; its rows hold the library's showers."""
    library = planted_library(tmp_path / "planted")
    small = ("layers.0.repeat=4", "layers.1.repeat=2", "axis_layer=0")
    detector = clic(*small)
    few = tmp_path / "few.h5"
    with ShowerWriter(few, detector, {}) as writer:
        writer.append(few_showers(detector, 60))
    settings = ["model.preset=debug", "training.max_steps=1", "training.range={}"]
    settings += [f"detector.{change}" for change in ("mesh.nx=9", "mesh.ny=9", *small)]
    cards = []
    for out in ("one", "two"):
        caloforge.train(
            "clic-electron-layered",
            data=few,
            out=tmp_path / out,
            from_=tmp_path / "planted",
            set_=settings,
            progress=False,
        )
        cards.append(json.loads((tmp_path / out / "model" / "model.json").read_text()))
    assert cards[0]["weights_sha256"] == cards[1]["weights_sha256"]
    assert cards[0]["started_from"]["weights_sha256"] == library.card.weights_sha256
    # four or more rows of each of 57 showers, and those of the library
    model = caloforge.load_model(tmp_path / "one")
    assert len(model.layer_sampler.resampler.normal_scores) == 256
    assert len(np.unique(model.layer_sampler.resampler.normal_scores.numpy(), axis=0)) > 4 * 57


def test_too_few_showers_are_refused_with_the_number_that_is_needed(tmp_path):
    planted_library(tmp_path)
    model, detector = model_of(clic()), clic()
    model.start_from_library(tmp_path)
    with pytest.raises(TrainingError, match="20 showers to fit to, expected at least 50"):
        model.fit([few_showers(detector, 20)], np.random.default_rng(8))


def test_the_released_library_can_be_read_and_generates_nothing():
    assert released_libraries() == ["foundation"]
    with pytest.raises(ModelError, match="--from foundation"):
        caloforge.load_model("foundation")
    library = read_library(library_folder("foundation"))
    found = library.read()
    assert sum(len(hits.energy) for hits in found) == library.card.showers
    showers = found[0].showers(slice(0, 2))
    assert 0.005 < showers.sum() / found[0].energy[:2].sum() < 0.5

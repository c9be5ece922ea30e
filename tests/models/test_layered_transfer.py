"""Transfer of the learned cells to another detector: by depth, by distance from the axis, by energy."""

import json
import math

import numpy as np
import pytest
import torch

import caloforge
from caloforge.cards.markdown import _training
from caloforge.config import build
from caloforge.errors import ConfigError, ModelError
from caloforge.geometry import load_detector
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.layered.config import LayeredConfig
from caloforge.models.layered.couplings import legendre
from caloforge.models.layered.transfer import Place
from caloforge.models.registry import build_model
from caloforge.models.store import save_model
from caloforge.models.training_metadata import DataFacts, TrainedRange
from caloforge.run import load_run
from caloforge.showers import ShowerWriter
from caloforge.training.preflight import synthetic_showers

CLIC = ("mesh.nx=9", "mesh.ny=9")
RANGES = {"theta": (math.pi / 2,) * 2, "phi": (0.0, 0.0), "pdg_ids": (11,)}


def made(detector="clic-ecal-25", overrides=CLIC, energy=(1e4, 5e5), seed=1, **facts):
    """A model whose learned parameters are random numbers."""
    ranges = TrainedRange(**({"energy": energy, **RANGES} | facts.pop("ranges", {})))
    config = build(LayeredConfig, {"preset": "debug", "family": "layered"}, "model")
    model = build_model(
        config,
        load_detector(detector, overrides),
        DataFacts(ranges=ranges, response_fit=(0.02,), **facts),
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.cell_sampler.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def place(model):
    return Place(model.detector, model.geometry, model.layer_sampler, model.cell_sampler)


def linear(depth):
    return 0.3 - 0.02 * torch.from_numpy(depth).float()


def test_for_the_same_detector_every_parameter_is_taken_over():
    donor, target = made(seed=1), made(seed=2)
    assert target.transfer_from(donor) == []
    wanted, found = (dict(model.cell_sampler.named_parameters()) for model in (donor, target))
    assert len(found) > 12
    for name, parameter in found.items():
        torch.testing.assert_close(parameter, wanted[name], msg=name)
    # what is fitted to the showers is not
    assert not target.layer_sampler.mean.any()


def test_parameters_are_interpolated_in_radiation_lengths():
    """Of a detector whose absorbers are thinner, and of one with fewer layers."""
    donor = made()
    with torch.no_grad():
        donor.cell_sampler.independent.coefficients.copy_(
            linear(place(donor).depths)[:, None].expand_as(donor.cell_sampler.independent.coefficients)
        )
    for change in ("layers.0.slabs.0.thickness=1.7 mm", "layers.0.repeat=11"):
        target = made(overrides=(*CLIC, change))
        target.transfer_from(donor)
        depth = place(target).depths
        wanted = linear(np.clip(depth, place(donor).depths[0], place(donor).depths[-1]))
        assert len(np.unique(depth.round(3))) == len(depth)
        torch.testing.assert_close(target.cell_sampler.independent.coefficients[1, 2, :, 3], wanted)


def test_what_lies_behind_the_last_layer_of_the_donor_is_said():
    target = made(overrides=(*CLIC, "layers.1.repeat=20"))
    [note] = target.transfer_from(made())
    assert "of 37 layers lie deeper than its last one (22.7 radiation lengths)" in note


def test_energies_of_hits_do_not_come_from_bins_of_one_cell():
    """The density of a cell that is alone in its radial bin learns nothing: its energy is that of the bin."""
    donor, target = made(), made("par04-siw", ())
    alone = donor.geometry.symmetry_class[donor.geometry.radial_bin_sizes[donor.geometry.radial_bin] == 1]
    assert len(alone) == 1
    own, first = (model.cell_sampler.independent.coefficients for model in (donor, target))
    rates = first[0].detach().clone()
    with torch.no_grad():
        own.fill_(0.25)
        own[..., alone] = 99.0
    target.transfer_from(donor)
    torch.testing.assert_close(first[1:], torch.full_like(first[1:], 0.25))
    # hits are divided among other cells
    torch.testing.assert_close(first[0], rates)


@pytest.mark.parametrize("detector", ["par04-siw", "par04-scipb"])
def test_kernels_of_other_cells_go_with_the_length_of_a_displacement(detector):
    donor, target = made(), made(detector, ())
    there, here = place(donor), place(target)
    for name in ("teacher", "student"):
        own, new = (getattr(model.cell_sampler, name) for model in (donor, target))
        length = there.kernel_distances()[0]
        with torch.no_grad():
            # a particle density that falls exponentially, times the size of a cell; shifts that fall likewise
            values = np.exp(-2 * length)
            for displacement in np.flatnonzero(own.reach.numpy()[0]):
                where = own.kernel_class[0, displacement]
                own.kernels[0, where] = values[displacement] * there.cell_areas()[0]
                own.kernels[1, where] = values[displacement]
    notes = target.transfer_from(donor)
    assert any("its cells are others: rates, gains and terms" in note for note in notes)
    for new in (target.cell_sampler.teacher, target.cell_sampler.student):
        length = here.kernel_distances()
        inside = new.reach.numpy() & (length < 3 * there.pitch[0]) & (length > 1.1 * there.pitch[0])
        assert inside.sum() > 20
        found = new.kernels[:, new.kernel_class].detach().numpy()
        wanted = np.exp(-2 * length)
        # classes of displacements have one value, and the profile is interpolated
        np.testing.assert_allclose(found[1][inside], wanted[inside], rtol=0.2)
        density = found[0] / here.cell_areas()[:, None]
        np.testing.assert_allclose(density[inside], wanted[inside], rtol=0.2)


def test_radii_and_areas_of_cells_are_those_of_the_mesh():
    model = made("par04-siw", ())
    here, detector = place(model), model.detector
    x, y = detector.mesh.positions()
    np.testing.assert_allclose(
        here.radii_of(model.geometry.ring) * detector.moliere_radius, np.hypot(x, y)[0]
    )
    whole = math.pi * (detector.mesh.half_extent() / detector.moliere_radius) ** 2
    assert here.cell_areas().sum() * detector.mesh.nphi == pytest.approx(whole)


def test_polynomials_of_the_energy_are_those_of_the_same_energy():
    donor, target = made(energy=(1e4, 5e5)), made(energy=(2e4, 2e5), seed=2)
    target.transfer_from(donor)
    energy = torch.tensor([2e4, 5e4, 2e5])
    values = [
        torch.einsum(
            "na,xalc->xnlc",
            legendre(model.layer_sampler.energy_argument(energy)),
            model.cell_sampler.student.offsets,
        )
        for model in (donor, target)
    ]
    torch.testing.assert_close(*values, atol=1e-4, rtol=1e-3)


def test_rates_of_energies_that_the_donor_does_not_know_are_guessed():
    """At a lower energy a layer has fewer hits than the donor has ever seen there."""
    donor, target = made(), made(energy=(1e3, 5e5), seed=2)
    before = {name: value.detach().clone() for name, value in target.cell_sampler.named_parameters()}
    [note] = target.transfer_from(donor)
    assert note.startswith("its energies end before those of the showers: rates")
    own, theirs = (model.cell_sampler for model in (target, donor))
    torch.testing.assert_close(own.teacher.kernels, theirs.teacher.kernels)
    torch.testing.assert_close(own.independent.coefficients[0], before["independent.coefficients"][0])
    torch.testing.assert_close(own.student.offsets, before["student.offsets"])


@pytest.mark.parametrize(
    ("donor", "message"),
    [
        ({"ranges": {"pdg_ids": (22,)}}, r"it makes showers of the particles \[22\].* run are \[11\]"),
        (
            {"energy_meaning": "sampling-fraction corrected"},
            "are sampling-fraction corrected, those of the showers visible",
        ),
    ],
)
def test_donors_that_mean_something_else_are_refused(donor, message):
    with pytest.raises(ModelError, match=message):
        made().transfer_from(made(**donor))


def test_families_without_transfer():
    ranges = TrainedRange(energy=(1e4, 5e5), **RANGES)
    config = build(Gan3dConfig, {"preset": "debug"}, "model")
    network = build_model(
        config, load_detector("clic-ecal-25", CLIC), DataFacts(ranges=ranges, response_fit=(0.02,)), seed=1
    )
    with pytest.raises(ModelError, match="family gan3d, and the run of the family layered"):
        made().transfer_from(network)
    with pytest.raises(ModelError, match="family gan3d cannot start from one of another detector; --start"):
        network.transfer_from(made())


RUN = """
name: t
detector: {preset: clic-ecal-25, mesh: {nx: 7, ny: 7}}
beam: {particle: e-, energy: {kind: flat, min: 10 GeV, max: 100 GeV}}
model: {family: layered, preset: debug, likelihood_steps: 2, matching_steps: 2}
training: {batch_size: 16, epochs: 9, max_steps: 4, checkpoint_steps: 2,
           optimizer: {kind: adam, learning_rate: 0.01}, evaluation: {showers: 20, keep: last}}
"""


def test_the_verb(tmp_path):
    """The card says where the model comes from, also after a resume, which must name the same model."""
    (tmp_path / "run.yaml").write_text(RUN)
    run = load_run(str(tmp_path / "run.yaml"))
    with ShowerWriter(tmp_path / "t.h5", run.detector, {}) as writer:
        writer.append(synthetic_showers(run.detector, run.beam, 80))
    donor = made(overrides=("mesh.nx=5", "mesh.ny=5"))
    save_model(donor, tmp_path / "donor", dict(donor.state_dict()))
    options = {"data": tmp_path / "t.h5", "out": tmp_path / "r", "progress": False}
    with pytest.raises(ConfigError, match="--from what fits another detector; give one"):
        caloforge.train(tmp_path / "run.yaml", start="clic-electron", from_="clic-electron", **options)
    with pytest.raises(ModelError, match="nothing: no such directory"):
        caloforge.train(tmp_path / "run.yaml", from_=tmp_path / "nothing", **options)
    outcome = caloforge.train(tmp_path / "run.yaml", from_=tmp_path / "donor", **options)
    assert "note: " in outcome.text and "its cells are others" in outcome.text
    card = json.loads((tmp_path / "r/model/model.json").read_text())
    digest = json.loads((tmp_path / "donor/model.json").read_text())["weights_sha256"]
    wanted = {"model": "donor", "detector": "clic-ecal-25", "weights_sha256": digest}
    assert card["started_from"] == wanted
    assert f"started from donor of clic-ecal-25 (SHA-256 `{digest[:16]}`)" in _training(card["data"], card)
    options |= {"resume": True, "set_": ["training.max_steps=5", "training.epochs=10"]}
    caloforge.train(tmp_path / "run.yaml", from_=tmp_path / "donor", **options)
    card = json.loads((tmp_path / "r/model/model.json").read_text())
    assert (card["step"], card["started_from"]) == (5, wanted)

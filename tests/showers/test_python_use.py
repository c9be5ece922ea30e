"""Showers in the hands of a Python user: indexing, iteration, what is printed, hits, pictures."""

import re

import numpy as np
import pytest
from small_showers import make_batch

import caloforge
from caloforge import ShowerBatch, ShowerFile
from caloforge.errors import DataError, MissingDependencyError


def test_a_file_is_indexed_like_a_list(shower_file):
    with ShowerFile(shower_file) as file:
        assert len(file) == 20
        whole = file.read()
        for index in (0, 7, -1, -20, np.int64(3)):
            one = file[index]
            assert len(one) == 1
            assert np.array_equal(one.showers[0], whole.showers[index])
        for part in (
            slice(3, 9),
            slice(None),
            slice(None, None, 3),
            slice(15, 99),
            slice(9, 2, -2),
            slice(-4, None),
        ):
            got = file[part]
            assert np.array_equal(got.showers, whole.showers[part])
            assert np.array_equal(got.incident_energy, whole.incident_energy[part])
        assert file[5:5].showers.shape == (0, *file.detector.shower_shape)
        for wrong in (20, -21):
            with pytest.raises(IndexError, match=r"there are 20 \(0 to 19\)"):
                file[wrong]


def test_a_file_is_iterated_in_batches(shower_file):
    with ShowerFile(shower_file) as file:
        parts = list(file)
        assert all(isinstance(part, ShowerBatch) for part in parts)
        assert np.array_equal(ShowerBatch.concatenate(parts).showers, file.read().showers)


def test_what_is_printed(shower_file):
    with ShowerFile(shower_file) as file:
        text, page, batch = repr(file), file._repr_html_(), file.read()
    assert re.search(r"showers\.h5: 20 of .* voxels, .*GeV", text)
    assert page.startswith("<table>")
    assert "20 of" in page
    assert repr(batch).startswith("<ShowerBatch: 20 of")
    assert batch.detector.name in batch._repr_html_()
    # names of people are no markup
    shower_file.rename(shower_file.with_name("a<b>.h5"))
    with ShowerFile(shower_file.with_name("a<b>.h5")) as named:
        assert "<b>" not in named._repr_html_()


def test_a_closed_file_says_so(shower_file):
    file = ShowerFile(shower_file)
    file.close()
    file.close()
    assert "closed" in repr(file)
    assert "closed" in file._repr_html_()
    for use in (file.read, lambda: file[0], lambda: list(file), lambda: file.column("pdg_id")):
        with pytest.raises(DataError, match="was closed; open it again"):
            use()


def test_batches_know_their_detector_while_it_is_one(shower_file, detector):
    with ShowerFile(shower_file) as file:
        first, second = file[:5], file[5:]
        assert first[2].detector is file.detector
    assert ShowerBatch.concatenate([first, second]).detector == detector
    second.detector = None
    assert ShowerBatch.concatenate([first, second]).detector is None


def test_hits_are_all_that_is_above_the_threshold(any_detector):
    batch = make_batch(any_detector, 6)
    batch.showers[2] = 0
    hits = batch.hits(0.01)
    assert hits.count.sum() == len(hits.energy) == len(hits.index)
    assert hits.count[2] == 0
    rebuilt = np.zeros_like(batch.showers)
    rebuilt[(np.repeat(np.arange(6), hits.count), *hits.index.T)] = hits.energy
    assert np.array_equal(rebuilt, np.where(batch.showers > 0.01, batch.showers, 0))


def test_awkward_records(any_detector):
    ak = pytest.importorskip("awkward")
    batch = make_batch(any_detector, 6)
    records = batch.to_awkward()
    assert np.allclose(ak.sum(records.hits.energy, axis=1), batch.visible_energy(), rtol=1e-4)
    assert np.array_equal(ak.to_numpy(records.incident_energy), batch.incident_energy)
    hit = records.hits[0][1]
    place = [hit[name] for name in ak.fields(hit) if name != "energy"]
    assert batch.showers[(0, *place)] == hit.energy


def test_without_awkward_the_command_is_named(detector, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "awkward", None)
    with pytest.raises(MissingDependencyError, match="pip install awkward"):
        make_batch(detector, 2).to_awkward()


# ---- pictures


@pytest.mark.parametrize("what", ["path", "file", "batch", "bare"])
def test_everything_that_holds_showers_is_drawn(shower_file, detector, what, assert_readable):
    with ShowerFile(shower_file) as file:
        given = {"path": shower_file, "file": file, "batch": file.read(), "bare": make_batch(detector, 20)}[
            what
        ]
        extra = {"detector": detector} if what == "bare" else {}
        figures = [
            caloforge.plot.shower(given, -1, **extra),
            caloforge.plot.mean_shower(given, **extra),
            caloforge.plot.profiles(given, **extra),
            caloforge.plot.compare(given, given, ("one", "other"), **extra),
        ]
    for figure in figures:
        assert_readable(figure)
        # what a notebook asks for
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert caloforge.plot.energies(shower_file).axes


def test_detectors_are_drawn_by_name_too(detector):
    assert caloforge.plot.detector(detector).axes
    assert caloforge.plot.detector("clic-ecal-25").axes


def test_pictures_of_what_is_not_there(detector, shower_file):
    batch = make_batch(detector, 3)
    with pytest.raises(DataError, match="give detector="):
        caloforge.plot.shower(batch)
    with pytest.raises(DataError, match="shower 99 was asked for"):
        caloforge.plot.shower(shower_file, 99)
    with pytest.raises(DataError, match="no such file"):
        caloforge.plot.mean_shower("nothing.h5")

"""Several shower files that are read as one, and joined."""

import json
import os

import numpy as np
import pytest
from small_showers import make_batch, make_detector

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.cli import main
from caloforge.errors import DataError, OutputError
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter, joined
from caloforge.showers.dataset import ShowerBatches
from caloforge.showers.file_pattern import is_pattern, joined_path, matching_files
from caloforge.showers.joined_provenance import engine_of, parts_of
from caloforge.showers.joining import join_files
from caloforge.showers.select import read_numbers


def beam_of(low, high):
    document = {"particle": "e-", "energy": {"kind": "flat", "min": f"{low} GeV", "max": f"{high} GeV"}}
    return BeamConfig.model_validate(document)


def facts(seed, **more):
    """Provenance as `simulate` writes it, for electrons of 1 to 100 GeV."""
    beam = beam_of(1, 100).model_dump(mode="json")
    return {"engine": "test", "beam": beam, "seed": seed, "simulation": {"beam": beam, "seed": seed}, **more}


def put(path, batch, provenance, detector=None, meaning="visible", seconds=True):
    detector = detector or make_detector()
    with ShowerWriter(path, detector, provenance, energy_meaning=meaning, with_seconds=seconds) as writer:
        writer.append(batch)
    return path


@pytest.fixture
def three(tmp_path):
    """Three files of 10, 3 and 25 showers, and all their showers in one batch."""
    batches = [make_batch(make_detector(), n, seed=n) for n in (10, 3, 25)]
    for number, batch in enumerate(batches, start=9):
        put(tmp_path / f"train-{number}.h5", batch, facts(number, n=len(batch)))
    return tmp_path / "train-*.h5", ShowerBatch.concatenate(batches)


def same(one, other):
    np.testing.assert_array_equal(one.showers, other.showers)
    np.testing.assert_array_equal(one.incident_energy, other.incident_energy)
    np.testing.assert_array_equal(one.seconds, other.seconds)


def test_the_engines_of_joined_files(three, tmp_path):
    pattern, _ = three
    with ShowerFile(pattern) as files:
        assert engine_of(files.provenance) == "test"
    put(tmp_path / "train-99.h5", make_batch(make_detector(), 5, seed=1), facts(99) | {"engine": "other"})
    with ShowerFile(pattern) as files:
        assert engine_of(files.provenance) == "test, other" and "test, other" in repr(files)
    assert engine_of({}) == "unknown"


def test_impact_points_of_some_of_the_files(three, tmp_path):
    pattern, whole = three
    batch = make_batch(make_detector(), 5, seed=1)
    batch.impact_x[:], batch.impact_y[:] = 1.5, -2
    put(tmp_path / "train-99.h5", batch, facts(99))
    with ShowerFile(pattern) as files:
        assert files.has_impacts and files.knows_impacts
        assert files.column("impact_x").tolist() == len(whole) * [0] + 5 * [1.5]
    join_files(joined_path(pattern), tmp_path / "all.h5")
    with ShowerFile(tmp_path / "all.h5") as file:
        assert file.column("impact_y").tolist() == len(whole) * [0] + 5 * [-2]
    # of an earlier version
    old = facts(100)
    old["beam"]["impact"] = "cell"
    put(tmp_path / "train-100.h5", make_batch(make_detector(), 5, seed=2), old)
    with ShowerFile(pattern) as files:
        assert not files.knows_impacts


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("train-*.h5", ["train-2.h5", "train-10.h5"]),
        ("{train-10,train-2}.h5", ["train-10.h5", "train-2.h5"]),
        ("{other,train-[2-9]}.h5", ["other.h5", "train-2.h5"]),
        ("train-{1{0,1},2}.h5", ["train-10.h5", "train-11.h5", "train-2.h5"]),
    ],
)
def test_patterns_name_files_as_in_a_shell(tmp_path, pattern, names):
    for name in ("train-10.h5", "train-2.h5", "other.h5"):
        (tmp_path / name).touch()
    assert [path.name for path in matching_files(tmp_path / pattern)] == names


def test_names_that_look_like_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = ["a[1].h5", "b{1,2}.h5", "c,d.h5", "*.h5"]
    for name in odd:
        (tmp_path / name).touch()
    assert not any(map(is_pattern, odd))
    whole = joined_path([*odd[:2], tmp_path / odd[2], odd[3]])
    assert [path.name for path in matching_files(whole)] == odd
    assert whole.is_absolute() and is_pattern(whole)
    assert [path.name for path in matching_files(joined_path(odd).absolute())] == odd


def test_files_read_as_one(three):
    pattern, whole = three
    with ShowerFile(pattern) as file:
        assert len(file) == len(whole) and file.paths[0].name == "train-9.h5"
        assert "3 files" in repr(file)
        same(file.read(), whole)
        same(file.read(8, 15), whole[8:15])
        same(file[-2], whole[36:37])
        same(ShowerBatch.concatenate(list(file.iterate(4))), whole)
        same(ShowerBatch.concatenate(list(file.iterate(4, stop=12))), whole[:12])
        np.testing.assert_array_equal(file.column("incident_energy"), whole.incident_energy)
        numbers = np.array([2, 9, 10, 12, 13, 37])
        same(read_numbers(file, numbers), whole[numbers])
        assert file.read(0, 2).detector == file.detector
    assert repr(file).endswith("closed>")
    with pytest.raises(DataError, match="were closed"):
        file.read(0, 1)


def test_more_files_than_are_kept_open(three, monkeypatch):
    monkeypatch.setattr(joined, "MAX_OPEN", 1)
    with ShowerFile(three[0]) as file:
        same(file.read(), three[1])
        assert len(file._files) == 1


def test_an_epoch_holds_every_shower_of_every_file_once_and_mixes_them(three):
    pattern, whole = three
    batches = list(ShowerBatches(pattern, 6, seed=4))
    energies = np.concatenate([batch.incident_energy for batch in batches])
    assert sorted(energies) == sorted(whole.incident_energy)
    origin = np.repeat([0, 1, 2], [10, 3, 25])[np.argsort(whole.incident_energy)]
    first = origin[np.searchsorted(np.sort(whole.incident_energy), energies[:12])]
    assert len(set(first)) > 1
    # as of the one file that they are joined to
    again = list(ShowerBatches([pattern.with_name(f"train-{n}.h5") for n in (9, 10, 11)], 6, seed=4))
    for one, other in zip(batches, again, strict=True):
        same(one, other)


def test_provenance_is_joined(three, tmp_path):
    with ShowerFile(three[0]) as file:
        found = file.provenance
    assert found["engine"] == "test" and found["n"] == 38 and "seed" not in found
    assert [(part["file"], part["showers"], part["seed"]) for part in found["joined"]] == [
        ("train-9.h5", 10, 9),
        ("train-10.h5", 3, 10),
        ("train-11.h5", 25, 11),
    ]
    # what all have in common is there once, and each part can be told in full
    assert found["joined"][0]["simulation"] == {"seed": 9}
    parts = list(parts_of(found))
    assert parts[2]["simulation"] == facts(11)["simulation"] and parts[2]["n"] == 25
    # files joined from joined files name the first ones
    join_files(three[0], tmp_path / "all.h5")
    other = put(tmp_path / "more.h5", make_batch(make_detector(), 4, seed=99), facts(12, n=4))
    with ShowerFile([tmp_path / "all.h5", other]) as file:
        assert [part["seed"] for part in file.provenance["joined"]] == [9, 10, 11, 12]


def test_a_model_covers_the_beams_of_all_files(tmp_path):
    from caloforge.models.training_metadata import declared_beams, facts_of_file

    paths = []
    for seed, (low, high) in enumerate([(1, 10), (10, 100)]):
        beam = beam_of(low, high)
        batch = make_batch(make_detector(), 200, seed)
        batch.incident_energy = sample_conditions(beam, make_detector().mesh, seed, 0, 200).energy
        batch.pdg_id[:] = 11
        document = {"beam": beam.model_dump(mode="json")}
        paths.append(put(tmp_path / f"{seed}.h5", batch, document))
    with ShowerFile(paths) as file:
        assert len(declared_beams(file.provenance)) == 2
    assert facts_of_file(joined_path(paths)).ranges.energy == (1e3, 1e5)


REFUSED = {
    "another detector": (
        lambda folder: put(
            folder / "b.h5", make_batch(make_detector("cylindrical"), 5), {}, make_detector("cylindrical")
        ),
        "b.h5: its detector is small-cylindrical .* only files of one detector",
    ),
    "another meaning": (
        lambda folder: put(
            folder / "b.h5", make_batch(make_detector(), 5), {}, meaning="sampling-fraction corrected"
        ),
        "b.h5: its voxels hold 'sampling-fraction corrected' energy, those of .*a.h5 'visible'",
    ),
    "the same run and seed": (
        lambda folder: put(folder / "b.h5", make_batch(make_detector(), 5, seed=8), facts(1, n=5)),
        "b.h5: showers 0 to 4 of the same run and seed 1 are in .*a.h5",
    ),
    "the same showers": (
        lambda folder: put(folder / "b.h5", make_batch(make_detector(), 10, seed=1), {}),
        "b.h5: holds the same showers as .*a.h5",
    ),
    "the same file": (
        lambda folder: os.link(folder / "a.h5", folder / "b.h5"),
        "b.h5: named twice",
    ),
    "a truncated file": (
        lambda folder: (folder / "b.h5").write_bytes((folder / "a.h5").read_bytes()[:500]),
        "b.h5 is truncated",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_not_read_as_one(tmp_path, case):
    make, message = REFUSED[case]
    put(tmp_path / "a.h5", make_batch(make_detector(), 10, seed=1), facts(1, n=10))
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        ShowerFile(tmp_path / "?.h5")
    with pytest.raises(DataError, match=message):
        join_files(tmp_path / "?.h5", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_pattern_without_files(tmp_path):
    with pytest.raises(DataError, match=r"train-\*.h5: no file matches"):
        ShowerFile(tmp_path / "train-*.h5")
    with pytest.raises(DataError, match="no such file"):
        ShowerFile([tmp_path / "a.h5", tmp_path / "b.h5"])


def test_other_seeds_of_the_same_run_and_selections_are_fine(tmp_path):
    whole = make_batch(make_detector(), 20, seed=1)
    # halves of one campaign: `n` of the campaign says that they are selections
    for name, part in (("a.h5", whole[:10]), ("b.h5", whole[10:])):
        put(tmp_path / name, part, facts(1, n=20))
    put(tmp_path / "c.h5", make_batch(make_detector(), 20, seed=2), facts(2, n=20))
    with ShowerFile(tmp_path / "?.h5") as file:
        assert len(file) == 40


@pytest.fixture
def parts(tmp_path):
    """A campaign of 20 showers in three parts whose names are not in their order."""
    whole = make_batch(make_detector(), 20, seed=1)
    for name, (first, last) in {"b": (0, 7), "c": (7, 14), "a": (14, 20)}.items():
        put(tmp_path / f"part-{name}.h5", whole[first:last], facts(1, n=20, interval=[first, last]))
    return tmp_path / "part-*.h5", whole


def test_parts_of_a_campaign_give_its_file(parts, tmp_path):
    pattern, whole = parts
    join_files(pattern, tmp_path / "joined.h5")
    with ShowerFile(tmp_path / "joined.h5") as file:
        same(file.read(), whole)
        assert {key: file.provenance[key] for key in facts(1)} == facts(1)
        assert "joined" not in file.provenance and file.provenance["n"] == 20
    again = put(tmp_path / "part-d.h5", whole[3:9], facts(1, n=20, interval=[3, 9]))
    with pytest.raises(DataError, match="showers 3 to 6 of the same run and seed 1"):
        join_files(pattern, tmp_path / "twice.h5")
    again.unlink()


def test_parts_are_joined_when_all_are_there(parts, tmp_path):
    pattern, whole = parts
    last = tmp_path / "part-a.h5"
    last.rename(tmp_path / "later")
    waiting = join_files(pattern, tmp_path / "joined.h5", when_complete=True)
    assert waiting.missing == 6 and waiting.total == 20 and not (tmp_path / "joined.h5").exists()
    (tmp_path / "later").rename(last)
    assert not join_files(pattern, tmp_path / "joined.h5", when_complete=True).existed
    before = (tmp_path / "joined.h5").stat()
    assert join_files(pattern, tmp_path / "joined.h5", when_complete=True).existed
    assert (tmp_path / "joined.h5").stat().st_mtime_ns == before.st_mtime_ns
    put(tmp_path / "x.h5", whole[:2], {})
    with pytest.raises(DataError, match="not parts of one campaign"):
        join_files(joined_path([pattern, tmp_path / "x.h5"]), tmp_path / "y.h5", when_complete=True)


def test_the_verb(three, tmp_path, capsys):
    out = tmp_path / "all.h5"
    assert main(["join", str(three[0]), "-o", str(out), "--json", "--no-progress"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "n": 38, "files": 3, "missing": 0}
    with ShowerFile(out) as file:
        same(file.read(), three[1])
    names = [str(three[0].with_name(f"train-{n}.h5")) for n in (9, 10)]
    assert main(["join", *names, "-o", str(out), "--no-progress"]) == 1
    assert "exists" in capsys.readouterr().err
    with pytest.raises(OutputError):
        join_files(joined_path(names), out)
    # the output among the inputs is refused before anything is replaced
    assert main(["join", str(tmp_path / "*.h5"), "-o", str(out), "--force", "--no-progress"]) == 1
    assert "one of the files to join" in capsys.readouterr().err
    assert main(["inspect", *names]) == 0
    assert "train-10.h5" in capsys.readouterr().out


def test_seconds_are_kept_where_all_files_have_them(tmp_path):
    put(tmp_path / "a.h5", make_batch(make_detector(), 5, seed=1), {})
    put(tmp_path / "b.h5", make_batch(make_detector(), 5, seed=2, seconds=False), {}, seconds=False)
    join_files(tmp_path / "?.h5", tmp_path / "out.h5")
    with ShowerFile(tmp_path / "out.h5") as file:
        assert not file.has_seconds and len(file) == 10


def test_several_files_are_recorded_by_their_names(three):
    record = joined.file_record(three[0])
    assert record["file"] == "train-*.h5"
    assert [part["file"] for part in record["files"]] == ["train-9.h5", "train-10.h5", "train-11.h5"]
    named = joined_path([three[0].with_name("train-9.h5"), three[0].with_name("train-10.h5")])
    assert joined.file_record(named)["file"] == "train-9.h5, train-10.h5"

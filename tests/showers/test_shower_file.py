"""The shower file: what goes in comes out, and everything else is refused with the reason."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_showers import make_batch, make_detector, write

from caloforge.errors import DataError, OutputError
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter, compression
from caloforge.showers.hdf5_writer import KeepingStream, NewHdf5

FIELDS = (
    *("showers", "incident_energy", "incident_theta", "incident_phi", "pdg_id", "seconds"),
    *("impact_x", "impact_y"),
)


def assert_equal(left, right):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


# ---- round trip


def test_round_trip(tmp_path, any_detector):
    batches = [make_batch(any_detector, n, seed=n) for n in (7, 1, 30)]
    path = write(tmp_path / "a.h5", any_detector, *batches, energy_meaning="sampling-fraction corrected")
    with ShowerFile(path) as file:
        assert len(file) == 38
        assert file.detector == any_detector
        assert file.energy_meaning == "sampling-fraction corrected"
        assert file.provenance == {"engine": "test", "seed": 7}
        assert file.has_seconds
        assert_equal(file.read(), ShowerBatch.concatenate(batches))
        assert_equal(file.read(5, 9), ShowerBatch.concatenate(batches)[5:9])
        assert len(file.read(30, 99)) == 8


def test_reading_in_order_gives_every_shower_once(tmp_path, detector):
    batch = make_batch(detector, 50)
    path = write(tmp_path / "a.h5", detector, batch)
    with ShowerFile(path) as file:
        parts = list(file.iterate(7))
        assert_equal(ShowerBatch.concatenate(parts), batch)
        assert len(ShowerBatch.concatenate(list(file.iterate(7, stop=20)))) == 20
        np.testing.assert_array_equal(file.column("pdg_id"), batch.pdg_id)


def test_impact_points_are_stored_where_there_are_any(tmp_path, detector, monkeypatch):
    monkeypatch.setattr("caloforge.showers.writer.COLUMN_ROWS", 4)
    centred, off_axis = make_batch(detector, 7), make_batch(detector, 6, seed=1)
    off_axis.impact_x = np.linspace(-2.5, 2.5, 6, dtype=np.float32)
    off_axis.impact_y = off_axis.impact_x[::-1].copy()
    with ShowerFile(write(tmp_path / "centre.h5", detector, centred)) as file:
        assert not file.has_impacts
        assert not file.read().impact_x.any()
        assert file.column("impact_y").tolist() == [0] * 7
    # the first ones were written before there was any
    both = ShowerBatch.concatenate([centred, off_axis])
    with ShowerFile(write(tmp_path / "both.h5", detector, centred, off_axis)) as file:
        assert file.has_impacts
        assert_equal(file.read(), both)
        np.testing.assert_array_equal(file.column("impact_x"), both.impact_x)
        assert "impact" in repr(file) and "impact" not in repr(file[:7])
    with h5py.File(tmp_path / "both.h5") as file:
        assert file["impact_x"].dtype == np.float32 and file["impact_y"].shape == (13,)


def test_impact_points_outside_the_central_cell_are_refused(tmp_path, any_detector):
    batch = make_batch(any_detector, 3)
    batch.impact_y = np.array([0, 2.6, 0], np.float32)
    with pytest.raises(DataError, match=r"shower 1 has impact_y = 2\.6 mm, expected at most (2\.5|0) mm"):
        write(tmp_path / "a.h5", any_detector, batch)
    assert list(tmp_path.iterdir()) == []


def test_any_hdf5_reader_opens_it(shower_file):
    # the layout that docs/reference/shower-file.md promises
    with h5py.File(shower_file) as file:
        assert file.attrs["format"] == "caloforge-showers"
        assert file.attrs["format_version"] == 1
        assert file.attrs["energy_meaning"] == "visible"
        assert json.loads(file.attrs["detector"])["name"] == "small-cartesian"
        assert json.loads(file.attrs["provenance"])["engine"] == "test"
        assert {name: (file[name].shape, file[name].dtype.str) for name in file} == {
            "showers": ((20, 6, 5, 4), "<f4"),
            "incident_energy": ((20,), "<f4"),
            "incident_theta": ((20,), "<f4"),
            "incident_phi": ((20,), "<f4"),
            "pdg_id": ((20,), "<i4"),
            "seconds": ((20,), "<f4"),
        }
        assert file["showers"].compression == "gzip"
        assert file["showers"].chunks[1:] == (6, 5, 4)


def test_a_large_chunk_of_facts_fits(tmp_path, detector):
    # HDF5 limits attributes to 64 kB in its oldest format
    with ShowerWriter(tmp_path / "a.h5", detector, {"note": "x" * 100_000}) as writer:
        writer.append(make_batch(detector, 1))
        writer.update_provenance(showers=1)
    with ShowerFile(tmp_path / "a.h5") as file:
        assert len(file.provenance["note"]) == 100_000
        assert file.provenance["showers"] == 1


def test_text_of_a_fixed_length_is_text(shower_file):
    # as C programs write attributes
    with h5py.File(shower_file, "r+") as file:
        for name in ("format", "detector", "energy_meaning", "provenance"):
            file.attrs[name] = np.bytes_(file.attrs[name])
    with ShowerFile(shower_file) as file:
        assert len(file) == 20


def test_the_shipped_sample(electrons):
    with ShowerFile(electrons) as file:
        assert file.detector.shower_shape == (25, 25, 25)
        assert file.detector.name == "clic-ecal-25"
        assert len(file.read(0, 8)) == 8


# ---- batches


def test_batches_are_cut_and_joined(detector):
    batch = make_batch(detector, 10)
    assert_equal(ShowerBatch.concatenate([batch[:3], batch[3:]]), batch)
    assert_equal(batch[np.arange(10)], batch)
    assert len(batch[batch.incident_energy > 5e4]) == (batch.incident_energy > 5e4).sum()
    assert ShowerBatch.concatenate([batch, make_batch(detector, 2, seconds=False)]).seconds is None


def test_visible_energy_is_the_sum(any_detector):
    batch = make_batch(any_detector, 4)
    np.testing.assert_allclose(batch.visible_energy(), 0.02 * batch.incident_energy, rtol=1e-6)


def test_arrays_of_other_lengths_are_refused(detector):
    batch = make_batch(detector, 4)
    with pytest.raises(ValueError, match="pdg_id: got 3 entries for 4 showers"):
        ShowerBatch(batch.showers, batch.incident_energy, batch.incident_theta, batch.incident_phi, [11] * 3)


# ---- what cannot be read


def change(path, edit):
    with h5py.File(path, "r+") as file:
        edit(file)


def replaced(name, values):
    def edit(file):
        del file[name]
        file[name] = values

    return edit


def set_value(name, index, value):
    def edit(file):
        file[name][index] = value

    return edit


def impacts(**columns):
    def edit(file):
        for name, values in columns.items():
            file[name] = np.float32(values)

    return edit


def linked(file):
    del file["pdg_id"]
    file["pdg_id"] = h5py.ExternalLink("other.h5", "pdg_id")


def external(file):
    del file["pdg_id"]
    file.create_dataset("pdg_id", (20,), np.int32, external=[("raw.bin", 0, 80)])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f.attrs.pop("format"), "not a shower file .format attribute None"),
        (lambda f: f.attrs.__setitem__("format", "other"), "not a shower file .format attribute 'other'"),
        (lambda f: f.attrs.__setitem__("format_version", 99), "format version 99.* newer caloforge"),
        (lambda f: f.attrs.__setitem__("format_version", "new"), "format version new"),
        (lambda f: f.attrs.pop("format_version"), "format version unknown"),
        (lambda f: f.attrs.pop("detector"), "attribute 'detector' is missing"),
        (lambda f: f.attrs.__setitem__("detector", "{"), "detector description cannot be read"),
        (lambda f: f.attrs.__setitem__("detector", 3), "detector description cannot be read"),
        (lambda f: f.attrs.pop("energy_meaning"), "energy_meaning is ''"),
        (lambda f: f.attrs.__setitem__("energy_meaning", "GeV"), "energy_meaning is 'GeV'"),
        (lambda f: f.attrs.__setitem__("provenance", "{"), "'provenance' is no JSON"),
        (lambda f: f.__delitem__("showers"), "data set 'showers' is missing"),
        (lambda f: f.__delitem__("incident_phi"), "data set 'incident_phi' is missing"),
        (replaced("showers", np.zeros((20, 6, 4, 4))), r"shape \(6, 4, 4\), but the detector .*\(6, 5, 4\)"),
        (replaced("showers", np.float32(0)), "'showers' is no data set with a value per shower"),
        (replaced("showers", np.zeros((20, 6, 5, 4), "S3")), "holds |S3, expected numbers"),
        (replaced("showers", np.zeros((0, 6, 5, 4))), "holds no showers"),
        (replaced("pdg_id", np.zeros(19, np.int32)), r"pdg_id has the shape \(19,\), expected \(20,\)"),
        (replaced("seconds", np.zeros((20, 2))), r"seconds has the shape \(20, 2\)"),
        (lambda f: (f.__delitem__("pdg_id"), f.create_group("pdg_id")), "'pdg_id' is no data set"),
        (linked, "data set 'pdg_id' is missing"),
        (impacts(impact_x=np.zeros(20)), "data set 'impact_y' is missing"),
        (impacts(impact_x=np.zeros(20), impact_y=np.zeros(21)), r"impact_y has the shape \(21,\)"),
        (external, "numbers that lie in the file itself"),
    ],
)
def test_foreign_files_say_what_is_wrong(shower_file, edit, message):
    change(shower_file, edit)
    with pytest.raises(DataError, match=message) as caught:
        ShowerFile(shower_file)
    assert str(shower_file) in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_value("showers", (3, 2, 1, 0), np.nan), "shower 3 holds NaN or infinite"),
        (set_value("showers", (3, 2, 1, 0), np.inf), "shower 3 holds NaN or infinite"),
        (set_value("showers", (3, 2, slice(2), 0), [np.inf, -np.inf]), "shower 3 holds NaN or infinite"),
        (set_value("incident_theta", 4, np.nan), "shower 4 holds NaN or infinite"),
        (set_value("incident_energy", 5, 0), "shower 5 has the incident energy 0.0 MeV, expected a positive"),
        (set_value("incident_energy", 5, -3), "shower 5 has the incident energy -3.0 MeV"),
        (set_value("incident_energy", 5, np.nan), "shower 5 has the incident energy nan MeV"),
        (
            impacts(impact_x=np.zeros(20), impact_y=np.eye(20)[6] * -2.6),
            r"shower 6 has impact_y = -2\.6 mm, expected at most 2\.5 mm from the axis, half a cell",
        ),
        (
            impacts(impact_x=[0, 0, np.nan] + 17 * [0], impact_y=np.zeros(20)),
            "shower 2 has impact_x = nan mm",
        ),
    ],
)
def test_values_that_cannot_be(shower_file, edit, message):
    change(shower_file, edit)
    with ShowerFile(shower_file) as file:
        file.read(0, 2)
        with pytest.raises(DataError, match=message):
            file.read()
        with pytest.raises(DataError, match=message):
            file.read(2, 9)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_a_column_of_energies_is_checked(shower_file, value):
    change(shower_file, set_value("incident_energy", 5, value))
    with ShowerFile(shower_file) as file, pytest.raises(DataError, match="incident"):
        file.column("incident_energy")


def test_negative_cells_are_data(shower_file):
    change(shower_file, set_value("showers", (3, 2, 1, 0), -0.5))
    with ShowerFile(shower_file) as file:
        assert file.read().showers.min() == -0.5


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95, 0.999])
def test_a_truncated_file(shower_file, share):
    size = shower_file.stat().st_size
    os.truncate(shower_file, int(share * size))
    with pytest.raises(DataError, match=rf"is truncated \({int(share * size)} bytes\); make it again"):
        ShowerFile(shower_file)


def test_a_damaged_block(shower_file):
    with h5py.File(shower_file) as file:
        place = file["showers"].id.get_chunk_info(0)
    with shower_file.open("r+b") as stream:
        stream.seek(place.byte_offset)
        stream.write(os.urandom(place.size))
    with (
        ShowerFile(shower_file) as file,
        pytest.raises(DataError, match="showers 0-20: damaged, cannot be read"),
    ):
        file.read()


def test_no_file_an_empty_one_a_directory_and_another_kind(tmp_path):
    with pytest.raises(DataError, match=r"none\.h5: no such file"):
        ShowerFile(tmp_path / "none.h5")
    (tmp_path / "half.h5.parts").mkdir()
    with pytest.raises(DataError, match="--resume"):
        ShowerFile(tmp_path / "half.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(DataError, match="is empty"):
        ShowerFile(tmp_path / "empty.h5")
    with pytest.raises(DataError, match="this is a directory"):
        ShowerFile(tmp_path)
    (tmp_path / "text.h5").write_text("energy,shower\n")
    with pytest.raises(DataError, match="no HDF5 file"):
        ShowerFile(tmp_path / "text.h5")


@pytest.mark.parametrize(
    ("names", "hint"),
    [(("incident_energies", "showers"), "--format calochallenge"), (("ECAL", "target"), "--format 3dgan")],
)
def test_files_of_other_projects_name_the_converter(tmp_path, names, hint):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in names:
            file[name] = np.zeros((2, 3))
    with pytest.raises(DataError, match=f"caloforge import {hint}"):
        ShowerFile(tmp_path / "a.h5")


def test_nothing_stays_open_after_a_refusal(shower_file):
    change(shower_file, lambda f: f.attrs.pop("detector"))
    with pytest.raises(DataError):
        ShowerFile(shower_file)
    # HDF5 locks what is open
    with h5py.File(shower_file, "r+"):
        pass


# ---- what cannot be written


def refused(detector, **changes):
    batch = make_batch(detector, 5)
    for name, value in changes.items():
        getattr(batch, name).flat[2] = value
    return batch


@pytest.mark.parametrize(
    "changes",
    [
        {"showers": np.nan},
        {"showers": np.inf},
        {"incident_energy": 0},
        {"incident_energy": -1},
        {"incident_energy": np.nan},
        {"incident_energy": np.inf},
        {"incident_theta": np.nan},
        {"incident_phi": np.inf},
    ],
)
def test_what_nobody_could_read_is_not_written(tmp_path, detector, changes):
    with pytest.raises(DataError, match="refusing to write shower"):
        write(tmp_path / "a.h5", detector, refused(detector, **changes))
    assert list(tmp_path.iterdir()) == []


def test_showers_of_another_detector_are_not_written(tmp_path, detector):
    other = make_batch(make_detector("cylindrical"), 2)
    other.showers = other.showers[..., :3]
    with pytest.raises(DataError, match=r"shape \(6, 5, 3\), the detector small-cartesian has \(6, 5, 4\)"):
        write(tmp_path / "a.h5", detector, other)
    with pytest.raises(DataError, match="seconds"):
        write(tmp_path / "a.h5", detector, make_batch(detector, 2, seconds=False))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_and_kept(shower_file, detector):
    before = shower_file.read_bytes()
    with pytest.raises(OutputError, match="exists already; give --force"):
        ShowerWriter(shower_file, detector, {})
    assert shower_file.read_bytes() == before
    write(shower_file, detector, make_batch(detector, 3), force=True)
    with ShowerFile(shower_file) as file:
        assert len(file) == 3


def test_an_error_while_replacing_keeps_the_old_file(shower_file, detector):
    before = shower_file.read_bytes()
    with pytest.raises(DataError):
        write(shower_file, detector, refused(detector, showers=np.nan), force=True)
    assert shower_file.read_bytes() == before
    assert list(shower_file.parent.iterdir()) == [shower_file]


def test_a_directory_is_no_output(tmp_path, detector):
    with pytest.raises(OutputError, match="this is a directory"):
        ShowerWriter(tmp_path, detector, {}, force=True)


def test_a_full_disk_by_its_error(tmp_path, detector, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    writer = ShowerWriter(tmp_path / "a.h5", detector, {})
    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    with pytest.raises(OutputError, match="the disk is full; free some space"), writer:
        writer.append(make_batch(detector, 2))
    assert list(tmp_path.iterdir()) == []


FULL = """
    import os, sys
    sys.path.insert(0, {tests!r})
    from small_showers import make_batch, make_detector
    from caloforge.errors import OutputError
    from caloforge.showers import ShowerWriter

    detector = make_detector()
    folder = sys.argv[1]
    try:
        with ShowerWriter(folder + "/a.h5", detector, {{}}, with_seconds=True) as writer:
            for seed in range(400):
                writer.append(make_batch(detector, 50, seed))
    except OutputError as error:
        print(error, "left:", os.listdir(folder))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@pytest.mark.parametrize("size", ["12k", "1m"])
def test_a_disk_that_is_really_full(tmp_path, size):
    mount = f"mount -t tmpfs -o size={size} tmpfs {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine does not allow small file systems of one's own")
    script = textwrap.dedent(FULL.format(tests=str(Path(__file__).parent)))
    command = f'{mount} && "$0" -W error -c "$1" {tmp_path}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    # HDF5 must not crash at exit either
    assert (done.returncode, done.stderr) == (0, "")
    assert "the disk is full; free some space" in done.stdout
    assert done.stdout.rstrip().endswith("left: []")


def test_a_file_can_be_abandoned_twice(tmp_path):
    output = NewHdf5(tmp_path / "a.h5")
    output.abandon()
    output.abandon()
    assert list(tmp_path.iterdir()) == []


SLOW = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from small_showers import make_batch, make_detector
    from caloforge.showers import ShowerWriter

    detector = make_detector()
    with ShowerWriter(sys.argv[1], detector, {{}}, with_seconds=True) as writer:
        for seed in range(10**6):
            writer.append(make_batch(detector, 50, seed))
            print(writer.count, flush=True)
"""


def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path, detector):
    path = tmp_path / "a.h5"
    script = textwrap.dedent(SLOW.format(tests=str(Path(__file__).parent)))
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    for _ in range(30):
        assert writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not path.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.h5.")
    assert left.name.endswith(".partial")
    # the next run writes the whole file and takes the rest away
    write(path, detector, make_batch(detector, 3))
    assert list(tmp_path.iterdir()) == [path]


def test_the_size_of_the_pieces_does_not_change_the_file(tmp_path, detector):
    batch = make_batch(detector, 600)
    write(tmp_path / "many.h5", detector, *(batch[i : i + 1] for i in range(len(batch))))
    write(tmp_path / "one.h5", detector, batch)
    with ShowerFile(tmp_path / "many.h5") as many, ShowerFile(tmp_path / "one.h5") as one:
        assert_equal(many.read(), one.read())


# ---- compression


@pytest.mark.parametrize("engine", ["isal", "zlib"])
def test_hdf5_reads_what_is_compressed_past_it(tmp_path, any_detector, monkeypatch, engine):
    if engine == "zlib":
        monkeypatch.setattr(compression, "_isal", None)
    elif compression._isal is None:
        pytest.skip("isal has no wheels for this machine")
    batch = make_batch(any_detector, 2500)
    path = write(tmp_path / "a.h5", any_detector, batch[:1], batch[1:900], batch[900:])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["showers"][:], batch.showers)
        assert file["showers"].id.get_num_chunks() > 1
        assert file["showers"].id.get_storage_size() < 0.8 * batch.showers.nbytes
        assert all(file[name].shape[0] == 2500 for name in file)


def test_threads_write_the_same_file(tmp_path, detector):
    batch, again = make_batch(detector, 5000), make_batch(detector, 5000)
    with ThreadPoolExecutor(2) as pool:
        with ShowerWriter(tmp_path / "a.h5", detector, {}, with_seconds=True, pool=pool) as writer:
            for start in range(0, 5000, 70):
                part = again[start : start + 70]
                writer.append(part)
                # the caller's memory is the caller's
                part.showers[:] = -1
        with ShowerFile(tmp_path / "a.h5") as file:
            assert_equal(file.read(), batch)
        with pytest.raises(DataError):
            write(tmp_path / "b.h5", detector, batch, refused(detector, showers=np.nan), pool=pool)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


def test_real_showers_shrink(tmp_path, electrons):
    with ShowerFile(electrons) as file:
        batch = file.read(0, 64)
        path = write(tmp_path / "a.h5", file.detector, batch, seconds=False)
    with ShowerFile(path) as file:
        np.testing.assert_array_equal(file.read().showers, batch.showers)
    assert path.stat().st_size < 0.25 * batch.showers.nbytes


# ---- the stream that HDF5 writes through


def test_a_stream_keeps_what_the_disk_does_not_take(tmp_path, monkeypatch):
    stream = KeepingStream(tmp_path / "a")
    assert stream.write(b"0123456789") == 10

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        stream.seek(8)
        assert stream.write(memoryview(b"abcd")) == 4
    stream.seek(0, os.SEEK_END)
    assert stream.tell() == 12
    # from now on nothing goes to the disk
    stream.seek(1)
    stream.write(b"X")
    stream.truncate(3)
    stream.seek(0)
    assert stream.read(20) == b"0X234567abcd"
    for check in (stream.check, stream.sync):
        with pytest.raises(OSError, match="No space left"):
            check()
    stream.close()
    stream.close()
    assert (tmp_path / "a").read_bytes() == b"0123456789"
